"""Masks from maps of the current step alone, as in MasaCtrl's section 4.2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image

import samecast as sc
from samecast.attention.plan import Plan
from samecast.core.batch import Branch
from samecast.core.masks import SubjectMask

STEPS, START = 5, 2
TOKENS = sc.SubjectTokens(phrase="dog", layers="@1/2", threshold=0.3, average="step")
PROMPTS = ["a dog running", "a small dog"]
SETTINGS = sc.RenderSettings(num_inference_steps=STEPS, fit="crop")


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


def rules(tokens: sc.SubjectTokens = TOKENS, start: int = START) -> sc.Rules:
    return sc.masactrl_auto_masked(start, layers="all", tokens=tokens)


def test_each_picture_takes_one_evaluation_more_in_each_controlled_step(model: sc.Model, photo: Image.Image) -> None:
    rows: list[int] = []
    hook = model.backbone.denoiser.register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
    try:
        out = model.render(sc.Subject((photo,), "dog"), PROMPTS, rules=rules(), settings=SETTINGS)
    finally:
        hook.remove()
    controlled = STEPS - START
    # The photo's own maps at each controlled step, and those of the two pictures.
    assert (out.evaluations, out.map_evaluations) == (STEPS + 2 * 2 * STEPS, controlled + 2 * controlled)
    assert sum(rows) == out.evaluations + out.map_evaluations
    assert {(mask.of, mask.number) for mask in out.found_masks} == {("reference", 1), ("picture", 1), ("picture", 2)}


def maps_of(model: sc.Model, latent: torch.Tensor, timestep: float, prompt: str) -> torch.Tensor:
    """The map of the word in a plain evaluation, by diffusers' own explicit attention, min-max normalised."""
    pipe = model.pipeline
    tokenizer = pipe.tokenizer
    ids = tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
    word = tokenizer("dog", add_special_tokens=False).input_ids
    at = next(number for number in range(77) if ids[0, number : number + len(word)].tolist() == word)
    seen: list[torch.Tensor] = []
    side = latent.shape[-1] // 2

    def kept(attention: Any) -> Any:
        plain = attention.get_attention_scores

        def scores(query: torch.Tensor, key: torch.Tensor, mask: Any = None) -> torch.Tensor:
            found = plain(query, key, mask)
            if key.shape[1] == 77 and query.shape[1] == side**2:
                seen.append(found[:, :, at : at + len(word)].mean(dim=(0, 2)))
            return found

        return scores

    crossed = [module for name, module in pipe.unet.named_modules() if name.endswith("attn2")]
    before = [module.processor for module in crossed]
    try:
        for module in crossed:
            module.set_processor(AttnProcessor())
            module.get_attention_scores = kept(module)
        with torch.no_grad():
            pipe.unet(latent[None], timestep, encoder_hidden_states=pipe.text_encoder(ids)[0])
    finally:
        for module, processor in zip(crossed, before, strict=True):
            del module.get_attention_scores
            module.set_processor(processor)
    total = torch.stack(seen).mean(0).reshape(side, side)
    return (total - total.min()) / (total.max() - total.min())


def test_masks_are_of_the_current_step(model: sc.Model, photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[int, Mapping[Any, SubjectMask]] = {}
    routes = Plan.routes

    def noted(self: Plan, step: int, *args: Any) -> Any:
        if args[0].targets:
            used[step] = dict(args[-1])
        return routes(self, step, *args)

    monkeypatch.setattr(Plan, "routes", noted)
    states = list(model.states(sc.Subject((photo,), "dog"), PROMPTS, rules=rules(), settings=SETTINGS))
    for state in states[START:]:
        for target, latent in zip(state.branches, state.before, strict=True):
            expected = maps_of(model, latent, state.timestep, target.prompt)
            found = used[state.step][TOKENS, target]
            torch.testing.assert_close(found.values, expected, atol=1e-4, rtol=0)
            assert found.threshold == 0.3
    source = Branch("source", 0, "")
    first, last = (used[step][TOKENS, source].values for step in (START, STEPS - 1))
    assert not torch.equal(first, last)


def test_they_make_other_pictures_and_may_be_read_from_the_first_step(model: sc.Model, photo: Image.Image) -> None:
    subject = sc.Subject((photo,), "dog")
    averaged = sc.SubjectTokens(phrase="dog", layers="@1/2", threshold=0.3)
    one, other = (
        model.render(subject, PROMPTS, rules=rules(tokens), settings=SETTINGS).images for tokens in (TOKENS, averaged)
    )
    assert [picture.tobytes() for picture in one] != [picture.tobytes() for picture in other]
    assert model.render(subject, PROMPTS, rules=rules(start=0), settings=SETTINGS).map_evaluations == 3 * STEPS


def test_a_picture_does_not_depend_on_its_batch(model: sc.Model, photo: Image.Image) -> None:
    subject = sc.Subject((photo,), "dog")
    together = model.render(subject, PROMPTS, rules=rules(), settings=SETTINGS)
    alone = model.render(subject, PROMPTS[1:], rules=rules(), settings=SETTINGS)
    torch.testing.assert_close(together.latents[1:], alone.latents, atol=1e-4, rtol=0)


def test_where_no_evaluation_can_be_added_they_are_refused(model: sc.Model, photo: Image.Image) -> None:
    with pytest.raises(sc.SamecastError, match="a stock pipeline cannot take maps of the current step"):
        sc.attach(model.pipeline, rules(), sources=[photo], class_noun="dog")
    with pytest.raises(sc.SamecastError, match="average='step' has no effect here"):
        model.find_masks(sc.Subject((photo,), "dog"), TOKENS)
    with pytest.raises(sc.SamecastError, match="leave out their steps"):
        sc.SubjectTokens(average="step", steps=sc.Steps(1))
