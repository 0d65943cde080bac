"""Text alignment: the cosine of a picture's and its prompt's CLIP embeddings (Radford et al., ICML 2021), unscaled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samecast.metrics.base import Metric, Truth

if TYPE_CHECKING:
    from samecast.metrics.base import Images


@dataclass(frozen=True)
class ClipText(Metric):
    """Text alignment by CLIP."""

    name = "clip-text"
    column = "text_alignment"
    title = "text"
    words = "text alignment"
    description = "CLIP cosine with the prompt"
    bounds = (-1.0, 1.0)
    kind = "cosine"
    about = "prompt"
    needs = frozenset({"prompt"})
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
        """Cosines, -1 to 1."""
        from samecast.metrics.alignment import clip_of

        return clip_of(self.models.clip, self.models.device).text_alignment(images, prompts)
