"""Rendering with masks found in cross-attention maps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.attention.modes import Match
from samecast.attention.rule_files import rules_from_data, rules_to_data
from samecast.engine.map_passes import map_sources
from samecast.render.job import Job
from samecast.render.request import Request

STEPS = 5
QUICK = sc.RenderSettings(num_inference_steps=STEPS)
PROMPTS = ["a dog running", "a small dog"]


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


def render(model: sc.Model, photo: Image.Image, rules: sc.Rules, prompts: list[str] = PROMPTS) -> sc.RenderResult:
    return model.render(sc.Subject((photo,), "dog"), prompts, rules=rules, settings=QUICK)


def differ(left: sc.RenderResult, right: sc.RenderResult) -> bool:
    pictures = zip(left.renders, right.renders, strict=True)
    gaps = [np.asarray(one.image, dtype=np.int16) - np.asarray(two.image, dtype=np.int16) for one, two in pictures]
    return max(int(np.abs(gap).max()) for gap in gaps) > 1


def auto(**tokens: Any) -> sc.Rules:
    return sc.masactrl_auto_masked(2, layers="all", tokens=sc.SubjectTokens(**tokens))


def test_rows_for_the_sources_maps_are_counted_apart(model: sc.Model, photo: Image.Image) -> None:
    out = render(model, photo, auto())
    assert (out.evaluations, out.map_evaluations) == (STEPS + 2 * 2 * STEPS, STEPS)
    few = render(model, photo, auto(steps=sc.Steps(only=(1,))))
    assert (few.evaluations, few.map_evaluations) == (STEPS + 2 * 2 * STEPS, 1)


@pytest.mark.parametrize("photographed", [True, False])
def test_a_source_whose_prompt_names_the_subject_shows_it_in_its_own_evaluations(
    model: sc.Model, photo: Image.Image, photographed: bool
) -> None:
    settings = replace(QUICK, source_prompt="a photo of a dog")
    subject = sc.Subject((photo, photo.rotate(90)), "dog") if photographed else None
    rules = auto(phrase="dog")
    out = model.render(subject, PROMPTS, rules=rules, settings=settings)
    # An inversion does not evaluate the first step.
    assert out.map_evaluations == (2 if photographed else 0)
    job = Job(model.backbone, Request(subject, PROMPTS, rules, settings), None)
    with torch.inference_mode(), job.session:
        _, trajectory = job._make_sources()
        apart = job.prepared.store()
        rows = map_sources(job.run, apart, trajectory, "a photo of a dog", rows=64)
        assert rows == STEPS * len(job.sources)
        map_sources(job.run, job.store, trajectory, "a photo of a dog", rows=64)
    assert apart.sums.keys() == job.store.sums.keys()
    for key, total in apart.sums.items():
        torch.testing.assert_close(job.store.sums[key], total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rules", [sc.masactrl(0), auto(phrase="dog")], ids=["read from the first step", "looked at"])
@pytest.mark.parametrize("caption", ["", "a photo of a dog"])
@pytest.mark.parametrize("pairing", ["matched", "masactrl"])
def test_no_call_has_more_rows_than_allowed(
    model: sc.Model, photo: Image.Image, rules: sc.Rules, caption: str, pairing: Literal["matched", "masactrl"]
) -> None:
    subject = sc.Subject((photo, photo.rotate(90), photo.rotate(180)), "dog")
    settings = replace(QUICK, source_prompt=caption, pairing=pairing, batch_rows=8)
    prompts = [*PROMPTS, "a dog", "an old dog"]
    rows: list[int] = []
    hook = model.backbone.denoiser.register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
    try:
        few = model.render(subject, prompts, rules=rules, settings=settings)
    finally:
        hook.remove()
    assert max(rows) <= 8
    many = model.render(subject, prompts, rules=rules, settings=replace(settings, batch_rows=64))
    for one, other in zip(few.renders, many.renders, strict=True):
        gap = np.asarray(one.image, dtype=np.int16) - np.asarray(other.image, dtype=np.int16)
        assert np.abs(gap).max() <= 1


def test_masks_and_each_choice_about_them_change_the_pictures(model: sc.Model, photo: Image.Image) -> None:
    outs = [
        render(model, photo, rules)
        for rules in (
            sc.masactrl(2, layers="all"),
            auto(),
            auto(threshold=0.1),
            auto(phrase="a"),
            auto(layers="mid"),
            auto(steps=sc.Steps(only=(1,))),
        )
        if rules
    ]
    for number, out in enumerate(outs):
        assert all(differ(out, other) for other in outs[:number])


def test_a_picture_does_not_depend_on_its_batch(model: sc.Model, photo: Image.Image) -> None:
    together, alone = render(model, photo, auto()), render(model, photo, auto(), PROMPTS[1:])
    assert not differ(alone, model.render(sc.Subject((photo,), "dog"), PROMPTS[1:], rules=auto(), settings=QUICK))
    gap = np.asarray(together.renders[1].image, dtype=np.int16) - np.asarray(alone.renders[0].image, dtype=np.int16)
    assert np.abs(gap).max() <= 1


def test_the_rules_survive_json() -> None:
    rules = auto(phrase="red dog", layers="decoder", steps=sc.Steps(only=(0, 1)), threshold="otsu")
    assert rules_from_data(json.loads(json.dumps(rules_to_data(rules)))) == rules


@pytest.mark.parametrize(
    ("rules", "prompts", "noun", "message"),
    [
        (auto(), ["a cat"], "dog", "the word 'dog' is not in the prompt 'a cat'"),
        (auto(phrase="cat"), ["a cat"], "dog", "the word 'cat' is not in the prompt 'a photo of a dog'"),
        (auto(), ["a dog"], "", "need a word to look for"),
        (auto(layers="@5"), ["a dog"], "dog", "'@5' match nothing"),
        (sc.dream_matcher(0), ["a dog"], "dog", r"reads masks of the pictures at step 0, before there is a map"),
        (sc.dream_matcher(2), ["a cat"], "dog", "the word 'dog' is not in the prompt 'a cat'"),
        (sc.masactrl_auto_masked(0), ["a dog"], "dog", r"reads masks of the pictures at step 0, before there is a map"),
    ],
)
def test_mistakes_about_maps_are_one_line(
    model: sc.Model, photo: Image.Image, rules: sc.Rules, prompts: list[str], noun: str, message: str
) -> None:
    with pytest.raises(sc.SamecastError, match=message) as caught:
        model.render(sc.Subject((photo,), noun), prompts, rules=rules, settings=QUICK)
    assert "\n" not in str(caught.value)


def matched(consistency: float = 0.4, **tokens: Any) -> sc.Rules:
    return sc.dream_matcher(2, layers="all", tokens=sc.SubjectTokens(**tokens), consistency=consistency)


def test_dream_matcher_looks_at_the_pictures_alone(model: sc.Model, photo: Image.Image) -> None:
    out = render(model, photo, matched())
    assert (out.evaluations, out.map_evaluations) == (STEPS + 2 * 2 * STEPS, 0)
    assert [(found.of, found.number) for found in out.found_masks] == [("picture", 1), ("picture", 2)]


def test_dream_matcher_and_each_choice_about_it_change_the_pictures(model: sc.Model, photo: Image.Image) -> None:
    outs = [
        render(model, photo, rules)
        for rules in ((), sc.masactrl(2, layers="all"), matched(), matched(2.0), matched(threshold=0.6))
    ]
    for number, out in enumerate(outs):
        assert all(differ(out, other) for other in outs[:number])
        assert not any("changed nothing" in warning for warning in out.warnings)


def test_dream_matcher_keeps_what_the_prompt_lays_out_more_than_masactrl(model: sc.Model, photo: Image.Image) -> None:
    """It replaces values on the subject only, MasaCtrl keys and values everywhere."""

    def gap(rules: sc.Rules) -> float:
        pairs = zip(render(model, photo, rules).renders, render(model, photo, ()).renders, strict=True)
        return sum(
            float(np.abs(np.asarray(one.image, dtype=float) - np.asarray(two.image)).mean()) for one, two in pairs
        )

    assert 0 < gap(matched(threshold=0.5)) < gap(sc.masactrl(2, layers="all"))


def test_dream_matcher_takes_given_masks_too(model: sc.Model, photo: Image.Image) -> None:
    mask = Image.new("L", photo.size, 0)
    mask.paste(255, (0, 0, 64, 96))
    rules = (sc.Rule(sources=("source", "self"), layers="all", mode=Match("given")),)
    out = model.render(sc.Subject((photo,)), PROMPTS, rules=rules, settings=QUICK, target_masks=[mask])
    assert differ(out, render(model, photo, ()))
    assert out.found_masks == ()


def test_found_masks_come_back_as_pictures(model: sc.Model, photo: Image.Image) -> None:
    out = render(model, photo, auto())
    assert [(found.of, found.number, found.phrase) for found in out.found_masks] == [
        ("reference", 1, "dog"),
        ("picture", 1, "dog"),
        ("picture", 2, "dog"),
    ]
    for found in out.found_masks:
        assert found.mask.size == found.map.size == out.renders[0].image.size
        inside = np.asarray(found.mask) == 255
        assert set(np.unique(np.asarray(found.mask))) == {0, 255}
        assert np.mean(inside) == pytest.approx(found.coverage, abs=0.1)  # edges shift with resolution
        assert 0 < found.coverage < 1
        assert 0 < found.threshold < 1  # Otsu's
    assert render(model, photo, sc.masactrl(2)).found_masks == ()


def test_a_map_is_bright_where_its_mask_is(model: sc.Model, photo: Image.Image) -> None:
    for found in render(model, photo, auto(threshold="otsu")).found_masks:
        inside, values = np.asarray(found.mask) == 255, np.asarray(found.map, dtype=float) / 255
        half_a_level = 0.5 / 255
        assert values[inside].min() >= found.threshold - half_a_level
        assert values[~inside].max() <= found.threshold + half_a_level


def test_masks_that_tell_nothing_apart_are_told_in_one_line(model: sc.Model, photo: Image.Image) -> None:
    dot = Image.new("L", photo.size, 0)
    dot.paste(255, (60, 44, 68, 52))
    subject = sc.Subject((photo,), masks=(dot,))
    rules = sc.masactrl_masked(2, layers="all")
    out = model.render(subject, PROMPTS, rules=rules, settings=replace(QUICK, fit="crop"), target_masks=[dot])
    record = [warning for warning in out.warnings if "the mask of" in warning]
    assert len(record) == 1
    assert record[0].startswith("the mask of picture 1, picture 2, reference 1 is empty at 2 x 2")
    assert "\n" not in record[0]
    high = render(model, photo, auto(threshold=0.97))
    assert any("is empty at" in warning for warning in high.warnings)
    assert not any("the mask of" in warning for warning in render(model, photo, sc.masactrl(2)).warnings)


def test_control_that_changes_nothing_says_so(model: sc.Model, photo: Image.Image) -> None:
    idle = render(model, photo, (sc.Rule(sources=("self",)),))
    assert any("control was active and changed nothing" in warning for warning in idle.warnings)
    for rules in ((), sc.masactrl(2)):
        assert not any("changed nothing" in warning for warning in render(model, photo, rules).warnings)


def test_a_layer_whose_output_is_nothing_hides_control(tiny_pipeline_dir: Path, photo: Image.Image) -> None:
    model = sc.load(tiny_pipeline_dir, device="cpu")
    last: Any = model.backbone.self_attention()[15].module
    last.to_out[0].weight.data.zero_()
    silent, heard = (render(model, photo, sc.masactrl(2, layers=layers)) for layers in ("15", "14-15"))
    assert any("changed nothing" in warning for warning in silent.warnings)
    assert not any("changed nothing" in warning for warning in heard.warnings)
