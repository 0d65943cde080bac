"""LPIPS, the learned perceptual distance of a picture to the subject's photos (Zhang et al., CVPR 2018, arXiv
1801.03924), with AlexNet. Nothing is downloaded for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samecast.metrics.base import Metric, Truth
from samecast.metrics.fidelity import over_photos

if TYPE_CHECKING:
    from samecast.metrics.base import Images


@dataclass(frozen=True)
class Lpips(Metric):
    """The LPIPS distance: 0 is equal."""

    name = "lpips"
    column = "lpips"
    title = "LPIPS"
    words = "LPIPS distance"
    description = "perceptual distance to the photos"
    bounds = (0.0, float("inf"))
    kind = "distance"
    about = "subject"
    higher_is_better = False
    needs = frozenset({"photos"})

    def missing(self) -> str:
        """The missing package or AlexNet's weights."""
        from samecast.core.quality import lpips_missing

        return lpips_missing()

    def identity(self) -> Mapping[str, Any]:
        """The package's version, as the package contains the weights of the distance."""
        from importlib.metadata import version

        return {} if self.missing() else {"lpips": version("lpips")}

    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """The mean over all photos, 0 or more."""
        from samecast.core.quality import perceptual_distance

        return over_photos(perceptual_distance, images, photos)
