"""The base of CLIP metrics: their model, and its part of keys and tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samecast.metrics.base import Metric


@dataclass(frozen=True)
class ClipMetric(Metric):
    """The base of metrics that are cosines of CLIP's embeddings."""

    bounds = (-1.0, 1.0)
    kind = "cosine"
    asks = frozenset({"clip"})

    def identity(self) -> Mapping[str, Any]:
        """The CLIP model's revision and preprocessing."""
        from samecast.metrics.alignment import describe_clip

        return describe_clip(self.models.clip)

    def facts(self) -> Mapping[str, str]:
        """The CLIP model."""
        return {"clip": self.models.clip, "clip_revision": self.identity()["revision"]}
