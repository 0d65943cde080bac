"""Image alignment by CLIP: the mean cosine of a picture's embedding with those of the subject's photos, as DreamBooth
reports it (Ruiz et al., CVPR 2023, arXiv 2208.12242, section 4.2: CLIP-I)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samecast.metrics.base import Metric, Truth

if TYPE_CHECKING:
    from samecast.metrics.base import Images


@dataclass(frozen=True)
class ClipImage(Metric):
    """Image alignment by CLIP."""

    name = "clip-image"
    column = "image_alignment"
    title = "image"
    words = "image alignment"
    description = "CLIP cosine with the photos"
    bounds = (-1.0, 1.0)
    kind = "cosine"
    about = "subject"
    needs = frozenset({"photos"})
    asks = frozenset({"clip"})

    def identity(self) -> Mapping[str, Any]:
        """The CLIP model's revision and preprocessing."""
        from samecast.metrics.alignment import describe_clip

        return describe_clip(self.models.clip)

    def facts(self) -> Mapping[str, str]:
        """Which CLIP model."""
        return {"clip": self.models.clip, "clip_revision": self.identity()["revision"]}

    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """Mean cosines over all photos, -1 to 1."""
        from samecast.metrics.alignment import clip_of

        return clip_of(self.models.clip, self.models.device).image_alignment(images, photos)
