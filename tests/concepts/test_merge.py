"""Closed-form merging is what the paper asks for: constraints held, and nothing else moved more than it must be."""

from pathlib import Path
from typing import Any

import pytest
import torch

from samecast import SamecastError
from samecast.concepts.apply import apply_concepts
from samecast.concepts.captions import default_captions, read_captions
from samecast.concepts.concept import Concept, Value
from samecast.concepts.merge import HELD_OUT, merge
from samecast.concepts.places import cross_attention_parameters
from samecast.models.loading import load_backbone
from tests.concepts.makers import make_concept, make_lora, make_words

CAPTIONS = default_captions()[::20]


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> Any:
    return load_backbone(tiny_pipeline_dir)


@pytest.fixture(scope="module")
def xl_model(tiny_xl_dir: Path) -> Any:
    return load_backbone(tiny_xl_dir)


def two(model: Any) -> list[Concept]:
    return [make_concept(model.pipeline), make_concept(model.pipeline, words=("<new2>",), noun="cat", seed=1)]


def features_in(model: Any, word: str, caption: str) -> torch.Tensor:
    """From the modifier token to the end of a text, computed the long way."""
    tokenizer = model.pipeline.tokenizer
    ids = tokenizer(caption).input_ids
    return model.encode_prompts([caption])[0, ids.index(tokenizer.convert_tokens_to_ids(word)) : len(ids)].double()


def features(model: Any, word: str, noun: str) -> torch.Tensor:
    """Of the word alone and in a photo of its noun, where it is held."""
    return torch.cat([features_in(model, word, caption) for caption in (word, f"photo of a {word} {noun}")])


@pytest.mark.parametrize("family", ["model", "xl_model"])
def test_every_concept_keeps_what_it_makes_of_its_words(family: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(family)
    concepts = two(model)
    merged, report = merge(concepts, model, captions=CAPTIONS if family == "model" else ())
    assert report.error < 1e-5
    assert list(merged.tokens) == ["<new1>", "<new2>"]
    with apply_concepts(model, [(merged, 1.0)]):
        for concept in concepts:
            ((word, token),) = concept.tokens.items()
            rows = features(model, word, token.class_noun)
            for name, change in concept.changes.items():
                wanted = change.value.double() @ rows.T
                got = merged.changes[name].value.double() @ rows.T
                torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_no_other_weight_that_keeps_the_concepts_moves_the_captions_less(model: Any) -> None:
    concepts = two(model)
    merged, _ = merge(concepts, model, captions=CAPTIONS)
    with apply_concepts(model, [(merged, 1.0)]):
        rows = torch.cat([features(model, "<new1>", "dog"), features(model, "<new2>", "cat")])
    others = model.encode_prompts(CAPTIONS).double().flatten(0, 1)
    name, base = next(iter(cross_attention_parameters(model, "kv")))
    change = merged.changes[name].value.double() - base.detach().double()
    least = (change @ others.T).norm()
    free = torch.eye(rows.shape[1]).double() - torch.linalg.pinv(rows) @ rows  # directions the words do not see
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1, 1.0):
        step = torch.randn(change.shape, generator=generator).double() @ free * size
        assert (step @ rows.T).abs().max() < 1e-9
        assert ((change + step) @ others.T).norm() > least * (1 - 1e-6)
        # At the minimum the first order vanishes: the growth is of second order in the step.
        gradient = ((change @ others.T) * (step @ others.T)).sum() / (least * (step @ others.T).norm())
        assert abs(float(gradient)) < 1e-5


def test_any_number_merges_and_a_concept_of_words_alone_keeps_the_models_weights(model: Any) -> None:
    concepts = [*two(model), Concept(make_words(model.pipeline, ["<new3>"], noun="cow", seed=5))]
    merged, report = merge(concepts, model, captions=CAPTIONS)
    assert report.error < 1e-5
    with apply_concepts(model, [(merged, 1.0)]):
        rows = features(model, "<new3>", "cow")
    name, base = next(iter(cross_attention_parameters(model, "kv")))
    wanted = base.detach().double() @ rows.T
    torch.testing.assert_close(merged.changes[name].value.double() @ rows.T, wanted, rtol=0, atol=1e-4)


