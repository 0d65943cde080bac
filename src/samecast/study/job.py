"""A study from end to end: checked, written to its folder, run by an executor."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from samecast.engine.prepare import size_of
from samecast.experiments.executors import Executor, Watch
from samecast.experiments.executors.local import LocalExecutor
from samecast.experiments.runner import FAILURES, run_units
from samecast.experiments.work import Outcome
from samecast.metrics import Metric, metric_types
from samecast.metrics.dino import NONE
from samecast.models.base import Backbone
from samecast.models.loading import choose_device, choose_dtype
from samecast.photos import fit_photo
from samecast.study.binding import Binding
from samecast.study.folder import PROGRESS, StudyFolder
from samecast.study.kept_subjects import Unreadable
from samecast.study.photos import LazyPhotos, Photos
from samecast.study.recipe import Recipe
from samecast.study.scoring import check_subjects, metrics_of, score_key, settle_scoring
from samecast.study.subjects import StudySubject
from samecast.study.unit import ExecutionConfig, StudyUnit, Tally, Worker, orders_in, units_of


@dataclass(frozen=True)
class Status:
    """The progress of a subject.

    Args:
        name: name of the subject.
        done: number of finished pictures.
        total: number of pictures in all.
        state: state in words.
    """

    name: str
    done: int
    total: int
    state: str

    @property
    def finished(self) -> bool:
        """Whether every picture is finished."""
        return self.done == self.total


@dataclass(frozen=True)
class StudyRun:
    """The outcome of a run.

    Args:
        tallies: counts of the units that ran and did not fail.
        kept: number of pictures that were finished before.
        failed: number of units that failed as a whole.
    """

    tallies: tuple[Tally, ...]
    kept: int
    failed: int


def fitted(subject: StudySubject, recipe: Recipe, backbone: Backbone) -> StudySubject:
    """A subject with its photos fitted to the model when they are read.

    Each photo has the size of a run of its own; photos that are read together have the first one's size.
    """

    def fit(photos: Photos, together: bool) -> Photos:
        def read(number: int) -> Any:
            photo = photos[number]
            first = photos[0] if together and number else photo
            height, width = size_of(backbone, recipe.settings, first.size)
            return fit_photo(photo, height=height, width=width, fit=recipe.settings.fit)

        return LazyPhotos([partial(read, number) for number in range(len(photos))])

    references = fit(subject.references, recipe.photos == "together")
    return replace(subject, references=references, judged=fit(subject.judged, together=False))


def prepare(
    path: str | Path, recipe: Recipe, subjects: Sequence[StudySubject], backbone: Backbone, *, dtype: str = ""
) -> tuple[StudyFolder, Recipe]:
    """Checks a study completely, then writes its recipe and subjects.

    Args:
        path: path of its folder.
        recipe: the recipe.
        subjects: the subjects.
        backbone: the model, which sets the open values of the recipe.
        dtype: precision of the pictures, by name; empty is that of this model.

    Raises:
        SamecastError: the study cannot be run, or the folder holds something else.
    """
    recipe, ready = settle(recipe, subjects, backbone, dtype=dtype)
    folder = StudyFolder(path)
    write_down(folder, recipe, ready)
    return folder, recipe


def write_down(folder: StudyFolder, recipe: Recipe, subjects: Sequence[StudySubject]) -> None:
    """Writes the checked study, after a check that its metrics are available; errors as for `prepare`."""
    for metric in metrics_of(recipe):
        metric.identity()
    folder.create(recipe, subjects)


def rescore(folder: StudyFolder, metrics: Sequence[str]) -> None:
    """Changes the metrics of a study for its next run; existing scores are kept.

    Args:
        folder: folder of the study.
        metrics: names of the metrics.

    Raises:
        SamecastError: a metric does not exist, or is not available here or for these subjects.
    """
    recipe = folder.recipe()
    types = metric_types(metrics)
    check_subjects(types, (subject for subject in folder.subjects() if not isinstance(subject, Unreadable)))
    dino = "" if recipe.dino == NONE else recipe.dino
    recipe = settle_scoring(replace(recipe, metrics=tuple(metric.name for metric in types), dino=dino))
    for metric in metrics_of(recipe):
        metric.identity()
    folder.rescore(recipe)


def settle(
    recipe: Recipe, subjects: Sequence[StudySubject], backbone: Backbone, *, dtype: str = ""
) -> tuple[Recipe, tuple[StudySubject, ...]]:
    """The recipe with open values set by the model, and the subjects in order, with photos fitted when read.

    Arguments and errors as for `prepare`; photos are not read yet.
    """
    identity, settings = backbone.identity, recipe.settings
    height, width = size_of(backbone, settings, None)
    backbone.latent_shape(height, width)
    if settings.fit != "keep":
        settings = replace(settings, height=height, width=width)
    if recipe.metrics:  # by default, unavailable metrics are left out
        check_subjects(metric_types(recipe.metrics), subjects)
    recipe = replace(
        settle_scoring(recipe),
        settings=backbone.settle(settings),
        revision=identity.revision,
        lora=identity.lora,
        dtype=dtype or str(backbone.dtype).removeprefix("torch."),
    )
    # A subject's hidden photos follow its whole ones, whatever their names.
    ordered = sorted(subjects, key=lambda subject: (subject.subject, subject.hidden))
    binding = Binding(recipe, backbone)
    for subject in ordered:
        binding.check(subject)
    return recipe, tuple(fitted(subject, recipe, backbone) for subject in ordered)


def settled_dtype(device: str, dtype: str) -> str:
    """The precision of a name, resolving `auto` for the device of this process.

    Raises:
        SamecastError: the device or precision does not exist.
    """
    return str(choose_dtype(dtype, choose_device(device))).removeprefix("torch.")


def run_study(
    folder: StudyFolder,
    execution: ExecutionConfig,
    *,
    executor: Executor | None = None,
    backbone: Backbone | None = None,
    watch: Watch | None = None,
    finished: Callable[[Outcome[StudyUnit, Tally], int, int], None] | None = None,
) -> StudyRun:
    """Renders and scores every missing picture of a study. Failures are recorded and do not stop the others.

    Args:
        folder: folder of the study.
        execution: settings of the execution.
        executor: where to run; None is this process.
        backbone: the loaded model for the local executor, if there is one.
        watch: callbacks for progress and messages.
        finished: called with each unit's outcome, the number of outcomes so far, and the total.

    Raises:
        SamecastError: another process runs it, or it cannot be run.
    """
    folder.recipe()  # before the lock creates the folder
    make = partial(Worker, execution) if backbone is None else partial(Worker, execution, backbone=backbone)
    with folder.store.locked():
        waiting, kept = list[StudyUnit](), 0
        for unit, done, scored in _standing(folder):
            if done and scored:
                folder.store.remove(FAILURES, unit.key)
                kept += done
            else:
                waiting.append(unit)
        ended = run_units(folder.store, waiting, make, executor or LocalExecutor(), watch, finished)
    return StudyRun(ended.results, kept + sum(tally.kept for tally in ended.results), ended.failed)


def _standing(folder: StudyFolder) -> Iterator[tuple[StudyUnit, int, bool]]:
    """Each unit, its number of pictures (0 unless all exist), and whether all are scored."""
    recipe = folder.recipe()
    metrics = metrics_of(recipe)
    for subject in folder.subjects():
        for unit in units_of(recipe, subject):
            keys = {order.key for order in orders_in(recipe, unit)}
            whole = bool(keys) and all(folder.is_finished(key) for key in keys)
            yield unit, len(keys) if whole else 0, whole and _scored(folder, metrics, unit, keys)


def _scored(folder: StudyFolder, metrics: Sequence[Metric], unit: StudyUnit, keys: set[str]) -> bool:
    assert not isinstance(unit.subject, Unreadable)
    known, needed = set[str](), {metric.key for metric in metrics}
    for cast in unit.sources.casts:
        scores = folder.scores(score_key(unit.subject, cast), metrics)
        known |= {key for key, data in scores.items() if data.keys() >= needed}
    return keys <= known


def status(folder: StudyFolder) -> Iterator[Status]:
    """The progress of each subject; damaged ones are included as such.

    Raises:
        SamecastError: the folder holds no study.
    """
    recipe = folder.recipe()
    for subject in folder.subjects():
        done, total, states = 0, 0, list[str]()
        for unit in units_of(recipe, subject):
            keys = {order.key for order in orders_in(recipe, unit)}
            there = sum(folder.is_finished(key) for key in keys)
            done, total = done + there, total + len(keys)
            if isinstance(subject, Unreadable):
                states.append("damaged")
            elif there < len(keys):
                failed = folder.store.has(FAILURES, unit.key)
                begun = folder.store.folder(PROGRESS, unit.key).is_dir()
                states.append("failed" if failed else "in progress" if begun else "to do")
        name = subject.name
        if isinstance(subject, Unreadable):
            total = len(recipe.grid.variants)
        # Of several states the most important one.
        state = min(states, key=("damaged", "failed", "in progress", "to do").index, default="finished")
        yield Status(name, done, total, state)
