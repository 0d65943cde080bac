"""Does the embedded model tell its own world's photos from others? `python -m benchmarks.world` prints its errors, and
how many photos lie on the wrong side of the threshold.

Photos of the world: held-out subjects, whole, cropped, mirrored, small and compressed. Others: textures, and what
photographs are at hand as files, sharp, blurred and cropped.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageFilter, ImageOps

import samecast as sc
from samecast.diorama.album import album, held_out_identity
from samecast.photos import fit_photo, open_photo
from samecast.render.world import FOREIGN, strangeness


@dataclass(frozen=True)
class World:
    """What to measure."""

    subjects: int = 30
    """Held-out subjects of the embedded world, four photos each."""

    photographs: tuple[Path, ...] = ()
    """Real photographs, as files."""


def own(subjects: int, first: int = 200) -> Iterator[tuple[str, Image.Image]]:
    """Photos of the embedded world, and what people do to photos."""
    for number in range(first, first + subjects):
        for photo in album(held_out_identity(number), 256):
            whole = Image.fromarray(photo.image)
            yield "whole", whole
            yield "cropped to 77%", whole.crop((30, 30, 226, 226))
            yield "mirrored", ImageOps.mirror(whole)
            yield "64 pixels", whole.resize((64, 64), Image.Resampling.LANCZOS)
            stream = io.BytesIO()
            whole.resize((128, 128), Image.Resampling.LANCZOS).save(stream, "JPEG", quality=50)
            yield "JPEG at 50", Image.open(stream).convert("RGB")


def textures() -> Iterator[tuple[str, Image.Image]]:
    """Noise of several scales."""
    rng = np.random.default_rng(0)
    for cells in (4, 8, 16, 32, 64, 128):
        noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        yield "texture", Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC)


def photographs(files: Sequence[Path]) -> Iterator[tuple[str, Image.Image]]:
    """Each photograph sharp, blurred, and cropped to a third."""
    for file in files:
        photo = fit_photo(open_photo(file), size=256)
        yield "photograph", photo
        for radius in (2, 4, 8):
            yield "photograph, blurred", photo.filter(ImageFilter.GaussianBlur(radius))
        yield "photograph, cropped to a third", photo.crop((90, 60, 180, 150))


def main(asked: World) -> dict[str, list[float]]:
    """Measures, prints, and returns the errors by kind."""
    backbone = sc.load(device="cpu").backbone
    found: dict[str, list[float]] = {}
    for kind, image in (*own(asked.subjects), *textures(), *photographs(asked.photographs)):
        found.setdefault(kind, []).append(strangeness(backbone, image))
    print(f"{'kind':<32}{'photos':>7}{'least':>8}{'median':>8}{'most':>8}{'warned':>8}")
    for kind, errors in found.items():
        warned = sum(error >= FOREIGN for error in errors)
        print(f"{kind:<32}{len(errors):>7}{min(errors):>8.3f}{np.median(errors):>8.3f}{max(errors):>8.3f}{warned:>8}")
    return found


if __name__ == "__main__":
    main(tyro.cli(World, description=__doc__))
