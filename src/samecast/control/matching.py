"""Values moved to where they belong: DreamMatcher (Nam et al., CVPR 2024, arXiv 2402.09812, section 4).

Replacing keys and values disturbs the structure that the prompt asks for; so the reader keeps its queries and keys, and
takes over only values: those of the source, warped to its own layout by dense semantic matching. Each of its tokens
matches the source token with the most similar descriptor (cosine). A match counts where it is cycle-consistent, that
is, where the way back from it leads near to where it came from, and where the reader shows the subject:

    out = softmax(Q K' / sqrt d) (M V_warped + (1 - M) V)

The paper's descriptors are the outputs of the decoder's second and third block, each on its 256 principal components
common to both pictures, normalised and put side by side; the authors' code takes them of the step before, and resizes
them to each site. Ours are the states that enter the very site at the very step, on their common principal components:
they are there already, for the source too, so that matching costs neither an evaluation nor memory, but they see one
scale only. The consistency limit is theirs: 0.4 times side times the subject's share.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from samecast.core.masks import tokens_of
from samecast.core.routing import Route, Way

_COMPONENTS = 64


def own_and_matched(
    pool: Sequence[Float[Tensor, "token channel"]],
    route: Route,
    rows: Sequence[int],
    keys: Float[Tensor, "reader heads key channel_head"],
    values: Float[Tensor, "reader heads key channel_head"],
) -> tuple[Float[Tensor, "reader heads token channel_head"], Float[Tensor, "reader heads token channel_head"]]:
    """What rows that match attend to: their own keys, and their own values, replaced where a match counts.

    Args:
        pool: what enters the site in each row, which is what matching compares.
        route: who reads whom, and how.
        rows: the readers; all of them match.
        keys: of all that each reads, end to end.
        values: likewise.
    """
    own_keys, own_values, tokens = list[Tensor](), list[Tensor](), len(pool[0])
    for at, row in enumerate(rows):
        way = route.ways[row]
        own = way.own.index(True)
        others = [number for number, mine in enumerate(way.own) if not mine]
        sources = [pool[route.reads[row][number]] for number in others]
        match, error = correspond(pool[row], torch.cat(sources))
        counts = _counting(way, error)
        spans = torch.cat([torch.arange(number * tokens, (number + 1) * tokens) for number in others])
        warped = values[at][:, spans.to(match.device)[match]]
        mine = slice(own * tokens, (own + 1) * tokens)
        own_keys.append(keys[at, :, mine])
        own_values.append(torch.where(counts[:, None], warped, values[at, :, mine]))
    return torch.stack(own_keys), torch.stack(own_values)


def correspond(
    target: Float[Tensor, "token channel"], sources: Float[Tensor, "key channel"]
) -> tuple[Int[Tensor, " token"], Float[Tensor, " token"]]:
    """For each token of a square picture its match, and how far the way there and back leads astray.

    Args:
        target: descriptors of its tokens, row by row.
        sources: descriptors of all tokens that may match.

    Returns:
        The index of the most similar source token; and the distance, in tokens, from the target token to the one that
        is most similar to that match.
    """
    first, second = (torch.nn.functional.normalize(each, dim=1) for each in _principal(target, sources))
    similarity = first @ second.T
    match, back = similarity.argmax(dim=1), similarity.argmax(dim=0)
    side = math.isqrt(len(target))
    places = torch.stack([torch.arange(len(target)) // side, torch.arange(len(target)) % side], dim=1).to(target)
    return match, (places[back[match]] - places).norm(dim=1)


def _principal(
    target: Float[Tensor, "token channel"], sources: Float[Tensor, "key channel"]
) -> tuple[Float[Tensor, "token component"], Float[Tensor, "key component"]]:
    """Both on their common principal components; of few channels all are kept, which leaves angles as they are."""
    states = torch.cat([target, sources])
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    states = states - states.mean(dim=0)
    if states.shape[1] > _COMPONENTS:
        _, axes = torch.linalg.eigh(states.T @ states)
        states = states @ axes[:, -_COMPONENTS:]
    return states[: len(target)], states[len(target) :]


def _counting(way: Way, error: Float[Tensor, " token"]) -> Bool[Tensor, " token"]:
    """Where matches count: on the subject, with an error below `consistency` times side times the subject's share."""
    tokens = len(error)
    subject = tokens_of(way.mask, tokens)
    limit = way.consistency * math.isqrt(tokens) * float(subject.float().mean())
    return subject.to(error.device) & (error < limit)
