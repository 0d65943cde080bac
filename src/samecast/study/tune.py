"""Searches for the steps and layers that suit one subject, on its own photos and prompts.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): all candidates are tried on one picture, the better half on
twice as many (another prompt, then another photo, then another seed, in turn), and so on, until the last few have been
tried on all prompts, photos and seeds. The settings with the best text alignment and the best image alignment are never
dropped, and both metrics are scaled by their spread in the first round, so that a trade-off means the same in every
round. Every round is a study on a shared tree in the same folder, so that no picture is made twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samecast.errors import SamecastError
from samecast.experiments.executors import Executor, Watch
from samecast.experiments.store import content_key
from samecast.metrics.statistics import balanced, front, widths
from samecast.models.base import Backbone
from samecast.study.axes import Axis
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid, Variant, factorial, only
from samecast.study.job import prepare, run_study
from samecast.study.kept_subjects import described
from samecast.study.measures import Measures, Points, gather
from samecast.study.photos import hashes_of
from samecast.study.presets import BOTH, DECODER, ENCODER, FULL_RUN, LAYER_WORDS
from samecast.study.recipe import Recipe, recipe_to_data
from samecast.study.scoring import metrics_of
from samecast.study.subjects import StudySubject
from samecast.study.table import Rows
from samecast.study.unit import ExecutionConfig

_STARTS, _FINALS = (0, 4, 10), (10, 20, 25, 30, 40, 50)
_FEWEST = 3


@dataclass(frozen=True)
class Extent:
    """The numbers of prompts, of photos (each read separately) and of seeds that candidates are tried on."""

    prompts: int = 1
    photos: int = 1
    seeds: int = 1

    def twice(self, most: "Extent") -> "Extent":
        """The next extent: twice the smallest of the numbers, up to its limit; prompts before photos before seeds."""
        growing = [name for name in ("prompts", "photos", "seeds") if getattr(self, name) < getattr(most, name)]
        if not growing:
            return self
        least = min(growing, key=lambda name: getattr(self, name))
        return replace(self, **{least: min(2 * getattr(self, least), getattr(most, least))})

    def __str__(self) -> str:
        counts = ((name, getattr(self, name)) for name in ("prompts", "photos", "seeds"))
        return ", ".join(f"{count} {name if count > 1 else name[:-1]}" for name, count in counts)


@dataclass(frozen=True)
class Round:
    """One round.

    Args:
        candidates: variants that were tried.
        extent: the extent of the round.
        points: each candidate's means of the two metrics of the trade-off, higher is better.
    """

    candidates: tuple[str, ...]
    extent: Extent
    points: Points


@dataclass(frozen=True)
class Tuning:
    """The result of a search.

    Args:
        chosen: the recommended variant.
        front: the best trade-offs of the last round, ascending in text alignment.
        rounds: first to last.
        measures: means of the last round.
        grid: grid of the last round.
        scale: spread of text and image alignment, for scaling.
        failed: number of pictures and units that could not be made.
    """

    chosen: Variant
    front: tuple[str, ...]
    rounds: tuple[Round, ...]
    measures: Measures
    grid: Grid
    scale: tuple[float, float]
    failed: int


def candidates(steps: int) -> Grid:
    """The default candidates: three starts, six final steps, three sets of layers."""

    def scaled(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(round(value * steps / FULL_RUN) for value in values))

    axes = (
        Axis("start", scaled(_STARTS)),
        Axis("final", tuple(final for final in scaled(_FINALS) if final >= max(scaled(_STARTS)))),
        Axis("layers", (DECODER, ENCODER, BOTH)),
    )
    return factorial(axes, {}, steps, words=LAYER_WORDS)


def extent_of(recipe: Recipe, subject: StudySubject) -> Extent:
    """The extent of the last round: all prompts, photos and seeds."""
    return Extent(len(subject.prompts), len(subject.references) if recipe.photos == "each" else 1, recipe.seeds)


def rounds_of(count: int, most: Extent) -> list[tuple[int, Extent]]:
    """The number of candidates and the extent of each round, if none fails."""
    found = [(count, Extent())]
    while count > _FEWEST and found[-1][1] != most:
        count = max(_FEWEST, count // 2)
        found.append((count, found[-1][1].twice(most)))
    return [*found[:-1], (count, most)]


def tune(
    folder: Path,
    recipe: Recipe,
    subject: StudySubject,
    backbone: Backbone,
    *,
    weight: float = 0.5,
    execution: ExecutionConfig | None = None,
    executor: Executor | None = None,
    dtype: str = "",
    watch: Watch | None = None,
    round_done: Callable[[Round], None] | None = None,
) -> Tuning:
    """Searches the recipe's grid.

    Args:
        folder: folder of the search; a stopped search is resumed.
        recipe: settings, and the candidates.
        subject: the subject.
        backbone: the model.
        weight: weight of image alignment against text alignment, 0 to 1.
        execution: settings of the execution; its path is not used.
        executor: where to run; None is this process.
        dtype: precision of the pictures, by name; empty is that of this model.
        watch: callbacks for progress and messages.
        round_done: called with each round.

    Raises:
        SamecastError: there is only one candidate, or none could be rendered.
    """
    if len(recipe.grid.variants) < 2:
        raise SamecastError("there is nothing to choose from: give at least two candidates")
    most = extent_of(recipe, subject)
    rounds: list[Round] = []
    grid, extent, scale, failed = recipe.grid, Extent(), None, 0
    while True:
        last = len(grid.variants) <= _FEWEST or extent == most
        extent = most if last else extent
        asked = _asked(recipe, subject, extent)
        study, settled = _study(folder, replace(recipe, grid=grid, seeds=extent.seeds), asked, extent, backbone, dtype)
        data = replace(execution or ExecutionConfig(study.path), path=study.path)
        run_study(study, data, executor=executor, backbone=None if executor else backbone, watch=watch)
        metrics = metrics_of(settled)
        types, variants = [type(metric) for metric in metrics], [variant.name for variant in grid.variants]
        measures, troubles = gather(Rows(study, metrics), variants, types), len(study.failures())
        points, failed = measures.merits, failed + troubles
        if not points:
            raise SamecastError(f"no candidate could be rendered; see failures in {folder}")
        rounds.append(Round(tuple(points), extent, points))
        scale = scale or widths(points)
        if round_done is not None:
            round_done(rounds[-1])
        if last:
            break
        grid, extent = only(grid, better_half(points, weight, scale)), extent.twice(most)
    chosen = balanced(points, weight, scale)
    variant = next(variant for variant in grid.variants if variant.name == chosen)
    return Tuning(variant, front(points), tuple(rounds), measures, grid, scale, failed)


def _asked(recipe: Recipe, subject: StudySubject, extent: Extent) -> StudySubject:
    """The subject with a round's prompts and photos; every round compares pictures with all photos."""
    shown = subject.references[: extent.photos] if recipe.photos == "each" else subject.references
    judged = subject.judged or subject.references
    return replace(subject, prompts=subject.prompts[: extent.prompts], references=shown, judged=judged)


