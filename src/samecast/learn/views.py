"""Views of a photo: its scale, position and mirroring, with the caption words and valid pixels.

Custom Diffusion (section 3.2) rescales a photo by 0.4 to 1.4 at random, names a clearly smaller or larger size in the
caption, and limits the loss to the photo's pixels. A view is determined by its seed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageOps
from torch import Tensor

SMALLEST, LARGEST = 0.4, 1.4
_FAR, _NEAR = 0.6, 1.1
_FAR_WORDS = ("a very small", "a far away")
_NEAR_WORDS = ("a zoomed in", "a close up")


@dataclass(frozen=True)
class View:
    """A view of a photo.

    Args:
        scale: side of the photo over side of the picture.
        left: horizontal position, 0 to 1 of the free space (or of the part cut off).
        top: vertical position, likewise.
        mirrored: whether left and right are exchanged.
        words: words at the start of the caption; empty near scale 1.
    """

    scale: float = 1.0
    left: float = 0.5
    top: float = 0.5
    mirrored: bool = False
    words: str = ""


def draw_view(rng: np.random.Generator, *, augment: bool, mirrored: bool) -> View:
    """A random view: with equal probability smaller, larger, or unscaled."""
    if not augment:
        return View(mirrored=mirrored)
    kind = int(rng.integers(3))
    if kind == 0:
        return View(mirrored=mirrored)
    low, high = ((SMALLEST, 1.0), (1.0, LARGEST))[kind - 1]
    scale = float(rng.uniform(low, high))
    left, top = (float(value) for value in rng.uniform(size=2))
    words = _FAR_WORDS if scale < _FAR else _NEAR_WORDS if scale > _NEAR else ("",)
    return View(scale, left, top, mirrored, words[int(rng.integers(len(words)))])


def in_words(caption: str, view: View) -> str:
    """The caption of a view: "photo of a dog" becomes "a far away photo of a dog"."""
    if not view.words:
        return caption
    for article in ("a ", "an ", "the "):
        caption = caption.removeprefix(article)
    return f"{view.words} {caption}"


def show(photo: Image.Image, view: View) -> Image.Image:
    """The picture of a view, of the photo's size, black outside the photo."""
    size = photo.width
    image = ImageOps.mirror(photo) if view.mirrored else photo
    left, top, side = _place(size, view)
    if side == size:
        return image
    scaled = image.resize((side, side), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (size, size))
    canvas.paste(scaled, (left, top))
    return canvas


def valid_cells(size: int, cells: int, view: View) -> Bool[Tensor, "height width"]:
    """The cells of the latent inside the photo, at least one cell from its edges, the encoder's receptive margin.

    Args:
        size: side of the picture in pixels.
        cells: side of the latent.
    """
    left, top, side = _place(size, view)
    valid = torch.ones(cells, cells, dtype=torch.bool)
    if side >= size:
        return valid
    cell = size / cells
    for axis, start in enumerate((top, left)):
        first, last = int(np.ceil(start / cell)) + 1, int((start + side) // cell) - 1
        inside = torch.zeros(cells, dtype=torch.bool)
        inside[first:last] = True
        if not inside.any():  # a photo of three cells has no cell away from its edges
            inside[int((start + side / 2) // cell)] = True
        valid &= inside[:, None] if axis == 0 else inside[None, :]
    return valid


def _place(size: int, view: View) -> tuple[int, int, int]:
    """The position of the photo in a view, in pixels: left, top and side."""
    side = max(1, round(size * view.scale))
    return round((size - side) * view.left), round((size - side) * view.top), side
