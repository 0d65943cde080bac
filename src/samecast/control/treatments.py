"""What is done to queries, keys and values of rows that do not simply read: masks, weights, alignment.

Each function takes one group of readers that read equally many rows; tokens of what a reader reads lie end to end.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from samecast.core.masks import dropped, open_empty, separate
from samecast.core.routing import Way

_EPSILON = 1e-5  # as instance normalisation has it
_RESTRICTED = ("separate", "subject", "match")


def allowed_keys(ways: Sequence[Way | None], tokens: int, sources: int) -> Bool[Tensor, "reader 1 query key"] | None:
    """Which keys each query may read; None where every query may read all.

    Args:
        ways: of each reader; None reads plainly.
        tokens: of one row.
        sources: how many rows each reader reads.
    """
    if not any(way is not None and way.mode in _RESTRICTED for way in ways):
        return None
    everything = torch.ones(tokens, dtype=torch.bool)
    queries = torch.stack([everything if way is None or way.mask is None else way.mask.tokens(tokens) for way in ways])
    # Both guidance groups of a target share one way.
    readable = {id(way): _readable(way, tokens, sources) for way in ways}
    keys = torch.stack([readable[id(way)] for way in ways])
    separated = torch.tensor([way is not None and way.mode == "separate" for way in ways])[:, None, None]
    return torch.where(separated, separate(queries, keys), open_empty(keys[:, None].expand(-1, tokens, -1)))[:, None]


def _readable(way: Way | None, tokens: int, sources: int) -> Bool[Tensor, " key"]:
    """Under `separate` where the subject is in what is read; otherwise what may be read."""
    if way is None or way.mode not in _RESTRICTED:
        return torch.ones(tokens * sources, dtype=torch.bool)
    if way.mode == "match":
        return torch.tensor(way.own).repeat_interleave(tokens)
    parts = [_tokens_of(way, at, tokens) for at in range(sources)]
    if way.mode == "subject":
        for at, own in enumerate(way.own):
            if own:
                parts[at] = torch.ones(tokens, dtype=torch.bool)
            elif way.dropout:
                parts[at] = parts[at] & ~dropped(tokens, way.dropout, way.seeds[at])
    return torch.cat(parts)


def _tokens_of(way: Way, at: int, tokens: int) -> Bool[Tensor, " token"]:
    mask = way.masks[at] if way.masks else None
    return torch.ones(tokens, dtype=torch.bool) if mask is None else mask.tokens(tokens)


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
                part = way.weight * _tokens_of(way, at, tokens).to(table)
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
