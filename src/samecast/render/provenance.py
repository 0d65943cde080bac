"""What is written down of a render: all that it takes to make the pictures again, and what is worth a warning."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from samecast.attention.rule_files import rules_to_data
from samecast.checked import as_text
from samecast.engine.targets import Target
from samecast.models.base import Backbone
from samecast.render.quality import Fidelity
from samecast.render.request import Pictures, Request


def describe_request(request: Request, pictures: Pictures, targets: Sequence[Target]) -> dict[str, Any]:
    """What was asked for; JSON-able.

    Args:
        request: as it was given.
        pictures: that came with it, as they were used.
        targets: that it came to.
    """
    return {
        "prompts": list(request.prompts),
        "seeds": [target.seed for target in targets],
        "class_noun": "" if request.members else request.noun,
        "subjects": [
            {"name": each.name, "class_noun": each.class_noun, "photos": len(each.references), "masks": len(each.masks)}
            for each in request.subjects
            if each.name
        ],
        "references": [_name(photo) for photo in request.photos],
        "reference_pixels": [_pixel_hash(reference) for reference in pictures.references],
        "reference_masks": [_pixel_hash(mask) for mask in pictures.reference_masks if mask is not None],
        "target_masks": [_pixel_hash(mask) for mask in pictures.target_masks],
        "subject_masks": {
            name: [_pixel_hash(mask) for mask in masks] for name, masks in pictures.subject_masks.items()
        },
        "rules": rules_to_data(request.rules),
        "settings": asdict(request.settings),
        "height": pictures.height,
        "width": pictures.width,
    }


def describe_model(backbone: Backbone) -> dict[str, Any]:
    """Which model ran, where, in what precision and versions; JSON-able."""
    return {"model": asdict(backbone.identity), **backbone.describe()}


def describe_quality(measured: Sequence[Fidelity]) -> list[dict[str, float | None]]:
    """How close pictures come to their references; JSON-able, with None for an infinite PSNR."""
    return [asdict(each) | {"psnr": finite(each.psnr)} for each in measured]


def finite(value: float | None) -> float | None:
    """A number as JSON can hold it: None for what is infinite."""
    return value if value is not None and math.isfinite(value) else None


def _name(photo: str | Path | Image.Image) -> str | None:
    """Its path as given; None for a picture that came from memory."""
    return None if isinstance(photo, Image.Image) else as_text(photo)


def _pixel_hash(image: Image.Image) -> str:
    return "sha256:" + sha256(image.tobytes()).hexdigest()
