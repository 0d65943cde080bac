"""What a metric is: what it measures, in which bounds and direction, and how it scores a batch of pictures.

What a table, a figure or a claim needs to know of a metric are constants of its class, so that nothing is loaded to
write them; modules of metrics import torch only inside the methods that compute.
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
    """Which models are asked, and where they compute.

    Args:
        clip: a CLIP model, a folder or hub id; `diorama` is the embedded one.
        dino: likewise, a self-supervised vision transformer; `none` is none.
        device: where to compute.
    """

    clip: str = EMBEDDED
    dino: str = EMBEDDED
    device: str = "cpu"


@dataclass(frozen=True)
class Truth:
    """What a picture should show, where that is known: in the embedded world.

    Args:
        identity: of the subject.
        scene: that was asked for.
    """

    identity: "Identity"
    scene: "Scene"


@dataclass(frozen=True)
class Metric(ABC):
    """The base of all metrics.

    Args:
        models: that are asked.
    """

    name: ClassVar[str]
    """On the command line and in files."""

    column: ClassVar[str]
    """In tables of scores."""

    title: ClassVar[str]
    """At the head of a table for people."""

    words: ClassVar[str]
    """In a sentence: "raises image alignment"."""

    description: ClassVar[str]
    """What is measured, in one line."""

    bounds: ClassVar[tuple[float, float]]
    """The least and the greatest score."""

    kind: ClassVar[Literal["cosine", "share", "similarity", "distance"]]
    """What a mean of scores is: a mean cosine, a share of pictures, a mean similarity, or a mean distance."""

    about: ClassVar[Literal["prompt", "subject", "picture"]]
    """What it judges: how a picture follows its prompt, how it keeps the subject, or both."""

    higher_is_better: ClassVar[bool] = True

    needs: ClassVar[frozenset[Literal["prompt", "photos", "truth"]]]
    """What it needs beside the pictures."""

    asks: ClassVar[frozenset[Literal["clip", "dino"]]] = frozenset()
    """Which of `Models` it asks."""

    version: ClassVar[int] = 1
    """Raised where a change of the code changes scores: earlier ones then no longer count."""

    is_detail: ClassVar[bool] = False
    """Whether it is kept in tables of scores, and left out of those for people."""

    models: Models = Models()

    @abstractmethod
    def score(
        self, images: "Images", prompts: Sequence[str] = (), photos: "Images" = (), truths: Sequence[Truth] = ()
    ) -> Sequence[float]:
        """One score for each picture.

        Args:
            images: RGB pictures of any size, of one subject.
            prompts: of each picture its own, where the metric needs the prompt.
            photos: of the subject, at least one, where it needs photos.
            truths: what each picture should show, where it needs the truth.
        """

    def identity(self) -> Mapping[str, Any]:
        """What else than pictures, prompts, photos and truth its scores depend on, such as a model's revision; can be
        written as JSON, and loads no weights.

        Raises:
            SamecastError: a model cannot be found.
        """
        return {}

    def facts(self) -> Mapping[str, str]:
        """What a table says of where its scores are from: columns and their values. Errors as for `identity`."""
        return {}

    def missing(self) -> str:
        """What it would need that is not here, in a few words; empty where it can be measured."""
        return ""

    @cached_property
    def key(self) -> str:
        """Under what its scores are kept: its name, and a hash of its version and identity."""
        return f"{self.name}-{content_key({'version': self.version, **self.identity()})[:12]}"

    @classmethod
    def accepts(cls, value: object) -> bool:
        """Whether a value read from a file can be one of its scores: None, for a share a truth value, else a number
        within the bounds."""
        if value is None or isinstance(value, bool) or cls.kind == "share":
            return value is None or (isinstance(value, bool) and cls.kind == "share")
        if not isinstance(value, int | float) or abs(value) > sys.float_info.max:
            return False
        low, high = cls.bounds
        return math.isnan(value) or low - _ROUNDING <= value <= high + _ROUNDING

    @classmethod
    def sign(cls) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if cls.higher_is_better else -1

    @classmethod
    def label(cls) -> str:
        """What stands along an axis of a figure."""
        return f"{cls.words} ({cls.description}{'' if cls.higher_is_better else '; lower is better'})"

    @classmethod
    def statistic(cls) -> "Kind":
        """What its means are to statistics: cosines and distances stay so far from their bounds that these do not
        count."""
        return "share" if cls.kind == "share" else "mean"
