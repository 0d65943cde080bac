"""Metrics of the truth: the probe, which shares nothing with CLIP, reads what a picture of the embedded world shows,
and the reading is compared with the right identity and scene. Verdicts are right or wrong for each picture, so that
means are shares; details are metrics of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from samecast.metrics.base import Metric, Truth

if TYPE_CHECKING:
    from samecast.diorama.probe import Reading
    from samecast.metrics.base import Images


@dataclass(frozen=True)
class _Verdict(Metric):
    """One item of the probe's verdict; the column is the item's name."""

    kind = "share"
    about = "subject"
    bounds = (0.0, 1.0)
    needs = frozenset({"truth"})

    def identity(self) -> Mapping[str, Any]:
        """The probe's weights, and the version of the benchmark, which defines what is right."""
        from samecast.diorama.benchmark import BENCHMARK_VERSION

        return {"revision": probe_revision(), "benchmark": BENCHMARK_VERSION}

    def facts(self) -> Mapping[str, str]:
        """The probe."""
        return {"probe_revision": probe_revision()}

    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """True or false for shares, a number for distances."""
        from samecast.diorama.probe import judge

        verdicts = [
            judge(reading, truth.identity, truth.scene) for reading, truth in zip(readings(images), truths, strict=True)
        ]
        return [getattr(verdict, self.column) for verdict in verdicts]


@dataclass(frozen=True)
class Identity(_Verdict):
    """Whether a picture shows the same subject."""

    name = "identity"
    column = "identity"
    title = "same"
    words = "identity right"
    description = "class, pattern, accessory and both colours are the subject's"


@dataclass(frozen=True)
class Scene(_Verdict):
    """Whether a picture shows the requested scene."""

    name = "scene"
    column = "scene"
    title = "scene"
    words = "scene right"
    description = "pose, view and background are the prompt's"
    about = "prompt"


@dataclass(frozen=True)
class Both(_Verdict):
    """Whether identity and scene are right: the main measure."""

    name = "both"
    column = "both"
    title = "both"
    words = "both right"
    description = "identity and scene are right"
    about = "picture"


@dataclass(frozen=True)
class Kind(_Verdict):
    """Whether the class is right."""

    name = "class"
    column = "kind"
    title = "class"
    words = "class right"
    description = "the class is the subject's"
    is_detail = True


@dataclass(frozen=True)
class Pattern(_Verdict):
    """Whether the pattern is right."""

    name = "pattern"
    column = "pattern"
    title = "pattern"
    words = "pattern right"
    description = "the pattern is the subject's"
    is_detail = True


@dataclass(frozen=True)
class Accessory(_Verdict):
    """Whether the accessory is right."""

    name = "accessory"
    column = "accessory"
    title = "accessory"
    words = "accessory right"
    description = "the accessory is the subject's"
    is_detail = True


@dataclass(frozen=True)
class BaseError(_Verdict):
    """The error of the base colour."""

    name = "base-error"
    column = "base_error"
    title = "colour 1"
    words = "error of colour 1"
    description = "CIEDE2000 to the subject's"
    bounds = (0.0, float("inf"))
    kind = "distance"
    higher_is_better = False
    is_detail = True


@dataclass(frozen=True)
class SecondError(_Verdict):
    """The error of the second colour."""

    name = "second-error"
    column = "second_error"
    title = "colour 2"
    words = "error of colour 2"
    description = "CIEDE2000 to the subject's"
    bounds = (0.0, float("inf"))
    kind = "distance"
    higher_is_better = False
    is_detail = True


@dataclass(frozen=True)
class Pose(_Verdict):
    """Whether the pose is right."""

    name = "pose"
    column = "pose"
    title = "pose"
    words = "pose right"
    description = "the pose is the prompt's"
    about = "prompt"
    is_detail = True


@dataclass(frozen=True)
class View(_Verdict):
    """Whether the view is right."""

    name = "view"
    column = "view"
    title = "view"
    words = "view right"
    description = "the view is the prompt's"
    about = "prompt"
    is_detail = True


@dataclass(frozen=True)
class Background(_Verdict):
    """Whether the background is right."""

    name = "background"
    column = "background"
    title = "background"
    words = "background right"
    description = "the background is the prompt's"
    about = "prompt"
    is_detail = True


DETAILS = (Kind, Pattern, Accessory, BaseError, SecondError, Pose, View, Background)
"""The items of identity and scene."""


def readings(images: "Images") -> "list[Reading]":
    """The probe's readings of pictures, cached."""
    return _reader()(images)


@cache
def probe_revision() -> str:
    """A hash of the probe's weights."""
    from samecast.diorama.probe import WEIGHTS
    from samecast.models.fingerprint import file_revision

    return file_revision(WEIGHTS / "probe.safetensors")


@cache
def _reader() -> Any:
    import torch

    from samecast.diorama.probe import load_probe
    from samecast.metrics.memory import remembering

    probe = load_probe()

    def read(images: "Images") -> "list[Reading]":
        with torch.no_grad():
            return probe.read(images)

    return remembering(read, most=256)
