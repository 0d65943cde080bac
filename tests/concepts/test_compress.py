"""Compression loses what it says, and no other matrices of that rank would lose less."""

from typing import Any

import pytest
import torch
from torch import Tensor

from samecast import SamecastError
from samecast.concepts.compress import compress, materialise
from samecast.concepts.concept import Concept, LowRank, Value
from samecast.concepts.places import cross_attention_parameters
from tests.concepts.makers import make_concept, make_lora


def deltas(pipeline: Any, concept: Concept) -> dict[str, torch.Tensor]:
    base = dict(cross_attention_parameters(pipeline, "crossattn"))
    return {
        name: change.value - base[name].detach() if isinstance(change, Value) else change.difference(base[name].shape)
        for name, change in concept.changes.items()
    }


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.9])
def test_the_stated_error_is_the_error(sd: Any, keep: float) -> None:
    concept = make_concept(sd)
    small, report = compress(concept, sd, keep=keep)
    before, after = deltas(sd, concept), deltas(sd, small)
    lost = sum(float((before[name] - after[name]).square().sum()) for name in before)
    total = sum(float(delta.square().sum()) for delta in before.values())
    assert report.error == pytest.approx((lost / total) ** 0.5, rel=1e-4)
    for layer in report.layers:
        own = (before[layer.name] - after[layer.name]).norm() / before[layer.name].norm()
        assert layer.error == pytest.approx(float(own), rel=1e-3)
    assert report.worst.error == max(layer.error for layer in report.layers)
    assert (report.bytes_before, report.bytes_after) == (concept.size, small.size)


def papers_rank(values: Tensor, share: float) -> int:
    """As the authors' code counts (compress.py): up to the value with which the sum is more than the share."""
    explained = 0.0
    for number, value in enumerate(values):
        explained += float(value / values.sum())
        if explained > share:
            return number
    return len(values)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
def test_as_many_singular_values_are_kept_as_the_authors_keep(pipeline: Any, keep: float) -> None:
    concept = make_concept(pipeline)
    _, report = compress(concept, pipeline, keep=keep)
    before = deltas(pipeline, concept)
    for layer in report.layers:
        values = torch.linalg.svdvals(before[layer.name].double())
        assert layer.rank == papers_rank(values, keep)
        assert values[: layer.rank].sum() <= keep * values.sum() < values[: layer.rank + 1].sum()


def test_a_first_singular_value_larger_than_the_share_leaves_nothing(sd: Any) -> None:
    torch.manual_seed(0)
    changes = dict(make_concept(sd).changes)
    name, base = next(iter(cross_attention_parameters(sd)))
    changes[name] = Value(base.detach() + 0.1 * torch.randn(base.shape[0], 1) @ torch.randn(1, base.shape[1]))
    small, report = compress(Concept(changes=changes), sd, keep=0.6)
    layer = next(layer for layer in report.layers if layer.name == name)
    assert (layer.rank, layer.error) == (0, 1.0)
    assert isinstance(change := small.changes[name], LowRank)
    assert change.rank == 0
    with pytest.raises(SamecastError, match=r"with a share of 0\.6 nothing is kept"):
        compress(Concept(changes={name: changes[name]}), sd, keep=0.6)


def test_with_all_singular_values_nothing_is_lost(pipeline: Any) -> None:
    concept = make_concept(pipeline)
    small, report = compress(concept, pipeline, keep=1.0)
    assert report.error == 0
    whole = materialise(small, pipeline)
    for name, change in concept.changes.items():
        torch.testing.assert_close(whole.changes[name].value, change.value, rtol=1e-5, atol=1e-6)
    assert small.tokens == concept.tokens


def test_a_change_that_is_of_low_rank_is_found_to_be(sd: Any) -> None:
    torch.manual_seed(0)
    changes = {
        name: Value(parameter.detach() + 0.1 * torch.randn(parameter.shape[0], 2) @ torch.randn(2, parameter.shape[1]))
        for name, parameter in cross_attention_parameters(sd)
    }
    small, report = compress(Concept(changes=changes), sd, keep=0.9999)
    assert {layer.rank for layer in report.layers} <= {1, 2}
    assert small.size < Concept(changes=changes).size / 3


def test_what_is_of_low_rank_and_biases_stay(sd: Any) -> None:
    concept = make_concept(sd, mode="crossattn")
    lora = {name: change for name, change in make_lora(sd).changes.items() if name not in concept.changes}
    small, _ = compress(Concept(changes={**concept.changes, **lora}), sd)
    assert all(small.changes[name] is change for name, change in lora.items())
    assert all(isinstance(change, LowRank) != name.endswith("bias") for name, change in small.changes.items())


def test_an_unchanged_layer_is_of_rank_0(sd: Any) -> None:
    changes = dict(make_concept(sd).changes)
    name, base = next(iter(cross_attention_parameters(sd)))
    changes[name] = Value(base.detach().clone())
    small, report = compress(Concept(changes=changes), sd)
    assert isinstance(change := small.changes[name], LowRank)
    assert change.rank == 0
    assert next(layer for layer in report.layers if layer.name == name).rank == 0


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_is_between_nothing_and_all(sd: Any, keep: float) -> None:
    with pytest.raises(SamecastError, match="above 0 and at most 1"):
        compress(make_concept(sd), sd, keep=keep)


def test_there_must_be_something_to_compress(sd: Any, xl: Any) -> None:
    with pytest.raises(SamecastError, match="no whole weights"):
        compress(make_lora(sd), sd)
    same = {name: Value(parameter.detach().clone()) for name, parameter in cross_attention_parameters(sd)}
    with pytest.raises(SamecastError, match="nothing to compress"):
        compress(Concept(changes=same), sd)
    with pytest.raises(SamecastError, match="another model"):
        compress(make_concept(xl), sd)


def test_weights_of_a_model_of_the_same_shape_are_refused(sd: Any) -> None:
    torch.manual_seed(1)
    strangers = {
        name: Value(torch.randn_like(parameter) * parameter.std()) for name, parameter in cross_attention_parameters(sd)
    }
    for work in (compress, materialise):
        with pytest.raises(SamecastError, match="unrelated to this model"):
            work(Concept(changes=strangers), sd)
