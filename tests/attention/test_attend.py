"""Routed attention against an oracle that shares nothing with it: explicit softmax, row by row, in float64."""

import math
import random

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from samecast.attention.route import Route
from tests.attention.layers import attend

ROWS, KEPT, TOKENS, CHANNELS, HEADS = 5, 2, 9, 12, 3
# Both sides are float64; the order of summation differs.
TOLERANCE = 1e-12


@pytest.fixture
def module() -> Attention:
    torch.manual_seed(0)
    return Attention(CHANNELS, heads=HEADS, dim_head=CHANNELS // HEADS).double().requires_grad_(False)


def oracle(module: Attention, hidden: Tensor, kept: Tensor, reads: tuple[tuple[int, ...], ...]) -> Tensor:
    pool = torch.cat([hidden, kept])
    width = CHANNELS // HEADS
    outputs = []
    for row, sources in enumerate(reads):
        query = hidden[row] @ module.to_q.weight.T
        memory = torch.cat([pool[source] for source in sources])
        key, value = memory @ module.to_k.weight.T, memory @ module.to_v.weight.T
        heads = []
        for head in range(HEADS):
            columns = slice(head * width, (head + 1) * width)
            weights = (query[:, columns] @ key[:, columns].T / math.sqrt(width)).exp()
            heads.append(weights / weights.sum(dim=1, keepdim=True) @ value[:, columns])
        outputs.append(torch.cat(heads, dim=1) @ module.to_out[0].weight.T + module.to_out[0].bias)
    return torch.stack(outputs)


def random_states() -> tuple[Tensor, Tensor]:
    return torch.randn(ROWS, TOKENS, CHANNELS).double(), torch.randn(KEPT, TOKENS, CHANNELS).double()


@pytest.mark.parametrize(
    "reads",
    [
        ((0,), (1,), (2,), (3,), (4,)),
        ((5,), (5,), (6,), (6,), (4,)),
        ((5,), (5,), (5,), (5,), (5,)),
        ((5, 0), (5, 1), (6, 2), (6, 3), (4,)),
        ((0, 1, 2, 3, 4, 5, 6), (1,), (2, 1), (6, 5), (4, 3)),
    ],
    ids=["plain", "source", "one source for all", "union", "mixed lengths"],
)
def test_routed_attention_equals_explicit_softmax(module: Attention, reads: tuple[tuple[int, ...], ...]) -> None:
    hidden, kept = random_states()
    difference = attend(module, hidden, kept, Route(reads)) - oracle(module, hidden, kept, reads)
    assert difference.abs().max() < TOLERANCE


def test_random_routes_equal_explicit_softmax(module: Attention) -> None:
    chance = random.Random(0)
    for _ in range(100):
        hidden, kept = random_states()
        pool = range(ROWS + KEPT)
        reads = tuple(tuple(chance.sample(pool, chance.randint(1, len(pool)))) for _ in range(ROWS))
        difference = attend(module, hidden, kept, Route(reads)) - oracle(module, hidden, kept, reads)
        assert difference.abs().max() < TOLERANCE


def test_plain_route_equals_diffusers_own_processor(module: Attention) -> None:
    hidden, _ = random_states()
    plain = Route(tuple((row,) for row in range(ROWS)))
    torch.testing.assert_close(attend(module, hidden, None, plain), module(hidden), rtol=0, atol=TOLERANCE)


def test_the_order_of_sources_does_not_matter(module: Attention) -> None:
    hidden, kept = random_states()
    one = attend(module, hidden, kept, Route(((5, 0),) * ROWS))
    other = attend(module, hidden, kept, Route(((0, 5),) * ROWS))
    torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE)
