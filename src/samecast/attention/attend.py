"""Routed attention: what takes the place of one call of scaled dot-product attention.

Mutual self-attention (MasaCtrl, arXiv 2304.08465, equation 5) along any route: queries are each row's own; keys and
values are those of the rows it reads, of the batch or kept from an earlier evaluation.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from samecast.attention.modes import Reading
from samecast.attention.modes.base import Part
from samecast.attention.route import Group, Route

States = Mapping[Part, Tensor]
"""Parts of rows at one layer: queries, keys and values as (row, heads, token, channel), `hidden` as (row, token,
channel)."""

Attention = Callable[..., Tensor]
"""Called with (query, key, value, attn_mask=...)."""


def attend(batch: States, kept: States, route: Route, attention: Attention) -> Float[Tensor, "row heads token channel"]:
    """The output of one call of attention, routed.

    Args:
        batch: queries, keys and values of the batch; `hidden` too, where a mode of the route keeps it.
        kept: what modes keep of rows evaluated earlier; they follow the batch rows in the pool.
        route: the pool rows that each batch row reads, and how.
        attention: scaled dot-product attention, as the layer calls it.
    """
    query = batch["query"]
    output: Tensor | None = None
    for group in route.groups:
        whole = len(group.rows) == len(query)  # in order, then: no need to copy
        attended = _attend_group(batch, kept, route, group, attention, whole=whole)
        if whole:
            return attended
        output = torch.empty_like(query) if output is None else output
        output[list(group.rows)] = attended
    assert output is not None  # a batch has rows
    return output


def _attend_group(
    batch: States, kept: States, route: Route, group: Group, attention: Attention, *, whole: bool
) -> Float[Tensor, "reader heads token channel"]:
    rows = list(group.rows)
    query = batch["query"] if whole else batch["query"][rows]
    if group.mode.is_plain and all(sources == (row,) for row, sources in zip(rows, group.sources, strict=True)):
        key, value = (batch[part] if whole else batch[part][rows] for part in ("key", "value"))
        return attention(query, key, value, attn_mask=None)
    key, value = (_join(batch[part], kept.get(part), group.sources) for part in ("key", "value"))
    reading = Reading(query, key, value, [route.reader(row) for row in rows])
    beside = group.mode.reads_besides
    if beside:
        reading.own = [{part: batch[part][row] for part in beside} for row in rows]
        reading.pool = [
            [{part: _row(batch[part], kept.get(part), source) for part in beside} for source in sources]
            for sources in group.sources
        ]
    group.mode.change(reading)
    output = attention(reading.query, reading.key, reading.value, attn_mask=reading.allowed)
    return group.mode.finish(reading, output)


def _row(batch: Tensor, kept: Tensor | None, source: int) -> Tensor:
    if source < len(batch):
        return batch[source]
    assert kept is not None  # the route was made for these kept rows
    return kept[source - len(batch)]


def _end_to_end(rows: Sequence[Float[Tensor, "heads token channel"]]) -> Float[Tensor, "heads key channel"]:
    return rows[0] if len(rows) == 1 else torch.cat(list(rows), dim=1)


def _join(
    batch: Float[Tensor, "row heads token channel"],
    kept: Float[Tensor, "kept heads token channel"] | None,
    sources: Sequence[tuple[int, ...]],
) -> Float[Tensor, "reader heads key channel"]:
    """For each reader, the tokens of all that it reads, end to end."""
    memories = {each: _end_to_end([_row(batch, kept, at) for at in each]) for each in dict.fromkeys(sources)}
    if len(memories) == 1:  # everybody reads the same: one copy, seen by all
        return rearrange(memories[sources[0]], "heads key channel -> 1 heads key channel").expand(
            len(sources), -1, -1, -1
        )
    return torch.stack([memories[source] for source in sources])
