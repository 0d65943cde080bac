"""The denoising loop from outside: states, previews, callbacks and interrupts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.core.noise import seeded_noise
from samecast.engine.preview import preview
from tests.conftest import make_scheduler

STEPS = 4
FRESH = sc.RenderSettings(num_inference_steps=STEPS, init="noise", guidance_scale=7.5)
PROMPTS = ["a dog", "a cat"]


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject((photo,), class_noun="dog")


def fresh(model: sc.Model, **how: Any) -> sc.RenderResult:
    return model.render(None, PROMPTS, rules=(), settings=FRESH, **how)


def stock(model: sc.Model, callback: Any) -> list[Image.Image]:
    """What diffusers' own pipeline makes with a callback."""
    pipeline = model.backbone.pipeline  # type: ignore[attr-defined]
    before, pipeline.scheduler = pipeline.scheduler, make_scheduler()
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.stack([seeded_noise((4, 16, 16), 0)] * len(PROMPTS))
    try:
        output = pipeline(
            PROMPTS, num_inference_steps=STEPS, guidance_scale=7.5, latents=latents, callback_on_step_end=callback
        )
    finally:
        pipeline.scheduler = before
    return output.images


def same(one: Image.Image, two: Image.Image) -> bool:
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(two, np.int16)).max()) <= 1


def test_a_callback_replaces_latents_as_in_diffusers(model: sc.Model) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def callback(pipeline: Any, step: int, timestep: Any, data: dict[str, Any]) -> dict[str, Any]:
        seen.setdefault(type(pipeline).__name__, []).append((step, int(timestep)))
        return {"latents": data["latents"] * 0.5} if step == 1 else data

    found, expected = fresh(model, callback_on_step_end=callback), stock(model, callback)
    assert all(same(one.image, two) for one, two in zip(found.renders, expected, strict=True))
    assert seen["Model"] == seen["StableDiffusionPipeline"]
    assert len(seen["Model"]) == STEPS
    assert any("latents were replaced" in warning for warning in found.warnings)
    assert not same(found.renders[0].image, fresh(model).renders[0].image)


@pytest.mark.parametrize("how", ["method", "as in diffusers"])
def test_an_interrupt_decodes_what_is_there_as_in_diffusers(model: sc.Model, how: str) -> None:
    def callback(pipeline: Any, step: int, timestep: Any, data: dict[str, Any]) -> dict[str, Any]:
        if step == 1 and isinstance(pipeline, sc.Model) and how == "method":
            pipeline.interrupt()
        elif step == 1:
            pipeline._interrupt = True
        return data

    found, expected = fresh(model, callback_on_step_end=callback), stock(model, callback)
    assert all(same(one.image, two) for one, two in zip(found.renders, expected, strict=True))
    assert found.evaluations == 2 * 2 * len(PROMPTS)
    assert any(warning.startswith(f"interrupted after 2 of {STEPS} steps") for warning in found.warnings)
    assert not fresh(model).warnings  # the next render is its own


def test_pictures_not_begun_are_left_out_after_an_interrupt(model: sc.Model) -> None:
    settings = sc.RenderSettings(num_inference_steps=STEPS, init="noise", guidance_scale=7.5, batch_rows=2)
    stop = {"callback_on_step_end": lambda model, step, timestep, data: model.interrupt()}
    found = model.render(None, PROMPTS, rules=(), settings=settings, **stop)  # type: ignore[arg-type]
    assert [render.prompt for render in found.renders] == PROMPTS[:1]


def test_progress_may_interrupt_before_the_first_step(model: sc.Model, subject: sc.Subject) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "invert":
            model.interrupt()

    found = model.render(subject, PROMPTS, settings=sc.RenderSettings(num_inference_steps=STEPS), progress=progress)
    assert found.renders == ()
    assert f"interrupted after 0 of {STEPS} steps" in " ".join(found.warnings)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1], "must return a dictionary, with latents or empty; got a list"),
        ({"prompt_embeds": 1}, "can replace latents, and nothing else; got prompt_embeds"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"of their shape \(2, 4, 16, 16\); got shape \(1, 4, 8, 8\)"),
        ({"latents": "x"}, r"of their shape \(2, 4, 16, 16\); got a str"),
        ({"latents": torch.full((2, 4, 16, 16), torch.nan)}, "denoiser produced values that are not finite"),
    ],
)
def test_what_a_callback_must_not_return_is_told(model: sc.Model, returned: Any, message: str) -> None:
    with pytest.raises(sc.SamecastError, match=message):
        fresh(model, callback_on_step_end=lambda *data: returned)