def _study(
    folder: Path, recipe: Recipe, asked: StudySubject, extent: Extent, backbone: Backbone, dtype: str
) -> tuple[StudyFolder, Recipe]:
    """The study of one round, written to its folder; all rounds share their pictures."""
    photos = hashes_of(asked.references), hashes_of(asked.judged)
    number = f"{len(recipe.grid.variants)} candidates {extent}".replace(",", "").replace(" ", "-")
    data = {**recipe_to_data(recipe), "asked": described(asked), "photos": photos, "dtype": dtype}
    name = f"{number}-{content_key(data)[:8]}"  # another search in the same folder has another hash
    study, settled = prepare(folder / name, recipe, [asked], backbone, dtype=dtype)
    study.share(folder)
    return study, settled


def better_half(points: Points, weight: float, scale: tuple[float, float]) -> list[str]:
    """Half of the candidates, at least three: both ends of the Pareto front, then the rest of the front by the
    trade-off, then the next fronts likewise.

    Args:
        points: each candidate's two metrics, in the grid's order.
        weight: weight of image alignment.
        scale: spread of each metric, for scaling.
    """
    most = max(_FEWEST, len(points) // 2)
    ends = front(points)[:1] + front(points)[-1:]
    kept, left = list(dict.fromkeys(ends)), dict(points)
    while left and len(kept) < most:
        best = {name: left[name] for name in left if name in set(front(left))}
        while best:
            name = balanced(best, weight, scale)
            kept += [name] if name not in kept else []
            del best[name], left[name]
    return kept[: max(most, len(ends))]
