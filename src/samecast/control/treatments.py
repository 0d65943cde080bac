"""What is done to queries, keys and values of rows that do not simply read: masks, weights, alignment.

Each function takes one group of readers that read equally many rows; tokens of what a reader reads lie end to end.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from samecast.core.masks import dropped, open_empty, separate, tokens_of
from samecast.core.routing import Way

_EPSILON = 1e-5  # as instance normalisation has it
_RESTRICTED = ("separate", "subject")


def allowed_keys(
    ways: Sequence[Way | None], tokens: int, sources: int, device: torch.device
) -> Bool[Tensor, "_ 1 _ key"] | None:
    """Which keys each query may read, as (reader, 1, query, key); None where every query may read all.

    Where all readers, or all queries, may read the same, there is one of them, to be broadcast. Both guidance groups of
    a target share a way, whose table is made once.

    Args:
        ways: of each reader; None reads plainly.
        tokens: of one row.
        sources: how many rows each reader reads.
        device: where it is wanted.
    """
    if not any(way is not None and way.mode in _RESTRICTED for way in ways):
        return None
    distinct = {id(way): way for way in ways}
    tables = {name: _allowed(way, tokens, sources, device) for name, way in distinct.items()}
    if len(tables) == 1:
        return next(iter(tables.values()))[None, None]
    queries = max(len(table) for table in tables.values())
    return torch.stack([tables[id(way)].expand(queries, -1) for way in ways])[:, None]


def _allowed(way: Way | None, tokens: int, sources: int, device: torch.device) -> Bool[Tensor, "_ key"]:
    """A reader's table; of one row, where it is the same for all queries."""
    if way is None or way.mode not in _RESTRICTED:
        return torch.ones(1, tokens * sources, dtype=torch.bool, device=device)
    parts = [_source_tokens(way, at, tokens) for at in range(sources)]
    if way.mode == "subject":
        for at, own in enumerate(way.own):
            if own:
                parts[at] = torch.ones(tokens, dtype=torch.bool)
            elif way.dropout:
                parts[at] = parts[at] & ~dropped(tokens, way.dropout, way.seeds[at])
        return open_empty(torch.cat(parts)[None]).to(device)
    return separate(tokens_of(way.mask, tokens).to(device), torch.cat(parts).to(device))


def _source_tokens(way: Way, at: int, tokens: int) -> Bool[Tensor, " token"]:
    return tokens_of(way.masks[at] if way.masks else None, tokens)


def weights(
    ways: Sequence[Way | None], tokens: int, sources: int, like: Tensor
) -> Float[Tensor, "reader 1 key 1"] | None:
    """What multiplies each reader's keys and values (FreeCustom, arXiv 2405.13870, section 3.3); None where nothing.

    One's own tokens have weight 1, a source's its weight within the subject and 0 outside: the keys outside remain,
    with a logit of zero and nothing to give, as in the paper.
    """
    if not any(way is not None and way.mode == "weigh" for way in ways):
        return None
    table = torch.ones(len(ways), sources * tokens, dtype=like.dtype, device=like.device)
    for row, way in enumerate(ways):
        if way is None or way.mode != "weigh":
            continue
        for at, own in enumerate(way.own):
            if not own:
                part = way.weight * _source_tokens(way, at, tokens).to(table)
                table[row, at * tokens : (at + 1) * tokens] = part
    return table[:, None, :, None]


def align(
    states: Float[Tensor, "heads token channel"], style: Float[Tensor, "heads token channel"]
) -> Float[Tensor, "heads token channel"]:
    """AdaIN over tokens (StyleAligned, arXiv 2312.02133, equation 3): `states` with mean and deviation of `style`."""
    mean, deviation = _moments(states)
    style_mean, style_deviation = _moments(style)
    return (states - mean) / deviation * style_deviation + style_mean


def _moments(states: Float[Tensor, "heads token channel"]) -> tuple[Tensor, Tensor]:
    variance = states.var(dim=1, keepdim=True)
    return states.mean(dim=1, keepdim=True), (variance + _EPSILON).sqrt()
