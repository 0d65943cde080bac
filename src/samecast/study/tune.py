"""Which steps, which layers? Rules for one subject, found on its own photos and prompts.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): all candidates are tried on one picture, the better half on
twice as many - another prompt, then another photo, then another seed, in turn - and so on, until the last few have been
tried on all prompts, photos and seeds. Every round is a study on a shared tree, in one folder: what an earlier round
made is not made again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samecast.backbones.base import Backbone
from samecast.errors import SamecastError
from samecast.score.statistics import balanced, front
from samecast.study.axes import Axis
from samecast.study.findings import mean_points
from samecast.study.folder import identity_of
from samecast.study.grid import BOTH, DECODER, ENCODER, FULL_RUN, SITE_WORDS, Grid, Variant, factorial, only
from samecast.study.job import prepare, run_study
from samecast.study.recipe import Recipe, content_key, recipe_to_data
from samecast.study.scoring import load_scorers
from samecast.study.subjects import StudySubject
from samecast.study.table import Row, read_scores
from samecast.study.unit import Bench, Progress

_STARTS, _FINALS = (0, 4, 10), (10, 20, 25, 30, 40, 50)
_FEWEST = 3


@dataclass(frozen=True)
class Extent:
    """On how much candidates are tried: so many of the prompts, of the photos (each for itself) and of the seeds."""

    prompts: int = 1
    photos: int = 1
    seeds: int = 1

    def twice(self, most: "Extent") -> "Extent":
        """Twice as much of what there is least of yet, prompts before photos before seeds; no more than there is."""
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
        extent: on how much.
        points: for each, its means of text and image alignment.
    """

    candidates: tuple[str, ...]
    extent: Extent
    points: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Args:
        chosen: the recommended variant.
        front: the best trade-offs of the last round, ascending in text alignment.
        rounds: first to last.
        rows: the last round's table.
        grid: of the last round.
    """

    chosen: Variant
    front: tuple[str, ...]
    rounds: tuple[Round, ...]
    rows: tuple[Row, ...]
    grid: Grid


def candidates(steps: int) -> Grid:
    """The settings that are tried: three starts, six final steps, three sets of sites."""

    def scaled(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(round(value * steps / FULL_RUN) for value in values))

    axes = (
        Axis("start", scaled(_STARTS)),
        Axis("final", tuple(final for final in scaled(_FINALS) if final >= max(scaled(_STARTS)))),
        Axis("sites", (DECODER, ENCODER, BOTH)),
    )
    return factorial(axes, {}, steps, words=SITE_WORDS)


def tune(
    folder: Path,
    recipe: Recipe,
    subject: StudySubject,
    backbone: Backbone,
    *,
    weight: float = 0.5,
    bench: Bench | None = None,
    progress: Progress | None = None,
    round_done: Callable[[Round], None] | None = None,
) -> Tuning:
    """Searches the recipe's grid.

    Args:
        folder: of the search; one that was stopped goes on.
        recipe: how to render, and the candidates.
        subject: for whom.
        backbone: the model.
        weight: of image alignment against text alignment, 0 to 1.
        bench: how to work; its folder is not used.
        progress: told how far a round is.
        round_done: told of each round.

    Raises:
        SamecastError: there is nothing to choose from, or no candidate could be rendered.
    """
    if len(recipe.grid.variants) < 2:
        raise SamecastError("there is nothing to choose from: give at least two candidates")
    most = Extent(len(subject.prompts), len(subject.references) if recipe.photos == "each" else 1, recipe.seeds)
    rounds: list[Round] = []
    grid, extent, rows = recipe.grid, Extent(), tuple[Row, ...]()
    while True:
        last = len(grid.variants) <= _FEWEST or extent == most
        extent = most if last else extent
        rows = _round(folder, replace(recipe, grid=grid), subject, extent, backbone, bench, progress)
        points = mean_points(rows)
        if not points:
            raise SamecastError(f"no candidate could be rendered; see failures in {folder}")
        rounds.append(Round(tuple(points), extent, points))
        if round_done is not None:
            round_done(rounds[-1])
        if last:
            break
        grid, extent = only(grid, _better_half(points, weight)), extent.twice(most)
    chosen = balanced(points, weight)
    variant = next(variant for variant in grid.variants if variant.name == chosen)
    return Tuning(variant, front(points), tuple(rounds), rows, grid)


def _round(
    folder: Path,
    recipe: Recipe,
    subject: StudySubject,
    extent: Extent,
    backbone: Backbone,
    bench: Bench | None,
    progress: Progress | None,
) -> tuple[Row, ...]:
    """One round as a study; all rounds share their pictures, which are kept by content."""
    shown = subject.references[: extent.photos] if recipe.photos == "each" else subject.references
    # Judged by all photos in every round, whichever are read.
    asked = replace(
        subject,
        prompts=subject.prompts[: extent.prompts],
        references=shown,
        judged=subject.judged or subject.references,
    )
    number = f"{len(recipe.grid.variants)} candidates {extent}".replace(",", "").replace(" ", "-")
    told = {**recipe_to_data(replace(recipe, seeds=extent.seeds)), "asked": identity_of(asked)}
    name = f"{number}-{content_key(told)[:8]}"  # of another search in the same folder, another
    study, settled = prepare(folder / name, replace(recipe, seeds=extent.seeds), [asked], backbone)
    study.share(folder)
    run_study(study, replace(bench or Bench(study.path), path=study.path), backbone=backbone, progress=progress)
    return read_scores(study, load_scorers(settled.clip, settled.dino)).rows


def _better_half(points: dict[str, tuple[float, float]], weight: float) -> list[str]:
    """The front first, then what is left when it is taken away, until half is kept; within one by the trade-off."""
    kept: list[str] = []
    left = dict(points)
    while left and len(kept) < max(_FEWEST, len(points) // 2):
        best = {name: left[name] for name in front(left)}
        while best:
            name = balanced(best, weight)
            kept.append(name)
            del best[name], left[name]
    return kept[: max(_FEWEST, len(points) // 2)]
