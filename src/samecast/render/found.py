"""Masks that were found, as pictures that a person can look at."""

from dataclasses import dataclass
from typing import Literal

import numpy
from PIL import Image

from samecast.attention.plan import Masks
from samecast.core.batch import Branch
from samecast.core.masks import SubjectMask, resize_map
from samecast.core.tokens import SubjectTokens
from samecast.engine.attention_store import MapSpec
from samecast.notebook import figures_html


@dataclass(frozen=True, repr=False)
class FoundMask:
    """Where cross-attention maps show the subject in one picture.

    Args:
        of: whether the picture is a reference, or one that was made.
        number: of the picture among these, from 1.
        tokens: what was looked for: words, layers, steps, threshold.
        phrase: the words.
        map: the normalised map, grey, as large as the picture.
        mask: what reaches the threshold: white on black, as large as the picture.
        coverage: the mask's share of the map at its own resolution, 0 to 1.
        threshold: the number that parted the map, which Otsu's method chooses for itself.
    """

    of: Literal["reference", "picture"]
    number: int
    tokens: SubjectTokens
    phrase: str
    map: Image.Image
    mask: Image.Image
    coverage: float
    threshold: float

    def __repr__(self) -> str:
        return f"FoundMask({self.phrase!r} in {self.of} {self.number}, {self.coverage:.1%} of it)"

    def _repr_html_(self) -> str:
        return figures_html([(self.map, f"map of {self.phrase!r} in {self.of} {self.number}"), (self.mask, repr(self))])


def found_masks(masks: Masks, map_specs: tuple[MapSpec, ...], size: tuple[int, int]) -> tuple[FoundMask, ...]:
    """The masks that a run's maps came to, references first.

    Args:
        masks: as `MapBook.masks` gives them.
        map_specs: what was looked for.
        size: height and width of the pictures in pixels.
    """
    phrases = {map_spec.tokens: map_spec.phrase for map_spec in map_specs}
    keys = sorted(masks, key=lambda key: (key[1].role, key[1].index))
    return tuple(
        _draw(tokens, phrases[tokens], branch, masks[tokens, branch], size)
        for tokens, branch in keys
        if isinstance(tokens, SubjectTokens)
    )


def overlay(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with all that is outside the mask in faint grey, and the mask's edge drawn in red."""
    inside = numpy.asarray(mask.resize(picture.size, Image.Resampling.NEAREST)) >= 128
    pixels = numpy.asarray(picture.convert("RGB"), dtype=numpy.float32)
    grey = pixels.mean(axis=2, keepdims=True) * 0.35 + 140
    shown = numpy.where(inside[..., None], pixels, grey)
    padded = numpy.pad(inside, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    shown[inside & ~core] = (214, 39, 40)
    return Image.fromarray(shown.astype(numpy.uint8))


def _draw(tokens: SubjectTokens, phrase: str, branch: Branch, mask: SubjectMask, size: tuple[int, int]) -> FoundMask:
    resized = resize_map(mask.values, size)
    values, inside = resized.clamp(0, 1), resized >= mask.threshold
    return FoundMask(
        of="reference" if branch.role == "source" else "picture",
        number=branch.index + 1,
        tokens=tokens,
        phrase=phrase,
        map=Image.fromarray((values * 255).round().byte().numpy()),
        mask=Image.fromarray((inside * 255).byte().numpy()),
        coverage=mask.coverage,
        threshold=mask.threshold,
    )