def processors(model: sc.Model) -> list[Any]:
    unet = model.backbone.denoiser
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in unet.modules())
    return [hooks, *(id(bound.module.processor) for bound in model.backbone.self_attention())]


@pytest.mark.parametrize("steps", [0, 2])
def test_closing_the_states_leaves_the_model_as_it_was(model: sc.Model, subject: sc.Subject, steps: int) -> None:
    before, settings = processors(model), sc.RenderSettings(num_inference_steps=STEPS)
    states = model.states(subject, PROMPTS, rules=sc.masactrl(1), settings=settings)
    for _ in range(steps):
        next(states)
        assert processors(model) != before
    states.close()
    assert processors(model) == before
    assert not fresh(model).warnings


def test_states_tell_step_latents_and_come_to_the_result(model: sc.Model, subject: sc.Subject) -> None:
    settings = sc.RenderSettings(num_inference_steps=STEPS, check_inversion=True)
    expected = model.render(subject, PROMPTS, rules=sc.masactrl(1), settings=settings)
    states = model.states(subject, PROMPTS, rules=sc.masactrl(1), settings=settings)
    seen: list[Any] = []
    while True:
        try:
            seen.append(next(states))
        except StopIteration as end:
            result = end.value
            break
    assert [state.step for state in seen] == list(range(STEPS))
    assert [state.latents.shape for state in seen] == [(2, *model.backbone.latent_shape(56, 72))] * STEPS
    assert result.provenance == expected.provenance
    assert all(one.image == two.image for one, two in zip(result.renders, expected.renders, strict=True))


def colours_of(image: Image.Image, side: int) -> np.ndarray[Any, Any]:
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float64).ravel()


def test_previews_of_the_embedded_model_show_what_it_decodes() -> None:
    """Against the decoder: the colours of both agree, cell by cell, and ever better towards the end."""
    model = sc.load()
    settings = sc.RenderSettings(num_inference_steps=10, init="noise", seed=3)
    previews: list[Image.Image] = []
    states = model.states(None, ["a red dog on the beach"], rules=(), settings=settings)
    while True:
        try:
            state = next(states)
        except StopIteration as end:
            picture = end.value.renders[0].image
            break
        previews += state.preview()
    assert len(previews) == 10
    assert {each.size for each in previews} == {picture.size}
    alike = [np.corrcoef(colours_of(each, 16), colours_of(picture, 16))[0, 1] for each in previews]
    assert alike[-1] > 0.9
    assert alike[-1] > alike[0]


@pytest.mark.parametrize("directory", ["tiny_pipeline_dir", "tiny_xl_dir", None])
def test_previews_have_the_pictures_size_and_colours(directory: str | None, request: pytest.FixtureRequest) -> None:
    """Of any family and shape; of a trained autoencoder they also tell a photo better than its mean colour does."""
    backbone = sc.load(*([request.getfixturevalue(directory)] if directory else []), device="cpu").backbone
    coarse = Image.fromarray(np.random.default_rng(5).integers(0, 256, (2, 3, 3), np.uint8))
    photo = coarse.resize((192, 128), Image.Resampling.BICUBIC)
    with torch.inference_mode():
        latent = backbone.encode_image(photo)
    shown = preview(backbone, latent[None])[0]
    assert (shown.size, shown.mode) == (photo.size, "RGB")
    if directory is None:
        one, two = (np.asarray(each.resize((12, 8), Image.Resampling.BOX), np.float64) for each in (shown, photo))
        assert ((one - two) ** 2).mean() < 0.1 * ((two - two.mean(axis=(0, 1))) ** 2).mean()
