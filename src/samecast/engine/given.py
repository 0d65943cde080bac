"""Masks that the user gives: PNGs, PIL images or tensors, white or 1 where the subject is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from samecast.core.masks import SubjectMask
from samecast.errors import SamecastError
from samecast.photos import Fit, fit_photo, mask_from_array, open_photo

GivenMask = str | Path | Image.Image | Tensor | NDArray[Any]
TargetMasks = GivenMask | Sequence[GivenMask] | Mapping[str, GivenMask | Sequence[GivenMask]]
"""Masks of pictures: of one subject, or of named ones by name; one for all prompts, or one for each."""
_PROPORTION = 0.02


def one_or_more(given: Any, *kinds: type) -> tuple[Any, ...]:
    """What was given, one thing of these kinds or several, as several."""
    return (given,) if isinstance(given, kinds) else tuple(given)


def several_masks(masks: GivenMask | Sequence[GivenMask]) -> tuple[GivenMask, ...]:
    """One mask or several, as several."""
    return one_or_more(masks, str, Path, Image.Image, Tensor, numpy.ndarray)


def masks_by_name(masks: TargetMasks) -> tuple[GivenMask, ...] | Mapping[str, tuple[GivenMask, ...]]:
    """One mask or several as several, also where they are given by the names of subjects."""
    if isinstance(masks, Mapping):
        return {str(name): several_masks(of_one) for name, of_one in masks.items()}
    return several_masks(masks)


def read_mask(
    mask: GivenMask, whose: str, *, height: int, width: int, fit: Fit, photo: tuple[int, int] | None
) -> Image.Image:
    """A mask as the grey picture that goes with the picture of the same size.

    Args:
        mask: any picture, or a tensor (height, width) of values 0 to 1.
        whose: the picture it is of, for messages.
        height: in pixels.
        width: likewise.
        fit: as for the picture; what is padded is background.
        photo: (width, height) of the photo that it is of; None where it is of a picture to be made.

    Raises:
        SamecastError: it cannot be read, has other proportions than its photo, or shows nothing or everything.
    """
    image = _to_image(mask, whose)
    if photo is not None and abs(image.width * photo[1] / (image.height * photo[0]) - 1) > _PROPORTION:
        raise SamecastError(
            f"the mask of {whose} is {image.width} x {image.height}, its photo {photo[0]} x {photo[1]}:"
            " they must have the same proportions"
        )
    # Padding is white; on the negative that is background.
    negative = fit_photo(ImageOps.invert(image.convert("RGB")), height=height, width=width, fit=fit)
    fitted = ImageOps.invert(negative).convert("L")
    share = float((numpy.asarray(fitted) >= 128).mean())
    if share in (0.0, 1.0):
        what = "empty: nothing in it is white" if share == 0 else "full: nothing in it is black"
        raise SamecastError(f"the mask of {whose} is {what}; the subject is to be white, the rest black")
    return fitted


def to_subject_mask(mask: Image.Image) -> SubjectMask:
    """A grey picture as a mask; a token belongs to the subject where at least half of it does."""
    return SubjectMask(torch.from_numpy(numpy.asarray(mask, dtype=numpy.float32) / 255))


def _to_image(mask: GivenMask, whose: str) -> Image.Image:
    if isinstance(mask, Tensor):
        values = mask.detach().float().cpu()
        if values.ndim != 2 or not torch.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise SamecastError(
                f"the mask of {whose} must be a tensor (height, width) of 0 to 1; got shape {tuple(values.shape)}"
            )
        return Image.fromarray((values * 255).round().to(torch.uint8).numpy())
    if isinstance(mask, numpy.ndarray):
        return mask_from_array(mask, whose)
    return mask if isinstance(mask, Image.Image) else open_photo(mask)
