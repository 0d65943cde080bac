"""Masked, weighted and aligned attention against oracles that share nothing with it: explicit softmax in float64."""

import math

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from samecast.attention.modes import Align, Mode, Reader, Separate, SubjectOnly, Weigh
from samecast.attention.route import Route
from samecast.core.masks import SubjectMask
from tests.attention.layers import attend

TOKENS, CHANNELS, HEADS = 9, 12, 3
# Both sides are float64; the order of summation differs.
TOLERANCE = 1e-12


@pytest.fixture
def module() -> Attention:
    torch.manual_seed(0)
    return Attention(CHANNELS, heads=HEADS, dim_head=CHANNELS // HEADS).double().requires_grad_(False)


def heads(states: Tensor) -> Tensor:
    return states.unflatten(-1, (HEADS, CHANNELS // HEADS)).transpose(-3, -2)


def out(module: Attention, attended: Tensor) -> Tensor:
    return attended.transpose(-3, -2).flatten(-2) @ module.to_out[0].weight.T + module.to_out[0].bias


def project(module: Attention, query: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        heads(query @ module.to_q.weight.T),
        heads(memory @ module.to_k.weight.T),
        heads(memory @ module.to_v.weight.T),
    )


def softmax(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    weight = (query @ key.transpose(-1, -2) / math.sqrt(CHANNELS // HEADS)).exp()
    if allowed is not None:
        weight = weight * allowed
    return weight / weight.sum(-1, keepdim=True) @ value


def mask(values: Tensor) -> SubjectMask:
    return SubjectMask(values.reshape(3, 3).double())


def random_states(rows: int) -> Tensor:
    return torch.randn(rows, TOKENS, CHANNELS).double()


def test_10_000_random_hard_masks_equal_explicit_softmax(module: Attention) -> None:
    rows, rounds = 1000, 10
    for _ in range(rounds):
        hidden, kept = random_states(rows), random_states(1)
        # Shares from nothing to all, so that empty and full masks are among them.
        share = torch.randint(0, TOKENS + 1, (2, rows, 1)) / TOKENS
        target, source = torch.rand(rows, TOKENS) < share[0], torch.rand(rows, TOKENS) < share[1]
        assert (~target.any(1)).any()
        assert source.all(1).any()
        readers = {row: Reader(Separate(), (False,), mask(target[row]), (mask(source[row]),)) for row in range(rows)}
        found = attend(module, hidden, kept, Route(((rows,),) * rows, readers))
        allowed = (target[:, :, None] == source[:, None, :]).double()
        allowed[allowed.sum(-1) == 0] = 1
        expected = out(module, softmax(*project(module, hidden, kept), allowed[:, None]))
        assert (found - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("reads_self", [False, True])
def test_one_masked_call_equals_two_softmaxes_and_a_blend(module: Attention, reads_self: bool) -> None:
    hidden, kept = random_states(1), random_states(1)
    target, source = torch.zeros(TOKENS), torch.zeros(TOKENS)
    target[:4], source[2:7] = 1, 1
    reads, own, masks = ((1,), (False,), (mask(source),))
    keys, key_mask = kept, source
    if reads_self:
        reads, own, masks = (1, 0), (False, True), (mask(source), mask(target))
        keys, key_mask = torch.cat([kept, hidden], dim=1), torch.cat([source, target])
    found = attend(module, hidden, kept, Route((reads,), {0: Reader(Separate(), own, mask(target), masks)}))
    query, key, value = project(module, hidden, keys)
    foreground = softmax(query, key[:, :, key_mask == 1], value[:, :, key_mask == 1])
    background = softmax(query, key[:, :, key_mask == 0], value[:, :, key_mask == 0])
    blend = target[:, None] * foreground + (1 - target[:, None]) * background
    assert (found - out(module, blend)).abs().max() < TOLERANCE


def test_a_full_mask_on_both_sides_is_no_mask(module: Attention) -> None:
    hidden, kept = random_states(2), random_states(1)
    readers = {row: Reader(Separate(), (False,), mask(torch.ones(9)), (mask(torch.ones(9)),)) for row in range(2)}
    masked = attend(module, hidden, kept, Route(((2,), (2,)), readers))
    torch.testing.assert_close(masked, attend(module, hidden, kept, Route(((2,), (2,)))), rtol=0, atol=TOLERANCE)


def test_subject_reads_all_of_its_own_and_the_subjects_of_others(module: Attention) -> None:
    hidden = random_states(2)
    other = torch.zeros(TOKENS)
    other[3:5] = 1
    reader = Reader(SubjectOnly(), (True, False), None, (None, mask(other)))
    found = attend(module, hidden, None, Route(((0, 1), (1,)), {0: reader}))
    memory = torch.cat([hidden[0], hidden[1, 3:5]])
    assert (found[0] - out(module, softmax(*project(module, hidden[0], memory)))).abs().max() < TOLERANCE
    torch.testing.assert_close(found[1:], attend(module, hidden[1:], None, Route(((0,),))), rtol=0, atol=TOLERANCE)


def test_dropout_leaves_out_subject_tokens_and_never_ones_own(module: Attention) -> None:
    hidden = random_states(2)
    readers = {0: Reader(SubjectOnly(dropout=1.0), (True, False), None, (None, mask(torch.ones(9))), (0, 1))}
    found = attend(module, hidden, None, Route(((0, 1), (1,)), readers))
    torch.testing.assert_close(found, attend(module, hidden, None, Route(((0,), (1,)))), rtol=0, atol=TOLERANCE)


def test_weights_multiply_keys_and_values(module: Attention) -> None:
    hidden, kept = random_states(1), random_states(2)
    first, second = torch.zeros(TOKENS), torch.zeros(TOKENS)
    first[:4], second[5:] = 1, 1
    reader = Reader(Weigh(weight=3.0), (True, False, False), None, (None, mask(first), mask(second)))
    found = attend(module, hidden, kept, Route(((0, 1, 2),), {0: reader}))
    query, key, value = project(module, hidden[0], torch.cat([hidden[0], *kept]))
    weight = torch.cat([torch.ones(TOKENS), 3 * first, 3 * second]).double()[:, None]
    assert (found[0] - out(module, softmax(query, weight * key, weight * value))).abs().max() < TOLERANCE


def test_align_gives_queries_and_own_keys_the_sources_moments(module: Attention) -> None:
    hidden, kept = random_states(1), 2 * random_states(1) + 1
    found = attend(module, hidden, kept, Route(((1, 0),), {0: Reader(Align(), (False, True))}))
    query, key, value = project(module, hidden[0], hidden[0])
    style_query, style_key, style_value = project(module, kept[0], kept[0])

    def adain(states: Tensor, style: Tensor) -> Tensor:
        rescaled = (states - states.mean(1, keepdim=True)) / (states.var(1, keepdim=True) + 1e-5).sqrt()
        return rescaled * (style.var(1, keepdim=True) + 1e-5).sqrt() + style.mean(1, keepdim=True)

    expected = softmax(
        adain(query, style_query),
        torch.cat([style_key, adain(key, style_key)], dim=1),
        torch.cat([style_value, value], dim=1),
    )
    assert (found[0] - out(module, expected)).abs().max() < TOLERANCE


def test_align_with_oneself_is_plain(module: Attention) -> None:
    hidden = random_states(1)
    found = attend(module, hidden, None, Route(((0,),), {0: Reader(Align(), (True,))}))
    torch.testing.assert_close(found, attend(module, hidden, None, Route(((0,),))), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mode", [Separate(), SubjectOnly(), Weigh(weight=2.5), Align()])
def test_a_rows_mode_does_not_touch_its_neighbours(module: Attention, mode: Mode) -> None:
    hidden, kept = random_states(3), random_states(1)
    half = mask((torch.arange(TOKENS) < 4).float())
    reader = Reader(mode, (False, True), half, (half, half))
    reads = ((3, 0), (3, 1), (3, 2))
    plain = attend(module, hidden, kept, Route(reads))
    treated = attend(module, hidden, kept, Route(reads, {1: reader}))
    torch.testing.assert_close(treated[[0, 2]], plain[[0, 2]], rtol=0, atol=TOLERANCE)
    assert (treated[1] - plain[1]).abs().max() > 1e-3
