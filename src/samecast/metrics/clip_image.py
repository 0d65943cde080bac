"""Image alignment by CLIP: the mean cosine of a picture's embedding with those of the subject's photos, as in
DreamBooth (Ruiz et al., CVPR 2023, arXiv 2208.12242, section 4.2: CLIP-I).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samecast.metrics.base import Truth
from samecast.metrics.clip import ClipMetric

if TYPE_CHECKING:
    from samecast.metrics.base import Images


@dataclass(frozen=True)
class ClipImage(ClipMetric):
    """Image alignment by CLIP."""

    name = "clip-image"
    column = "image_alignment"
    title = "image"
    words = "image alignment"
    description = "CLIP cosine with the photos"
    about = "subject"
    needs = frozenset({"photos"})

    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """Mean cosines over all photos, -1 to 1."""
        from samecast.metrics.alignment import clip_of

        return clip_of(self.models.clip, self.models.device).image_alignment(images, photos)
