"""One unit of a study: photos of a subject that are read together, and all pictures from them, rendered and scored.

Finished pictures are kept.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from samecast.errors import SamecastError
from samecast.experiments.store import content_key
from samecast.experiments.work import Progress, no_progress
from samecast.models.base import Backbone
from samecast.render import Model, load
from samecast.study.binding import Binding, Order, Sources, orders_for, sources_of
from samecast.study.folder import PROGRESS, StudyFolder, shared_everywhere
from samecast.study.kept_subjects import Unreadable
from samecast.study.making import Making
from samecast.study.recipe import Cast, Recipe
from samecast.study.scoring import Judged, metrics_of, score, score_key
from samecast.study.subjects import StudySubject

_log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class StudyUnit:
    """One unit.

    Args:
        name: name of the subject, and of the photo if each is read separately.
        subject: the subject, or the reason why it cannot be read.
        sources: the photos and the pictures to make from them; None for an unreadable subject.
        key: its key.
        cost: its relative duration.
    """

    name: str
    subject: StudySubject | Unreadable
    sources: Sources
    key: str
    cost: float


def units_of(recipe: Recipe, subject: StudySubject | Unreadable) -> list[StudyUnit]:
    """The units of one subject; reads no photo."""
    if isinstance(subject, Unreadable):
        return [StudyUnit(subject.name, subject, Sources((), ()), content_key({"subject": subject.name}), 0.0)]
    several = sources_of(recipe, subject)
    return [
        StudyUnit(
            f"{subject.name}, photo {sources.numbers[0] + 1}" if len(several) > 1 else subject.name,
            subject,
            sources,
            content_key({"subject": subject.name, "photos": sources.numbers}),
            len(sources.numbers) + len(sources.casts) * len(recipe.grid.variants),
        )
        for sources in several
    ]


def orders_in(recipe: Recipe, unit: StudyUnit) -> Iterator[Order]:
    """All entries of one unit, in the table's order."""
    for cast in unit.sources.casts:
        yield from orders_for(recipe, cast, unit.sources.numbers)


@dataclass(frozen=True)
class Tally:
    """The counts of one unit.

    Args:
        name: name of the unit.
        made: number of new pictures.
        kept: number of pictures that were finished before.
        failed: number of pictures that could not be made.
        evaluations: number of rows through the denoiser.
        map_evaluations: number of these that served only to find masks in photos.
    """

    name: str
    made: int
    kept: int
    failed: int
    evaluations: int
    map_evaluations: int


@dataclass(frozen=True)
class ExecutionConfig:
    """Settings of the execution, which do not affect pictures; small and picklable, as they are sent to workers.

    Args:
        path: the study's folder.
        model: path of the model, if it is not that of the recipe.
        device: device of the model.
        rows: largest number of rows in one call of the denoiser; None chooses by size.
        checkpoint: seconds between two checkpoints of a unit in progress.
    """

    path: Path
    model: str = ""
    device: str = "auto"
    rows: int | None = None
    checkpoint: float = CHECKPOINT_SECONDS


class Worker:
    """Renders and scores units of a study with a model that is loaded once.

    Args:
        execution: settings of the execution.
        progress: called with the progress of a unit.
        backbone: the loaded model, if there is one.

    Raises:
        SamecastError: the study is not accessible to this worker, or the model is not the study's.
    """

    def __init__(
        self, execution: ExecutionConfig, progress: Progress = no_progress, backbone: Backbone | None = None
    ) -> None:
        if not shared_everywhere(execution.path):
            raise SamecastError(
                f"this worker has no access to {str(execution.path)!r}: put the study on storage shared by all machines"
            )
        self.execution, self.folder, self.progress = execution, StudyFolder(execution.path), progress
        self.recipe = self.folder.recipe()
        self.backbone = backbone or load_study_model(execution, self.folder).backbone
        if self.backbone.identity.revision != self.recipe.revision:
            raise SamecastError(
                f"{self.backbone.identity.id!r} does not match the study: expected revision"
                f" {self.recipe.revision[:19]}, got {self.backbone.identity.revision[:19]}; give the study's model"
            )
        self.binding = Binding(self.recipe, self.backbone)

    @torch.inference_mode()
    def __call__(self, unit: StudyUnit) -> Tally:
        """Completes one unit.

        Raises:
            SamecastError: its subject or photos cannot be read.
        """
        if isinstance(unit.subject, Unreadable):
            raise SamecastError(unit.subject.reason)
        orders = list(orders_in(self.recipe, unit))
        keys = {order.key for order in orders}
        before = {key for key in keys if self.folder.is_finished(key)}
        evaluations = maps = 0
        if before != keys:
            making = Making(self, unit.subject, unit, [order for order in orders if order.key not in before])
            maps = making.work()
            evaluations = making.session.evaluations
        for cast in unit.sources.casts:
            self._score(unit.subject, cast, [order for order in orders if order.cast == cast])
        finished = {key for key in keys if self.folder.is_finished(key)}
        if finished == keys:
            self.folder.store.clear(PROGRESS, unit.key)
        made = len(finished - before)
        return Tally(unit.name, made, len(before & finished), len(keys - finished), evaluations, maps)

    def _score(self, subject: StudySubject, cast: Cast, orders: Sequence[Order]) -> None:
        """Scores finished pictures that lack scores, storing the scores at intervals."""
        metrics = metrics_of(self.recipe, str(self.backbone.device))
        needed, key = {metric.key for metric in metrics}, score_key(subject, cast)
        known = self.folder.scores(key, metrics)
        wanted = {order.key: order for order in orders if not known.get(order.key, {}).keys() >= needed}
        for scores in score(metrics, subject, self._pictures(subject, list(wanted.values())), known):
            known |= {name: known.get(name, {}) | of for name, of in scores.items()}
            try:
                self.folder.write_scores(key, known)
            except SamecastError as error:
                _log.warning("%s", error)  # the table reports them as missing

    def _pictures(self, subject: StudySubject, orders: Sequence[Order]) -> Iterator[Judged]:
        """Finished pictures with their prompts; damaged pictures are deleted."""
        for order in orders:
            if self.folder.is_finished(order.key):
                try:
                    image = self.folder.picture(order.key)
                except SamecastError as error:
                    self.folder.discard(order.key)
                    reason = f"{error}; it is made again when the study is resumed"
                    data = {"subject": subject.name, "variant": order.variant.name, "reason": reason}
                    self.folder.write_failure(order.key, data)
                    continue
                yield order.key, order.cast.prompt, image


def load_study_model(execution: ExecutionConfig, folder: StudyFolder) -> Model:
    """Loads the study's model from the path of the execution or the recipe."""
    recipe = folder.recipe()
    revision = None if recipe.revision.startswith("sha256:") else recipe.revision
    lora = [path for path, _ in recipe.lora]
    return load(
        execution.model or recipe.model, device=execution.device, dtype=recipe.dtype, lora=lora, revision=revision
    )
