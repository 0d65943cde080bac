"""Does a photo come from the world that the embedded model knows? Its denoiser says so itself.

The photo's latent is noised and the clean latent predicted back in one step, without a prompt: what the denoiser was
trained on it restores, all else it bends towards its toys. The mean squared error is 0.03 to 0.08 for photos of the
embedded world (0.13 for tight crops of them, 0.08 after strong JPEG compression) and for pictures that the model made,
and above 0.18 for photographs, sharp or blurred, at any size, and for textures: `python -m benchmarks.world` prints it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from samecast.checked import as_text
from samecast.core.ddim import NoiseLevel, denoise
from samecast.core.embedded import EMBEDDED, INSTEAD, KNOWS
from samecast.core.noise import seeded_noise
from samecast.models.base import Backbone
from samecast.photos import fit_photo
from samecast.render.request import opened

FOREIGN = 0.16
"""Error from which on a photo is not of the embedded world."""
_STEPS, _OF = (6, 8), 10
"""The noise levels: those of steps 6 and 8 of a run of ten, where shapes are fixed and surfaces are not."""
_SEEDS = (0, 1)


@torch.inference_mode()
def strangeness(backbone: Backbone, photo: Image.Image) -> float:
    """How badly the denoiser restores a photo from noise: the mean squared error of the latent, without unit.

    Args:
        backbone: the embedded model.
        photo: of any size; it is looked at in the model's own.
    """
    schedule = backbone.schedule(_OF)
    at_once = replace(schedule, levels_after=(NoiseLevel(1.0, 0.0),) * schedule.steps)
    side = backbone.default_size
    latent = backbone.encode_image(fit_photo(photo, height=side, width=side))
    noises = torch.stack([seeded_noise(backbone.latent_shape(side, side), seed) for seed in _SEEDS]).to(latent)
    text = backbone.encode_prompts([""]).expand(len(_SEEDS), -1, -1)
    errors: list[float] = []
    for step in _STEPS:
        signal, noise = schedule.levels[step]
        noisy = signal * latent + noise * noises
        clean = denoise(noisy, backbone.predict(noisy, schedule.timesteps[step], text), at_once, step)
        errors.append(float((clean - latent).square().mean()))
    return sum(errors) / len(errors)


def foreign_photos(backbone: Backbone, photos: Sequence[str | Path | Image.Image]) -> tuple[str, ...]:
    """One warning if the model is the embedded one and any of the photos is not of its world."""
    if backbone.identity.id != EMBEDDED:
        return ()
    for number, photo in enumerate(photos, start=1):
        if strangeness(backbone, opened(photo)) >= FOREIGN:
            name = "" if isinstance(photo, Image.Image) else f" ({as_text(photo)})"
            return (f"photo {number}{name} is unlike all that the embedded model knows: it knows {KNOWS}; {INSTEAD}",)
    return ()
