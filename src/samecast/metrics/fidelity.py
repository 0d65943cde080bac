"""Pixel similarity of a picture to the subject's photos: PSNR, and SSIM (Wang et al., 2004).

They show whether a picture copies the photo's layout, which is not the same as keeping the subject. A photo of another
size is resized to the picture's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from samecast.metrics.base import Metric, Truth

if TYPE_CHECKING:
    from PIL import Image

    from samecast.metrics.base import Images

MOST = 100.0
"""PSNR of equal pictures, in dB, so that means are finite."""


@dataclass(frozen=True)
class PeakSignalToNoise(Metric):
    """PSNR in dB over 8-bit values; 100 for equal pictures."""

    name = "psnr"
    column = "psnr"
    title = "PSNR"
    words = "PSNR"
    description = "dB against the photos, pixel by pixel"
    bounds = (0.0, MOST)
    kind = "similarity"
    about = "subject"
    needs = frozenset({"photos"})

    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """The mean over all photos, 0 to 100 dB."""
        from samecast.core.quality import peak_signal_to_noise

        return over_photos(peak_signal_to_noise, images, photos, most=MOST)


@dataclass(frozen=True)
class StructuralSimilarity(Metric):
    """SSIM."""

    name = "ssim"
    column = "ssim"
    title = "SSIM"
    words = "SSIM"
    description = "structural similarity to the photos"
    bounds = (-1.0, 1.0)
    kind = "similarity"
    about = "subject"
    needs = frozenset({"photos"})

    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """The mean over all photos, -1 to 1."""
        from samecast.core.quality import structural_similarity

        return over_photos(structural_similarity, images, photos)


def over_photos(
    compare: "Callable[[Image.Image, Image.Image], float]",
    images: "Images",
    photos: "Images",
    *,
    most: float = math.inf,
) -> list[float]:
    """The mean of a comparison over all photos, resized to the picture's size.

    Args:
        compare: compares a photo with a picture.
        images: RGB pictures.
        photos: photos of the subject, at least one.
        most: upper limit of one comparison.
    """
    fitted = {size: [_resized(photo, size) for photo in photos] for size in {image.size for image in images}}
    return [fmean(min(most, compare(photo, image)) for photo in fitted[image.size]) for image in images]


def _resized(photo: "Image.Image", size: tuple[int, int]) -> "Image.Image":
    from PIL import Image

    rgb = photo.convert("RGB")
    return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS)
