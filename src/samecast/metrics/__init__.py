"""Metrics: how well pictures match their prompts and their subject. One file each; a new metric is a file here and a
line in `METRICS`.

Studies, searches, comparisons and their tables, figures and claims take columns, bounds and directions from here.
"""

from collections.abc import Sequence

from samecast.errors import SamecastError
from samecast.metrics.base import Metric, Models, Truth
from samecast.metrics.clip_image import ClipImage
from samecast.metrics.clip_text import ClipText
from samecast.metrics.dino import Dino
from samecast.metrics.fidelity import PeakSignalToNoise, StructuralSimilarity
from samecast.metrics.lpips import Lpips
from samecast.metrics.truth import DETAILS, Both, Identity, Scene

METRICS: dict[str, type[Metric]] = {
    metric.name: metric
    for metric in (
        *(ClipText, ClipImage, Dino),
        *(Identity, Scene, Both, *DETAILS),
        *(Lpips, PeakSignalToNoise, StructuralSimilarity),
    )
}
"""Every metric by its name in `--metrics`."""

ALIGNMENT = ("clip-text", "clip-image")
"""The metrics of a search by default."""
DEFAULT = (*ALIGNMENT, "dino", "identity", "scene", "both")
"""The metrics of a study by default."""
BENCHMARK = ("identity", "scene", "both", *(metric.name for metric in DETAILS), *ALIGNMENT, "dino")
"""The metrics of the Diorama benchmark and `samecast compare` by default, in the order of their tables."""


def metric_types(names: Sequence[str]) -> tuple[type[Metric], ...]:
    """The classes of the metrics with these names, each once.

    Raises:
        SamecastError: no metric has a given name.
    """
    for name in names:
        if name not in METRICS:
            raise SamecastError(f"no metric is called {name!r}; choose from {', '.join(METRICS)}")
    return tuple(METRICS[name] for name in dict.fromkeys(names))


def make_metrics(names: Sequence[str], models: Models | None = None) -> tuple[Metric, ...]:
    """The metrics with these names, each once; loads no weights.

    Args:
        names: names in `METRICS`.
        models: the scoring models; None for the embedded ones.

    Raises:
        SamecastError: no metric has a given name, or a metric is not available here.
    """
    found = tuple(metric(models or Models()) for metric in metric_types(names))
    for metric in found:
        if lacking := metric.missing():
            raise SamecastError(f"metric {metric.name} cannot be measured here: {lacking}")
    return found


def leading(metrics: Sequence[type[Metric]]) -> tuple[type[Metric], type[Metric]]:
    """The two metrics of the trade-off: the first that scores the prompt and the first that scores the subject, among
    those without ground truth.

    Raises:
        SamecastError: one of the two is missing.
    """
    found: list[type[Metric]] = []
    for about in ("prompt", "subject"):
        fitting = [metric for metric in METRICS.values() if metric.about == about and "truth" not in metric.needs]
        chosen = [metric for metric in metrics if metric in fitting]
        if not chosen:
            raise SamecastError(
                f"the trade-off of prompt and subject needs a metric of the {about}: add"
                f" {' or '.join(metric.name for metric in fitting)}"
            )
        found.append(chosen[0])
    return found[0], found[1]


def truths_among(metrics: Sequence[type[Metric]], about: str) -> list[type[Metric]]:
    """The metrics of the truth about a topic, without details."""
    return [m for m in metrics if "truth" in m.needs and m.about == about and m.kind == "share" and not m.is_detail]


__all__ = [
    "ALIGNMENT",
    "BENCHMARK",
    "DEFAULT",
    "METRICS",
    "Metric",
    "Models",
    "Truth",
    "leading",
    "make_metrics",
    "metric_types",
    "truths_among",
]
