"""One unit of a study: one subject, every picture of it made, written and scored; what is finished is left alone."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from samecast.backbones.base import Backbone
from samecast.control.session import Session
from samecast.errors import SamecastError
from samecast.render import Model, load
from samecast.study.casting import Binding, Order, orders_of, sources_of
from samecast.study.folder import StudyFolder, shared_everywhere
from samecast.study.lockstep import looks_of
from samecast.study.making import Making
from samecast.study.scoring import Scorers, load_scorers
from samecast.study.subjects import StudySubject

_log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 60.0
Progress = Callable[[str, int, int], None]
"""Called with a subject's name, how many nodes of its tree are done, and how many there are."""


@dataclass(frozen=True)
class Tally:
    """What one unit took.

    Args:
        name: of the subject.
        made: pictures made now.
        kept: pictures that were finished before.
        failed: pictures that could not be made.
        evaluations: rows that went through the denoiser.
        map_evaluations: of these, rows that only showed where the subject is in its photos.
    """

    name: str
    made: int
    kept: int
    failed: int
    evaluations: int
    map_evaluations: int


@dataclass(frozen=True)
class Bench:
    """How to work, none of which changes a picture; small and picklable, so that it can be sent to workers.

    Args:
        path: the study's folder.
        model: where the model lies, if not where the recipe says.
        device: where to compute.
        rows: most rows in one call of the denoiser; None chooses by size.
        checkpoint: seconds between two checkpoints of a subject in progress.
    """

    path: Path
    model: str = ""
    device: str = "auto"
    rows: int | None = None
    checkpoint: float = CHECKPOINT_SECONDS


class Worker:
    """Makes and scores subjects of one study. Loads the model once.

    Args:
        bench: how to work.
        progress: told how far a subject is.
        backbone: the model, where it is loaded already.

    Raises:
        SamecastError: the study is not to be seen from here, or the model is not the one that the study is of.
    """

    def __init__(self, bench: Bench, progress: Progress | None = None, backbone: Backbone | None = None) -> None:
        if not shared_everywhere(bench.path):
            raise SamecastError(
                f"this worker does not see {str(bench.path)!r}: put the study on storage that all share"
            )
        self.bench, self.folder = bench, StudyFolder(bench.path)
        self.recipe = self.folder.recipe()
        self.progress: Progress = progress or (lambda name, done, total: None)
        self.backbone = backbone or load_study_model(bench, self.folder).backbone
        if self.backbone.identity.revision != self.recipe.revision:
            raise SamecastError(
                f"{self.backbone.identity.id!r} is not the model of this study any more: it was"
                f" {self.recipe.revision[:19]}, and is {self.backbone.identity.revision[:19]}"
            )
        self.binding = Binding(self.recipe, self.backbone)
        self._scorers: Scorers | None = None

    @torch.inference_mode()
    def __call__(self, name: str) -> Tally:
        """One subject, from where it stands to the end."""
        subject = self.folder.subject(name)
        orders = list(orders_of(self.recipe, subject))
        keys = {order.key for order in orders}
        before = {key for key in keys if self.folder.is_finished(key)}
        session = Session(self.backbone, self._map_sites(orders))
        maps = 0
        with session:
            for sources in sources_of(self.recipe, subject):
                of = [o for o in orders if o.numbers == sources.numbers and o.key not in before]
                if of:
                    maps += Making(self, session, subject, sources, of).work()
        self._score(subject, orders)
        finished = {key for key in keys if self.folder.is_finished(key)}
        if finished == keys:
            self.folder.forget_progress(name)
        made = len(finished) - len(before)
        return Tally(name, made, len(before), len(keys) - len(finished), session.evaluations, maps)

    def _map_sites(self, orders: Sequence[Order]) -> frozenset[int]:
        wishes = [self.binding.wish(order) for order in orders]
        return frozenset(site for look in looks_of(wishes) for site in look.sites)

    def scorers(self) -> Scorers:
        """Those who judge, loaded when they are first needed."""
        if self._scorers is None:
            self._scorers = load_scorers(self.recipe.clip, self.recipe.dino, str(self.backbone.device))
        return self._scorers

    def _score(self, subject: StudySubject, orders: Sequence[Order]) -> None:
        scorers = self.scorers()
        wanted = {
            order.key: (order.cast.prompt, self.folder.picture(order.key))
            for order in orders
            if self.folder.is_finished(order.key) and self.folder.score(scorers.key(order.key, subject)) is None
        }
        if not wanted:
            return
        for key, scores in scorers.score(subject, wanted):
            try:
                self.folder.write_score(scorers.key(key, subject), {"run": key, **scores})
            except SamecastError as error:
                _log.warning("%s", error)  # the table will tell that it is missing


def load_study_model(bench: Bench, folder: StudyFolder) -> Model:
    """The study's model, from where the bench or the recipe says."""
    recipe = folder.recipe()
    revision = None if recipe.revision.startswith("sha256:") else recipe.revision
    lora = [path for path, _ in recipe.lora]
    return load(bench.model or recipe.model, device=bench.device, dtype=recipe.dtype, lora=lora, revision=revision)
