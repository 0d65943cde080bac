"""The interface of metrics: what a metric measures, its bounds and direction, and how it scores a batch of pictures.

Properties for tables, figures and claims are class constants, so that writing these loads nothing; modules of metrics
import torch only inside the methods that compute.
"""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from samecast.experiments.store import content_key

if TYPE_CHECKING:
    from PIL import Image

    from samecast.diorama.scenes import Identity, Scene
    from samecast.metrics.statistics import Kind

    Images = Sequence[Image.Image]

EMBEDDED = "diorama"
"""The name of the scoring models that ship with the package; they know the embedded world and nothing else."""


_ROUNDING = 1e-3
"""By how much rounding may take a score beyond its bounds."""


@dataclass(frozen=True)
class Models:
    """The scoring models and their device.

    Args:
        clip: a CLIP model, as a folder or hub id; `diorama` is the embedded one.
        dino: a self-supervised vision transformer, likewise; `none` for none.
        device: device of the models.
    """

    clip: str = EMBEDDED
    dino: str = EMBEDDED
    device: str = "cpu"


@dataclass(frozen=True)
class Truth:
    """What a picture should show, which is known in the embedded world.

    Args:
        identity: the subject's identity.
        scene: the requested scene.
    """

    identity: "Identity"
    scene: "Scene"


@dataclass(frozen=True)
class Metric(ABC):
    """The base of all metrics.

    Args:
        models: the scoring models.
    """

    name: ClassVar[str]
    """Its name on the command line and in files."""

    column: ClassVar[str]
    """Its column in tables of scores."""

    title: ClassVar[str]
    """Its heading in summary tables."""

    words: ClassVar[str]
    """Its name in a sentence: "raises image alignment"."""

    description: ClassVar[str]
    """What it measures, in one line."""

    bounds: ClassVar[tuple[float, float]]
    """The smallest and the largest score."""

    kind: ClassVar[Literal["cosine", "share", "similarity", "distance"]]
    """The kind of its means: a mean cosine, a share of pictures, a mean similarity, or a mean distance."""

    about: ClassVar[Literal["prompt", "subject", "picture"]]
    """What it scores: how well a picture follows its prompt, how well it keeps the subject, or both."""

    higher_is_better: ClassVar[bool] = True

    needs: ClassVar[frozenset[Literal["prompt", "photos", "truth"]]]
    """What it needs in addition to the pictures."""

    asks: ClassVar[frozenset[Literal["clip", "dino"]]] = frozenset()
    """The scoring model that it uses, a field of `Models`."""

    version: ClassVar[int] = 1
    """Increased when a change of the code changes scores, which invalidates earlier ones."""

    is_detail: ClassVar[bool] = False
    """Whether it appears only in tables of scores, not in summary tables."""

    models: Models = Models()

    @abstractmethod
    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """One score for each picture.

        Args:
            images: RGB pictures of one subject, of any size.
            prompts: the prompt of each picture, if the metric needs prompts.
            photos: photos of the subject, at least one, if it needs photos.
            truths: what each picture should show, if it needs the truth.
        """

    def identity(self) -> Mapping[str, Any]:
        """What its scores depend on in addition to pictures, prompts, photos and truth, such as a model's revision;
        JSON-serialisable; loads no weights.

        Raises:
            SamecastError: a model cannot be found.
        """
        return {}

    def facts(self) -> Mapping[str, str]:
        """The provenance of its scores in tables: columns and their values. Errors as for `identity`."""
        return {}

    def missing(self) -> str:
        """What it lacks here, in a few words; empty if it is available."""
        return ""

    @cached_property
    def key(self) -> str:
        """The key of its scores: its name, and a hash of its version and identity."""
        return f"{self.name}-{content_key({'version': self.version, **self.identity()})[:12]}"

    @classmethod
    def accepts(cls, value: object) -> bool:
        """Whether a value read from a file can be one of its scores: None, for a share a truth value, else a number
        within the bounds."""
        if value is None or isinstance(value, bool) or cls.kind == "share":
            return value is None or (isinstance(value, bool) and cls.kind == "share")
        if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > sys.float_info.max):
            return False
        low, high = cls.bounds
        return math.isnan(value) or low - _ROUNDING <= value <= high + _ROUNDING

    @classmethod
    def sign(cls) -> int:
        """1 if higher is better, -1 if lower is."""
        return 1 if cls.higher_is_better else -1

    @classmethod
    def label(cls) -> str:
        """The label of an axis of a figure."""
        return f"{cls.words} ({cls.description}{'' if cls.higher_is_better else '; lower is better'})"

    @classmethod
    def statistic(cls) -> "Kind":
        """The statistical kind of its means: cosines and distances stay so far from their bounds that they count as
        unbounded."""
        return "share" if cls.kind == "share" else "mean"
