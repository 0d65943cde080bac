"""Image alignment by a self-supervised vision transformer: the mean cosine of a picture's first token with those of the
subject's photos, as in DreamBooth (Ruiz et al., CVPR 2023, arXiv 2208.12242, section 4.2: DINO)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samecast.metrics.base import Metric, Truth

if TYPE_CHECKING:
    from samecast.metrics.base import Images

NONE = "none"


@dataclass(frozen=True)
class Dino(Metric):
    """Image alignment by DINO, or another vision transformer with its layout."""

    name = "dino"
    column = "dino_alignment"
    title = "DINO"
    words = "DINO alignment"
    description = "DINO cosine with the photos"
    bounds = (-1.0, 1.0)
    kind = "cosine"
    about = "subject"
    needs = frozenset({"photos"})
    asks = frozenset({"dino"})

    def missing(self) -> str:
        """The missing model, if it is `none`."""
        return "it needs a vision transformer, but --dino is none" if self.models.dino == NONE else ""

    def identity(self) -> Mapping[str, Any]:
        """The model's revision and preprocessing."""
        from samecast.metrics.alignment import describe_vit

        return describe_vit(self.models.dino)

    def facts(self) -> Mapping[str, str]:
        """The model."""
        return {"dino": self.models.dino, "dino_revision": self.identity()["revision"]}

    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """Mean cosines over all photos, -1 to 1."""
        from samecast.metrics.alignment import vit_of

        return vit_of(self.models.dino, self.models.device).image_alignment(images, photos)