def test_merging_concepts_that_change_nothing_changes_nothing(model: Any) -> None:
    words = [Concept(make_words(model.pipeline, [f"<new{n}>"], seed=n)) for n in (1, 2)]
    merged, report = merge(words, model, captions=CAPTIONS)
    assert report.drift < 1e-6
    assert report.unseen == 0
    held = dict(cross_attention_parameters(model, "kv"))
    for name, change in merged.changes.items():
        torch.testing.assert_close(change.value, held[name].detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["model", "xl_model"])
def test_what_is_lost_in_other_prompts_is_measured(family: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(family)
    concepts = two(model)
    merged, report = merge(concepts, model, captions=CAPTIONS if family == "model" else ())
    base = {name: parameter.detach().double() for name, parameter in cross_attention_parameters(model, "kv")}
    off = whole = 0.0
    with apply_concepts(model, [(merged, 1.0)]):
        for concept in concepts:
            ((word, token),) = concept.tokens.items()
            said = [prompt.format(f"{word} {token.class_noun}") for prompt in HELD_OUT]
            rows = torch.cat([features_in(model, word, prompt) for prompt in said])
            for name, change in concept.changes.items():
                off += float(((merged.changes[name].value - change.value).double() @ rows.T).square().sum())
                whole += float(((change.value.double() - base[name]) @ rows.T).square().sum())
    assert report.unseen == pytest.approx((off / whole) ** 0.5, rel=1e-3)
    assert 0.01 < report.unseen < 2


def test_there_are_a_thousand_captions_all_different() -> None:
    captions = default_captions()
    assert len(set(captions)) == len(captions) == 1000


def test_captions_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a dog\n\na cat \na dog\n")
    assert read_captions(tmp_path / "c.txt") == ("a dog", "a cat")
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(SamecastError, match=name):
            read_captions(tmp_path / name)


def refused(model: Any, concepts: list[Concept], captions: tuple[str, ...] = CAPTIONS) -> str:
    with pytest.raises(SamecastError) as caught:
        merge(concepts, model, captions=captions)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_merged_is_refused_in_one_line(model: Any, xl_model: Any) -> None:
    one, other = two(model)
    assert "at least two concepts" in refused(model, [one])
    assert "two concepts share the word" in refused(model, [one, make_concept(model.pipeline, seed=3)])
    assert "another model" in refused(model, [one, make_concept(xl_model.pipeline, words=("<new2>",))])
    assert "no modifier token" in refused(model, [one, Concept(changes=other.changes)])
    strangers = {name: Value(torch.randn_like(c.value)) for name, c in other.changes.items()}
    assert "unrelated to this model" in refused(model, [one, Concept(other.tokens, strangers)])
    lora = make_lora(model.pipeline)
    assert "only keys and values" in refused(model, [one, Concept(other.tokens, lora.changes)])
    whole = make_concept(model.pipeline, mode="crossattn", words=("<new2>",))
    assert "only keys and values" in refused(model, [one, whole])


def test_captions_that_say_too_little_are_refused_with_what_they_span(xl_model: Any) -> None:
    assert "span 0 of 64 dimensions" in refused(xl_model, two(xl_model), ("",))  # which XL reads as zeros


def test_words_that_mean_the_same_are_refused_with_the_condition(model: Any) -> None:
    one = make_concept(model.pipeline)
    twin = make_concept(model.pipeline, seed=1)
    twin = Concept({"<new2>": one.tokens["<new1>"]}, {name: Value(c.value) for name, c in twin.changes.items()})
    assert "cannot be distinguished" in refused(model, [one, twin])
