"""Class pictures: what the model makes of the class by itself, to be learnt beside the photos so that it stays so.

Picture n of a caption is that of seed n. Those that lie in the folder already are not made again.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from samecast.core.settings import RenderSettings
from samecast.disk import replace_picture
from samecast.learn.devices import Devices
from samecast.records import slug
from samecast.render import Model

STEPS = 25
"""Denoising steps of a class picture: it is seen through noise, mostly."""
_TOGETHER = 16


def class_pictures(
    model: Model,
    caption: str,
    count: int,
    folder: Path,
    *,
    size: int,
    devices: Devices,
    progress: Callable[[str, int, int], None],
) -> tuple[tuple[Path, str], ...]:
    """Pictures of a class with their captions, made where they are missing.

    Args:
        model: makes them.
        caption: what they show.
        count: how many.
        folder: where they lie, each caption's in a folder of its own.
        size: their side in pixels.
        devices: the work is shared among all.
        progress: told how many are there.

    Raises:
        SamecastError: the folder cannot be written.
    """
    how = [asdict(model.backbone.identity), caption, size, STEPS, model.backbone.default_guidance]
    data = json.dumps(how, sort_keys=True)
    place = folder / f"{slug(caption)}-{sha256(data.encode()).hexdigest()[:12]}"
    files = [place / f"{seed:04d}.png" for seed in range(count)]
    for chunk, first in enumerate(range(0, count, _TOGETHER)):
        wanted = files[first : first + _TOGETHER]
        if chunk % devices.count == devices.index and not all(file.is_file() for file in wanted):
            settings = RenderSettings(
                steps=STEPS,
                seed=first,
                init="noise",
                images_per_prompt=len(wanted),
                height=size,
                width=size,
                batch_rows=_TOGETHER,
            )
            made = model.render(None, [caption], rules=(), settings=settings)
            for file, render in zip(wanted, made.renders, strict=True):
                replace_picture(render.image, file)
        progress("class", min(first + _TOGETHER, count), count)
    devices.wait()
    return tuple((file, caption) for file in files)
