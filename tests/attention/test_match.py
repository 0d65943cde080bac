"""Semantic matching against an oracle that shares nothing with it: loops and explicit softmax, in float64."""

import math
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from samecast.attention.modes import Match, Reader, make_mode
from samecast.attention.modes.match import correspond
from samecast.attention.route import Route
from samecast.attention.rule import Rule
from samecast.core.masks import SubjectMask, grid_of
from samecast.errors import SamecastError
from tests.attention.layers import attend

SIDE, CHANNELS, HEADS = 4, 12, 3
TOKENS = SIDE * SIDE
# Both sides are float64; the order of summation differs.
TOLERANCE = 1e-12


def make_layer(channels: int = CHANNELS) -> Attention:
    torch.manual_seed(0)
    return Attention(channels, heads=HEADS, dim_head=channels // HEADS).double().requires_grad_(False)


def states(rows: int, seed: int, channels: int = CHANNELS) -> Tensor:
    return torch.randn(rows, TOKENS, channels, generator=torch.Generator().manual_seed(seed)).double()


def found(target: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
    return correspond(target, sources, grid_of(len(target), 1.0))


def half() -> Tensor:
    mask = torch.zeros(SIDE, SIDE)
    mask[:, : SIDE // 2] = 1
    return mask


def oracle(module: Any, own: Tensor, sources: list[Tensor], mask: Tensor, consistency: float) -> tuple[Tensor, int]:
    """DreamMatcher's equation for one row, and at how many tokens a match counts."""
    everything = torch.cat([own, *sources])
    middle = everything.mean(0)
    descriptors = [row - middle for row in own]
    candidates = [row - middle for source in sources for row in source]

    def similarity(one: Tensor, two: Tensor) -> float:
        return float(one @ two / (one.norm() * two.norm()))

    forth = [max(range(len(candidates)), key=lambda j: similarity(d, candidates[j])) for d in descriptors]
    back = [max(range(TOKENS), key=lambda i: similarity(descriptors[i], c)) for c in candidates]
    share = float(mask.mean())
    value, read = own @ module.to_v.weight.T, torch.cat(sources) @ module.to_v.weight.T
    blended, counting = value.clone(), 0
    for token in range(TOKENS):
        there = back[forth[token]]
        error = math.dist(divmod(token, SIDE), divmod(there, SIDE))
        if mask.flatten()[token] and error < consistency * SIDE * share:
            blended[token] = read[forth[token]]
            counting += 1
    query, key = own @ module.to_q.weight.T, own @ module.to_k.weight.T
    width, parts = own.shape[1] // HEADS, []
    for head in range(HEADS):
        span = slice(head * width, (head + 1) * width)
        weight = (query[:, span] @ key[:, span].T / math.sqrt(width)).exp()
        parts.append(weight / weight.sum(1, keepdim=True) @ blended[:, span])
    return torch.cat(parts, dim=1) @ module.to_out[0].weight.T + module.to_out[0].bias, counting


@pytest.mark.parametrize("references", [1, 2])
@pytest.mark.parametrize("own_first", [True, False])
def test_matched_attention_equals_its_equation(references: int, own_first: bool) -> None:
    module, counted = make_layer(), 0
    for seed in range(30):
        hidden, kept = states(1, seed), states(references, 1000 + seed)
        # Sources that resemble the target somewhat, so that some matches are consistent and some are not.
        kept = kept + 0.8 * hidden[0][torch.randperm(TOKENS, generator=torch.Generator().manual_seed(seed))]
        mask = half() if seed % 2 else torch.ones(SIDE, SIDE)
        others = tuple(range(1, 1 + references))
        reads = (0, *others) if own_first else (*others, 0)
        reader = Reader(Match("given", 0.4), tuple(row == 0 for row in reads), SubjectMask(mask))
        found = attend(module, hidden, kept, Route((reads,), {0: reader}))
        expected, count = oracle(module, hidden[0], list(kept), mask, 0.4)
        assert (found[0] - expected).abs().max() < TOLERANCE
        counted += count
    assert 30 < counted < 30 * TOKENS  # both branches of the equation were taken


def test_a_rearranged_picture_is_matched_token_by_token() -> None:
    target = states(1, 0)[0]
    order = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(1))
    match, error = found(target, target[order])
    assert torch.equal(order[match], torch.arange(TOKENS))
    assert error.max() == 0


def test_the_error_is_the_distance_there_and_back() -> None:
    """Two target tokens with one best match: the way back leads to the nearer of them in angle."""
    directions = torch.eye(4).double()
    target = torch.stack([directions[0], directions[0] + 0.1 * directions[1], directions[2], directions[3]])
    sources = torch.stack([directions[0], directions[2], directions[3]])
    match, error = found(target - target.mean(0), sources - sources.mean(0))
    assert match.tolist() == [0, 0, 1, 2]
    assert error.tolist() == [0, 1, 0, 0]


def test_a_rearranged_picture_of_many_channels_is_matched_too() -> None:
    target, order = states(1, 0, 200)[0], torch.randperm(TOKENS, generator=torch.Generator().manual_seed(1))
    match, error = found(target, target[order])
    assert torch.equal(order[match], torch.arange(TOKENS))
    assert error.max() == 0


def test_principal_components_drop_what_varies_least() -> None:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(400, 64, generator=generator).double() * 3
    faint = torch.randn(800, 10, generator=generator).double() * 0.01
    target = torch.cat([shared, faint[:400]], dim=1)
    sources = torch.cat([shared, faint[400:]], dim=1)
    match, _ = found(target, sources)
    assert torch.equal(match, torch.arange(400))
    alone, _ = found(target[:, :64], sources[:, :64])
    assert torch.equal(match, alone)


def test_without_a_subject_or_with_ones_own_picture_it_is_plain_attention() -> None:
    module, hidden, kept = make_layer(), states(1, 0), states(1, 1)
    plain = attend(module, hidden, kept, Route(((0,),)))
    for memory, mask in ((kept, torch.zeros(SIDE, SIDE)), (hidden, torch.ones(SIDE, SIDE))):
        reader = Reader(Match("given"), (False, True), SubjectMask(mask))
        found = attend(module, hidden, memory, Route(((1, 0),), {0: reader}))
        torch.testing.assert_close(found, plain, rtol=0, atol=TOLERANCE)


def test_a_matching_row_does_not_touch_its_neighbours() -> None:
    module, hidden, kept = make_layer(), states(3, 0), states(1, 1)
    reader = Reader(Match("given", 9.0), (False, True), SubjectMask(torch.ones(SIDE, SIDE)))
    reads = ((3, 0), (3, 1), (3, 2))
    plain, treated = attend(module, hidden, kept, Route(reads)), attend(module, hidden, kept, Route(reads, {1: reader}))
    torch.testing.assert_close(treated[[0, 2]], plain[[0, 2]], rtol=0, atol=TOLERANCE)
    assert (treated[1] - plain[1]).abs().max() > 1e-3


@pytest.mark.parametrize("sources", [("source",), ("self",)])
def test_sources_that_cannot_match_are_refused(sources: Any) -> None:
    with pytest.raises(SamecastError, match="mode match needs 'self' and another source"):
        Rule(sources=sources, mode=Match())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("match", {"consistency": 0.0}, "consistency of mode match must be above 0"),
        ("match", {"consistency": "0.4"}, "consistency of mode match must be a number of 0 or more; got '0.4'"),
        ("match", {"tokens": "all"}, "tokens of mode match must be 'given' or SubjectTokens"),
        ("match", {"weight": 2.0}, "mode match has no weight"),
        ("read", {"consistency": 0.5}, "mode read has no consistency, which would do nothing; it has no fields"),
        ("read", {"tokens": "given"}, "mode read has no tokens"),
        ("subject", {"dropout": 1.5}, "dropout of mode subject must be a number from 0 to 1; got 1.5"),
        ("weigh", {"weight": float("nan")}, "weight of mode weigh must be a number of 0 or more; got nan"),
        ("weigh", {"weight": True}, "weight of mode weigh must be a number of 0 or more; got True"),
        ("glance", {}, "mode must be one of read, separate, subject, weigh, align, match, cast; got 'glance'"),
    ],
)
def test_modes_that_cannot_be_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SamecastError, match=message):
        make_mode(name, settings)
