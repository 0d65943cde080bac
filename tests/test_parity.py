"""MasaCtrl's own pictures, made by samecast: against a plain implementation of it that shares nothing with samecast.

Both compute in float64; the order of operations differs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from benchmarks.edit import as_ddim
from benchmarks.reference import Control, edit
from samecast.core.noise import seeded_noise

STEPS = 8
PROMPTS = ["a dog running", "a red cat"]
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    model = sc.load(tiny_pipeline_dir, device="cpu")
    model.backbone.pipeline.to(torch.float64)  # type: ignore[attr-defined]
    return model


@pytest.fixture(scope="module")
def square(photo: Image.Image) -> Image.Image:
    return photo.crop((0, 0, 96, 96)).resize((64, 64))


def ours(
    model: sc.Model, subject: sc.Subject | None, rules: sc.Rules, masks: Any = (), **settings: Any
) -> torch.Tensor:
    """The latents of source and targets."""
    seen: list[torch.Tensor] = []
    vae = model.backbone.pipeline.vae  # type: ignore[attr-defined]
    hook = vae.post_quant_conv.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    given = sc.RenderSettings(
        num_inference_steps=STEPS, guidance_scale=7.5, pairing="masactrl", replay=False, **settings
    )
    result = model.render(subject, PROMPTS, rules=rules, settings=given, target_masks=masks)
    hook.remove()
    assert result.evaluations <= STEPS * (1 + 1 + 2 * len(PROMPTS)) + STEPS
    targets, sources = seen[: len(PROMPTS)], seen[len(PROMPTS) :]
    return torch.cat([*sources, *targets]) * vae.config.scaling_factor


def quadrant(number: int) -> np.ndarray[Any, Any]:
    """A mask that is the same at every resolution: one half of the picture."""
    mask = np.zeros((64, 64), np.uint8)
    mask[(slice(None), slice(0, 32)) if number % 2 else (slice(0, 32), slice(None))] = 255
    return mask


CASES: dict[str, tuple[Callable[[], sc.Rules], Control]] = {
    "start": (lambda: sc.masactrl(2), Control(steps=lambda step: step >= 2)),
    "final": (lambda: sc.masactrl(2, 5), Control(steps=lambda step: 2 <= step <= 5)),
    "skip": (lambda: sc.masactrl(0, None, 3), Control(steps=lambda step: step % 10 >= 3)),
    "layers": (lambda: sc.masactrl(1, layers="0-7"), Control(range(8), lambda step: step >= 1)),
    "first step": (lambda: sc.masactrl(0, layers="all"), Control(range(16), lambda step: True)),
    "union": (lambda: sc.masactrl_union(2), Control(steps=lambda step: step >= 2, union=True)),
    "never": (lambda: (), Control(steps=lambda step: False)),
}


@pytest.mark.parametrize("name", CASES)
def test_edits_of_a_photo_are_masactrls(model: sc.Model, square: Image.Image, name: str) -> None:
    rules, control = CASES[name]
    pipeline = as_ddim(model.backbone.pipeline)  # type: ignore[attr-defined]
    expected = edit(pipeline, square, PROMPTS, steps=STEPS, control=control)
    found = ours(model, sc.Subject((square,)), rules())
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    if name != "never":
        plain = edit(pipeline, square, PROMPTS, steps=STEPS, control=CASES["never"][1])
        assert (plain[1:] - expected[1:]).abs().max() > 0.01
        torch.testing.assert_close(plain[:1], expected[:1])  # the source does not know its readers


def test_masks_are_masactrls(model: sc.Model, square: Image.Image) -> None:
    masks = [quadrant(number) for number in (0, 1, 2)]
    control = Control(steps=lambda step: step >= 2, masks=torch.from_numpy(np.stack(masks)).double() / 255)
    expected = edit(as_ddim(model.backbone.pipeline), square, PROMPTS, steps=STEPS, control=control)  # type: ignore[attr-defined]
    images = [Image.fromarray(mask) for mask in masks]
    subject = sc.Subject((square,), masks=(images[0],))
    found = ours(model, subject, sc.masactrl_masked(2), images[1:])
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_synthesis_is_masactrls(model: sc.Model) -> None:
    noise = seeded_noise((4, 16, 16), 3)[None].double()
    control = Control(steps=lambda step: step >= 2)
    pipeline = as_ddim(model.backbone.pipeline)  # type: ignore[attr-defined]
    expected = edit(pipeline, noise, PROMPTS, steps=STEPS, control=control, source_prompt="a dog")
    found = ours(model, None, sc.masactrl(2), source_prompt="a dog", seed=3)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_replay_keeps_the_photo_and_free_denoising_does_not(model: sc.Model, square: Image.Image) -> None:
    settings = sc.RenderSettings(num_inference_steps=STEPS, guidance_scale=7.5)
    kept, free = (
        model.render(sc.Subject((square,)), PROMPTS, rules=sc.masactrl(2), settings=each)
        for each in (settings, sc.RenderSettings(num_inference_steps=STEPS, guidance_scale=7.5, replay=False))
    )
    assert kept.source_psnr is not None
    assert free.source_psnr is not None
    assert kept.source_psnr > free.source_psnr
    assert free.evaluations == kept.evaluations + STEPS
