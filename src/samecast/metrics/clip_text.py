"""Text alignment: the cosine of a picture's and its prompt's CLIP embeddings (Radford et al., ICML 2021), unscaled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samecast.metrics.base import Truth
from samecast.metrics.clip import ClipMetric

if TYPE_CHECKING:
    from samecast.metrics.base import Images


@dataclass(frozen=True)
class ClipText(ClipMetric):
    """Text alignment by CLIP."""

    name = "clip-text"
    column = "text_alignment"
    title = "text"
    words = "text alignment"
    description = "CLIP cosine with the prompt"
    about = "prompt"
    needs = frozenset({"prompt"})

    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """Cosines, -1 to 1."""
        from samecast.metrics.alignment import clip_of

        return clip_of(self.models.clip, self.models.device).text_alignment(images, prompts)
