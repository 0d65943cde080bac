"""Into a model and out of it."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from samecast import SamecastError
from samecast.attention.session import Session
from samecast.concepts.apply import apply_concepts
from samecast.concepts.concept import Concept, LowRank, Value
from samecast.concepts.places import cross_attention_parameters
from samecast.models.loading import load_backbone
from tests.concepts.makers import digest, make_concept, make_lora, make_words, paint

PROMPT = "a <new1> dog"


def weights(pipeline: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in cross_attention_parameters(pipeline, "crossattn")}


def test_reverting_restores_every_bit_and_object(pipeline: Any) -> None:
    before = digest(pipeline)
    for concept in (make_concept(pipeline, mode="crossattn", vectors=2), make_lora(pipeline)):
        with concept.apply(pipeline):
            assert digest(pipeline) != before
        assert digest(pipeline) == before


def test_reverting_also_happens_after_an_exception(sd: Any) -> None:
    before = digest(sd)
    with pytest.raises(KeyboardInterrupt), make_concept(sd).apply(sd):
        raise KeyboardInterrupt
    assert digest(sd) == before


def test_explicit_reverting_works_once_and_then_does_nothing(sd: Any) -> None:
    before = digest(sd)
    applied = make_concept(sd).apply(sd)
    applied.revert()
    applied.revert()
    assert digest(sd) == before
    make_concept(sd).apply(sd).revert()


def test_full_strength_writes_the_values_to_the_bit(pipeline: Any) -> None:
    concept = make_concept(pipeline, mode="crossattn")
    with concept.apply(pipeline):
        held = weights(pipeline)
        assert all(torch.equal(held[name], change.value) for name, change in concept.changes.items())


def test_embeddings_are_in_the_rows_of_their_tokens(pipeline: Any) -> None:
    concept = make_concept(pipeline, vectors=3)
    with concept.apply(pipeline) as applied:
        for encoder, ids in applied.token_ids.items():
            held = getattr(pipeline, encoder).get_input_embeddings().weight[list(ids["<new1>"])]
            assert torch.equal(held, concept.tokens["<new1>"].vectors[encoder])
            tokenizer = getattr(pipeline, encoder.replace("text_encoder", "tokenizer"))
            prompt = pipeline.maybe_convert_prompt(PROMPT, tokenizer)
            assert set(ids["<new1>"]) <= set(tokenizer(prompt).input_ids)


@pytest.mark.parametrize("strength", [0.0, 0.5, -1.0, 2.0])
def test_strength_scales_the_change(sd: Any, strength: float) -> None:
    concept, base = make_concept(sd), weights(sd)
    with concept.apply(sd, strength=strength):
        held = weights(sd)
    for name, change in concept.changes.items():
        torch.testing.assert_close(held[name], base[name] + strength * (change.value - base[name]), rtol=0, atol=1e-6)


def test_several_concepts_add_up_in_any_order(sd: Any) -> None:
    base = weights(sd)
    one, two = make_concept(sd), make_concept(sd, words=("<new2>",), seed=1)
    lora = make_lora(sd, text=False)
    pairs = [(one, 1.0), (two, 0.5), (lora, 1.0)]
    with apply_concepts(sd, pairs) as applied:
        held = weights(sd)
        assert applied.words == ("<new1>", "<new2>")
    with apply_concepts(sd, pairs[::-1]):
        again = weights(sd)
    for name in one.changes:
        expected = one.changes[name].value + 0.5 * (two.changes[name].value - base[name])
        if name in lora.changes:
            expected = expected + lora.changes[name].difference(expected.shape)
        torch.testing.assert_close(held[name], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(again[name], held[name], rtol=0, atol=1e-5)


def test_a_lora_scales_by_alpha_over_rank() -> None:
    up, down = torch.ones(2, 4), torch.ones(4, 3)
    assert torch.equal(LowRank(up, down, 2.0).difference(torch.Size((2, 3))), torch.full((2, 3), 2.0))
    assert torch.equal(LowRank(up, down).difference(torch.Size((2, 3))), torch.full((2, 3), 4.0))


def test_a_lora_of_a_convolution_is_the_two_convolutions_in_a_row() -> None:
    torch.manual_seed(0)
    up, down = torch.randn(5, 2, 1, 1), torch.randn(2, 3, 3, 3)
    picture = torch.randn(1, 3, 8, 8)
    weight = LowRank(up, down).difference(torch.Size((5, 3, 3, 3)))
    both = torch.nn.functional.conv2d(torch.nn.functional.conv2d(picture, down), up)
    torch.testing.assert_close(torch.nn.functional.conv2d(picture, weight), both, rtol=1e-4, atol=1e-4)


def test_pictures_change_and_come_back(pipeline: Any) -> None:
    before = paint(pipeline, "a dog")
    concept = make_concept(pipeline)
    with concept.apply(pipeline):
        assert np.abs(paint(pipeline, PROMPT) - before).max() > 2
        assert np.abs(paint(pipeline, "a dog") - before).max() > 2
    assert np.array_equal(paint(pipeline, "a dog"), before)


def test_weights_stay_in_effect_while_processors_are_swapped(tiny_pipeline_dir: Any) -> None:
    backbone = load_backbone(tiny_pipeline_dir)
    latents, text = torch.randn(1, 4, 16, 16), backbone.encode_prompts(["a dog"])
    plain = backbone.predict(latents, 500, text)
    with make_concept(backbone.pipeline).apply(backbone):
        changed = backbone.predict(latents, 500, text)
        with Session(backbone):
            assert torch.equal(backbone.predict(latents, 500, text), changed)
    assert not torch.equal(plain, changed)


def test_a_backbone_says_which_concepts_are_in_it(tiny_pipeline_dir: Any) -> None:
    backbone = load_backbone(tiny_pipeline_dir)
    before, concept = backbone.identity, make_concept(backbone.pipeline)
    with concept.apply(backbone, strength=0.5):
        (use,) = backbone.identity.concepts
        assert (use.strength, use.revision, use.words) == (0.5, concept.revision, ("<new1>",))
    assert backbone.identity == before


def test_a_concept_of_other_weights_is_doubted(tiny_pipeline_dir: Any) -> None:
    backbone = load_backbone(tiny_pipeline_dir)
    concept = make_concept(backbone.pipeline)
    for revision, fit_warnings in ((backbone.identity.revision, 0), ("sha256:other", 1), ("", 0)):
        base = type(concept.base)("some/model", revision)
        with Concept(concept.tokens, concept.changes, base).apply(backbone) as applied:
            assert len(applied.fit_warnings) == fit_warnings


def test_pooling_is_at_the_end_of_text_though_the_configuration_says_otherwise(xl: Any) -> None:
    legacy = copy.deepcopy(xl)
    for module in (legacy.text_encoder, legacy.text_encoder_2):
        module.config.eos_token_id = 2
        for part in module.modules():
            if hasattr(part, "eos_token_id"):
                part.eos_token_id = 2
    before = digest(legacy)
    concept = make_concept(xl)
    with concept.apply(xl), concept.apply(legacy):
        assert np.array_equal(paint(legacy, PROMPT), paint(xl, PROMPT))
    assert digest(legacy) == before
    assert {part.eos_token_id for part in legacy.text_encoder_2.modules() if hasattr(part, "eos_token_id")} == {2}


def refused(model: Any, *concepts: Concept) -> str:
    before = digest(model)
    with pytest.raises(SamecastError) as caught:
        apply_concepts(model, [(concept, 1.0) for concept in concepts])
    assert digest(model) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_concept_of_another_model_is_refused(sd: Any, xl: Any) -> None:
    assert "another model" in refused(sd, make_concept(xl))
    assert "another model" in refused(xl, make_concept(sd))
    assert "another model" in refused(sd, Concept(changes=make_concept(xl).changes))
    assert "another model" in refused(sd, Concept(changes=make_lora(xl, text=False).changes))
    wide = make_concept(sd).tokens["<new1>"].vectors["text_encoder"].repeat(1, 2)
    token = type(make_concept(sd).tokens["<new1>"])({"text_encoder": wide})
    assert "64 channels" in refused(sd, Concept({"<new1>": token}))


def test_values_that_have_nothing_to_do_with_the_model_are_refused(sd: Any) -> None:
    torch.manual_seed(1)
    strangers = {
        name: Value(torch.randn_like(parameter) * parameter.std()) for name, parameter in cross_attention_parameters(sd)
    }
    assert "unrelated to this model" in refused(sd, Concept(changes=strangers))


def test_words_that_are_taken_are_refused(sd: Any) -> None:
    assert "two concepts share the word <new1>" in refused(sd, make_concept(sd), make_concept(sd, seed=1))
    assert "already in the model's vocabulary" in refused(sd, Concept(make_words(sd, ["a"])))
    # CLIP's tokenizer reads both as one.
    assert "(case is ignored)" in refused(sd, make_concept(sd, words=("<rex>",)), make_concept(sd, words=("<Rex>",)))


def test_a_second_application_is_refused_while_the_first_lasts(sd: Any) -> None:
    with make_concept(sd).apply(sd):
        assert "already applied (<new1>)" in refused(sd, make_concept(sd, words=("<new2>",)))


def test_layers_whose_weights_nobody_reads_are_refused(sd: Any) -> None:
    fused = copy.deepcopy(sd)
    fused.fuse_qkv_projections()
    assert "fused projections" in refused(fused, make_concept(sd))


def test_strength_must_be_a_sensible_number(sd: Any) -> None:
    for strength in (float("nan"), float("inf"), 11.0, "1", None, True):
        with pytest.raises(SamecastError, match="strength"):
            make_concept(sd).apply(sd, strength=strength)  # pyright: ignore[reportArgumentType]


def test_what_is_no_pipeline_takes_no_concepts(sd: Any) -> None:
    with pytest.raises(SamecastError, match="takes no concepts"):
        make_concept(sd).apply(object())
