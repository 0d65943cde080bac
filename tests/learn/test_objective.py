"""The loss, against the textbook's written out with stock parts; what is cached, and what is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import samecast as sc
from samecast.core.noise import seeded_noise
from samecast.learn.lists import ToLearn
from samecast.learn.material import Material
from samecast.learn.objective import Objective
from samecast.learn.settings import LearnSettings
from samecast.learn.trained import training
from samecast.learn.views import show
from samecast.photos import load_photo

# The same sums in another order of float32 operations, on losses near 1.
TOLERANCE = 1e-4


def textbook(pipeline: Any, material: Material, shots: Any, alphas: torch.Tensor, prior_weight: float) -> torch.Tensor:
    """The loss of one sample, row by row, with the scheduler's own arithmetic."""
    total = torch.zeros(())
    for shot in shots:
        subject = material.subjects[shot.subject]
        path = subject.class_photos[shot.picture][0] if shot.of_class else subject.photos[shot.picture]
        pixels = np.asarray(show(load_photo(path, height=64, width=64), shot.view), dtype=np.float32) / 127.5 - 1
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        latent = pipeline.vae.encode(image).latent_dist.mean * pipeline.vae.config.scaling_factor
        noise = seeded_noise((4, 16, 16), shot.noise_seed)[None]
        timestep = torch.tensor([shot.timestep])
        noisy = pipeline.scheduler.add_noise(latent, noise, timestep)
        ids = pipeline.tokenizer(
            material.caption(shot), padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids
        found = pipeline.unet(noisy, timestep, pipeline.text_encoder(ids)[0]).sample
        velocity = pipeline.scheduler.config.prediction_type == "v_prediction"
        sought = pipeline.scheduler.get_velocity(latent, noise, timestep) if velocity else noise
        mask = material.valid(shot)[None, None].expand_as(found)
        total = total + (prior_weight if shot.of_class else 1) * (found - sought)[mask].square().mean()
    return total


@pytest.mark.parametrize("checkpoint", ["tiny_pipeline_dir", "tiny_velocity_dir"])
def test_the_loss_is_the_textbook_one(
    checkpoint: str, subject: ToLearn, short: LearnSettings, request: pytest.FixtureRequest
) -> None:
    model = sc.load(request.getfixturevalue(checkpoint))
    settings = replace(short, prior_weight=0.7)
    material = Material(model.backbone, settings, [subject])
    with training(model.backbone, settings, [subject]):
        objective = Objective(model.backbone, material, settings)
        every = [material.draws(1000).sample(number) for number in range(40)]
        samples = [
            next(s for s in every if s[0].view.scale < 0.9),
            next(s for s in every if s[0].view.scale > 1),
            every[0],
        ]
        pipeline: Any = model.backbone.pipeline  # pyright: ignore[reportAttributeAccessIssue]
        with torch.no_grad():
            expected = [textbook(pipeline, material, shots, objective.alphas, 0.7) for shots in samples]
            together = objective(samples)
        assert float(together) == pytest.approx(float(sum(expected)), abs=TOLERANCE)


def test_pictures_that_come_again_are_encoded_once(model: sc.Model, subject: ToLearn, short: LearnSettings) -> None:
    counts: dict[str, tuple[int, int]] = {}
    for name, changed in {"fresh": {}, "views": {"views": 2}, "plain": {"augment": "none"}}.items():
        settings = replace(short, **changed)
        material = Material(model.backbone, settings, [subject])
        calls: list[int] = []
        hook = model.backbone.pipeline.vae.encoder.register_forward_hook(  # pyright: ignore[reportAttributeAccessIssue]
            lambda module, given, out, calls=calls: calls.append(len(given[0]))
        )
        with training(model.backbone, settings, [subject]), torch.no_grad():
            objective = Objective(model.backbone, material, settings)
            for number in range(0, 24, 4):
                objective([material.draws(1000).sample(number + at) for at in range(4)])
        hook.remove()
        assert sum(calls) == material.encoded_pictures
        counts[name] = (material.encoded_pictures, material.encoded_texts)
    # Of 24 samples, 3 photos and 2 class pictures in 2 views each.
    assert counts["fresh"][0] == 24 + 4
    assert counts["views"][0] == 6 + 4
    assert counts["plain"] == (6 + 4, 6 + 1)  # the caption with the token once a call, that of the class once


def test_without_trained_tokens_texts_are_encoded_once(model: sc.Model, subject: ToLearn, short: LearnSettings) -> None:
    settings = replace(short, token_rate=0.0, augment="none")
    material = Material(model.backbone, settings, [subject])
    with training(model.backbone, settings, [subject]), torch.no_grad():
        objective = Objective(model.backbone, material, settings)
        for number in range(6):
            objective([material.draws(1000).sample(number)])
    assert material.encoded_texts == 2


def test_only_valid_cells_count(model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path) -> None:
    settings = replace(short, prior_weight=0.0)
    material = Material(model.backbone, settings, [subject])
    draws = material.draws(1000)
    sample = next(s for s in map(draws.sample, range(100)) if s[0].view.scale < 0.7)
    objective = Objective(model.backbone, material, settings)
    pipeline: Any = model.backbone.pipeline  # pyright: ignore[reportAttributeAccessIssue]
    valid = material.valid(sample[0])

    def spoiled(module: Any, given: Any, out: Any) -> Any:
        return (torch.where(valid, out[0], 1e4),)

    with training(model.backbone, settings, [subject]), torch.no_grad():
        before = objective([sample])
        hook = pipeline.unet.register_forward_hook(spoiled)
        after = objective([sample])
        hook.remove()
    assert torch.equal(before, after)
