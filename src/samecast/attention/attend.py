"""Routed attention: what takes the place of one call of scaled dot-product attention.

Mutual self-attention (MasaCtrl, arXiv 2304.08465, equation 5) along any route: queries are each row's own; keys and
values are those of the rows it reads, of the batch or kept from an earlier evaluation.

In joint attention, where picture and prompt are one sequence, the route is about the picture: its queries read the
pictures of other rows, and its own row's prompt as ever; the prompt's queries are left alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Joint:
    """The whole sequence of a call of joint attention, of which the picture is a part.

    Args:
        query: of all tokens, (row, heads, token, channel); likewise the rest.
        key: of all tokens.
        value: of all tokens.
        image: where the picture is.
        mask: which keys may be read, (row, 1, 1, token); None is all.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    image: slice
    mask: Tensor | None = None

    def of(self, rows: list[int]) -> "Joint":
        """The sequences of some rows."""
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[rows]
        return Joint(self.query[rows], self.key[rows], self.value[rows], self.image, mask)

    def beside(self, states: Tensor) -> Tensor:
        """What is not of the picture, of anything along the last but one axis."""
        return torch.cat([states[..., : self.image.start, :], states[..., self.image.stop :, :]], dim=-2)

    @property
    def allowed_beside(self) -> Tensor | None:
        """Which of the keys beside the picture may be read, (row, 1, 1, token); None is all."""
        return None if self.mask is None else self.beside(self.mask.mT).mT

    def plain(self, attention: Attention) -> Tensor:
        """Attention as it is."""
        return attention(self.query, self.key, self.value, attn_mask=self.mask)

    def around(self, image: Tensor, attention: Attention) -> Tensor:
        """The output of the whole sequence, given that of the picture: the rest attends as it is."""
        rest = attention(self.beside(self.query), self.key, self.value, attn_mask=self.mask)
        return torch.cat([rest[:, :, : self.image.start], image, rest[:, :, self.image.start :]], dim=2)


def attend(
    batch: States, kept: States, route: Route, attention: Attention, joint: Joint | None = None
) -> Float[Tensor, "row heads token channel"]:
    """The output of one call of attention, routed.

    Args:
        batch: queries, keys and values of the batch; `hidden` too, where a mode of the route keeps it. In joint
            attention, of the picture alone.
        kept: what modes keep of rows evaluated earlier; they follow the batch rows in the pool.
        route: the pool rows that each batch row reads, and how.
        attention: scaled dot-product attention, as the layer calls it.
        joint: the whole sequence, where the picture is a part of it.
    """
    query = batch["query"] if joint is None else joint.query
    output: Tensor | None = None
    for group in route.groups:
        whole = len(group.rows) == len(query)  # in order, then: no need to copy
        part = joint if joint is None or whole else joint.of(list(group.rows))
        attended = _attend_group(batch, kept, route, group, attention, part, whole=whole)
        if whole:
            return attended
        output = torch.empty_like(query) if output is None else output
        output[list(group.rows)] = attended
    assert output is not None  # a batch has rows
    return output


def _attend_group(
    batch: States,
    kept: States,
    route: Route,
    group: Group,
    attention: Attention,
    joint: Joint | None,
    *,
    whole: bool,
) -> Float[Tensor, "reader heads token channel"]:
    rows = list(group.rows)
    query = batch["query"] if whole else batch["query"][rows]
    if group.mode.is_plain and all(sources == (row,) for row, sources in zip(rows, group.sources, strict=True)):
        if joint is not None:
            return joint.plain(attention)
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
    if joint is None:
        output = attention(reading.query, reading.key, reading.value, attn_mask=reading.allowed)
        return group.mode.finish(reading, output)
    key, value = (
        torch.cat([read, joint.beside(own)], dim=2)
        for read, own in ((reading.key, joint.key), (reading.value, joint.value))
    )
    allowed = _side_by_side(reading.allowed, joint.allowed_beside, reading.key.shape[2], key)
    output = group.mode.finish(reading, attention(reading.query, key, value, attn_mask=allowed))
    return joint.around(output, attention)


def _side_by_side(read: Tensor | None, beside: Tensor | None, first: int, key: Tensor) -> Tensor | None:
    """One table of what may be read, of one for the first keys and one for the rest; None is all."""
    if read is None and beside is None:
        return None
    everything = torch.ones(1, 1, 1, key.shape[2], dtype=torch.bool, device=key.device)
    read = everything[..., :first] if read is None else read
    beside = everything[..., first:] if beside is None else beside
    shape = torch.broadcast_shapes(read.shape[:3], beside.shape[:3])
    return torch.cat([part.expand(*shape, -1) for part in (read, beside)], dim=-1)


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
