"""Means with intervals over subjects, contrasts and trends of a table of scores.

Subjects are the sample of a study; prompts, photos and seeds are repeats within them. So every figure is computed from
one mean per subject, with a 95% interval over subjects:

- a score far from any bounds (a cosine): Student's interval;
- a share, 0 to 1: Student's interval after two subjects are added, one all wrong and one all right, as Agresti and
  Coull (1998) add successes and failures. Student's alone, cut at 0 and 1, covers a share of 0.04 in 67 of 100 samples
  of 8 subjects, and effective sample sizes (Korn and Graubard 1998) cover as rarely where few subjects hold the share;
- a difference of shares or a rank correlation, -1 to 1: Student's after one subject is added, half of it at 0 and a
  quarter at either end. Agresti and Min (2005) add twice that to matched pairs; with Student's quantiles in place of
  the normal ones half covers as well, and shows more.

`tests/metrics/test_statistics.py` counts by simulation how often they cover. One subject has no interval.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
FEWEST = 6
"""Fewest subjects for a verdict: with fewer, even a sign test in which all agree does not reach 5% (2 / 2^5 = 6%)."""
Kind = Literal["mean", "share", "difference"]
METHODS: Mapping[Kind, str] = {
    "mean": "Student's over subjects",
    "share": "Agresti and Coull's over subjects",
    "difference": "Agresti and Min's over subjects",
}
"""The names of the intervals of each kind of figure."""
_ADDED: Mapping[Kind, tuple[tuple[float, float], ...]] = {
    "mean": (),
    "share": ((0.0, 1.0), (1.0, 1.0)),
    "difference": ((0.0, 0.5), (-1.0, 0.25), (1.0, 0.25)),
}
"""The values that are added to a sample, each with its weight."""
_BOUNDS: Mapping[Kind, tuple[float, float]] = {
    "mean": (-math.inf, math.inf),
    "share": (0.0, 1.0),
    "difference": (-1.0, 1.0),
}
_COLUMNS = 10_000
"""Number of subjects that are ranked at once, to limit memory."""
Array = NDArray[np.float64]


class NothingInCommonError(ValueError):
    """No subject has all the pictures that a comparison needs, as some failed."""


class Cells:
    """Each subject's mean of one measure, by variant.

    Args:
        variants: names of the rows.
        subjects: names of the columns.
        values: of shape (variants, subjects), in any precision; NaN if a subject has none.
        kind: kind of the measure.
        sign: 1 if higher is better, -1 if lower is.
    """

    def __init__(
        self,
        variants: Sequence[str],
        subjects: Sequence[str],
        values: NDArray[Any],
        kind: Kind = "mean",
        sign: int = 1,
    ) -> None:
        self.variants, self.subjects, self.sign = tuple(variants), tuple(subjects), sign
        self.kind: Kind = kind
        self.values: NDArray[Any] = np.asarray(values).reshape(len(self.variants), len(self.subjects))
        self._at = {variant: number for number, variant in enumerate(self.variants)}

    @classmethod
    def of(cls, means: Mapping[str, Mapping[str, float]], kind: Kind = "mean") -> "Cells":
        """From a mapping of variants to subjects to means."""
        subjects = list(dict.fromkeys(subject for of in means.values() for subject in of))
        values = [[of.get(subject, math.nan) for subject in subjects] for of in means.values()]
        return cls(list(means), subjects, np.array(values, dtype=np.float64), kind)

    def row(self, variant: str) -> Array:
        """A variant's means, a value for each subject; all NaN for an unknown variant."""
        if variant not in self._at:
            return np.full(len(self.subjects), math.nan)
        return self.values[self._at[variant]].astype(np.float64)

    def rows(self, variants: Sequence[str]) -> Array:
        """Several variants' means, of shape (variants, subjects)."""
        return np.stack([self.row(variant) for variant in variants])

    def __contains__(self, variant: str) -> bool:
        return bool(np.isfinite(self.row(variant)).any())

    @property
    def present(self) -> tuple[str, ...]:
        """The variants that any subject has."""
        return tuple(variant for variant in self.variants if variant in self)


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Args:
        value: the mean over subjects.
        low, high: ends of its 95% interval; NaN for a single subject.
        subjects: number of subjects.
        p: two-sided p-value of the hypothesis that it is 0, by the same method as the interval.
    """

    value: float
    low: float
    high: float
    subjects: int
    p: float = math.nan

    def __str__(self) -> str:
        return self._text("")

    @property
    def signed(self) -> str:
        """The estimate as text with its sign, for differences."""
        return self._text("+")

    def _text(self, sign: str) -> str:
        if self.subjects == 1:
            return f"{self.value:{sign}.3f} (one subject)"
        return f"{self.value:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


def estimate(values: Sequence[float] | Array, kind: Kind = "mean") -> Estimate:
    """The mean of one value for each subject, with its interval.

    Args:
        values: one per subject.
        kind: kind of the values; a share is 0 to 1, a difference -1 to 1.

    Raises:
        NothingInCommonError: there are no values.
    """
    if not len(values):
        raise NothingInCommonError("no subject has all the pictures that this needs")
    sample = np.asarray(values, dtype=np.float64)
    mean, count = float(sample.mean()), len(sample)
    if count == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    added = np.array(_ADDED[kind]).reshape(-1, 2)
    total = count + float(added[:, 1].sum())
    centre = (float(sample.sum()) + float(added.prod(axis=1).sum())) / total
    spread = float(((sample - centre) ** 2).sum() + (added[:, 1] * (added[:, 0] - centre) ** 2).sum())
    error = math.sqrt(spread / (total - 1) / total)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, total - 1)) * error
    low, high = _BOUNDS[kind]
    p = float(2 * stats.t.sf(abs(centre) / error, total - 1)) if error > 0 else float(centre == 0)
    return Estimate(mean, max(low, centre - reach), min(high, centre + reach), count, p)


def holm(probabilities: Sequence[float]) -> list[float]:
    """The p-values of several claims, adjusted so that at a level of 0.05 at most 5% of studies have any false claim
    (Holm 1979); NaN is not counted, and is kept."""
    found = np.array(probabilities, dtype=np.float64)
    order = [number for number in np.argsort(found) if not math.isnan(found[number])]
    highest = 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * found[number]))
        found[number] = highest
    return found.tolist()


def cells(rows: Iterable[Mapping[str, Any]], measure: str, kind: Kind = "mean") -> Cells:
    """Each subject's mean of a measure over prompts, photos and seeds, by variant; rows without it are left out."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row[measure] is not None:
            found.setdefault(row["variant"], {}).setdefault(row["subject"], []).append(float(row[measure]))
    return Cells.of({v: {s: float(np.mean(values)) for s, values in of.items()} for v, of in found.items()}, kind)


def mean_of(table: Cells, variant: str) -> Estimate:
    """The mean of a variant over the subjects that have it."""
    row = table.row(variant)
    return estimate(row[np.isfinite(row)], table.kind)


def shared(table: Cells, variants: Sequence[str]) -> Array:
    """The means of the subjects that have all of these variants, of shape (variants, subjects).

    Raises:
        NothingInCommonError: there are none.
    """
    return complete_ones(table.rows(variants))


def complete_ones(values: Array) -> Array:
    """The subjects, along the last axis, that have all of the values.

    Raises:
        NothingInCommonError: there are none.
    """
    complete = np.isfinite(values).all(axis=tuple(range(values.ndim - 1)))
    if not complete.any():
        raise NothingInCommonError("no subject has all the pictures that this needs")
    return values if complete.all() else values[..., complete]


def levelled(table: Cells, variants: Sequence[str]) -> dict[str, Estimate]:
    """The mean of each variant, with within-subject intervals.

    Each subject's own level, its mean over the variants, is taken out first (Cousineau 2005), as the variants
    are compared within subjects; with the correction of Morey (2008).
    """
    grid = shared(table, variants)
    if len(variants) == 1:  # nothing to compare it with
        return {variants[0]: estimate(grid[0])}
    means = grid.mean(axis=1, keepdims=True)
    wider = (len(variants) / (len(variants) - 1)) ** 0.5
    within = (grid - grid.mean(axis=0) - means + grid.mean()) * wider + means
    return {name: estimate(row) for name, row in zip(variants, within, strict=True)}


def contrast(table: Cells, first: Sequence[str], second: Sequence[str]) -> Estimate:
    """The difference of a measure between two groups of variants, paired by subject.

    Args:
        table: means of the measure.
        first: variants, which are averaged.
        second: the variants to compare them with, likewise.
    """
    rows = shared(table, (*first, *second))
    return estimate(rows[: len(first)].mean(axis=0) - rows[len(first) :].mean(axis=0), difference_of(table.kind))


def difference_of(kind: Kind) -> Kind:
    """The kind of the difference of two figures of a kind."""
    return "mean" if kind == "mean" else "difference"


def trend(table: Cells, variants: Sequence[str]) -> Estimate:
    """Spearman's rank correlation, within each subject, of a measure with the order of the variants; -1 to 1."""
    rows = shared(table, variants)
    return estimate(
        rank_correlations(np.broadcast_to(np.arange(len(variants))[:, None], rows.shape), rows), "difference"
    )


def rank_correlations(first: NDArray[Any], second: NDArray[Any]) -> Array:
    """Spearman's rank correlation of each column of two tables of one shape, ties averaged; 0 if either column is
    constant.
    """
    parts: list[Array] = []
    for at in range(0, first.shape[1], _COLUMNS):
        one, two = (stats.rankdata(table[:, at : at + _COLUMNS], axis=0) for table in (first, second))
        one, two = one - one.mean(axis=0), two - two.mean(axis=0)
        scale = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
        parts.append((one * two).sum(axis=0) / np.where(scale > 0, scale, 1.0))
    return np.concatenate(parts)


def front(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """The names of the points of the Pareto front, ascending in the first measure."""
    found, best = list[str](), (math.nan, -math.inf)
    for name in sorted(points, key=lambda name: points[name], reverse=True):
        if points[name][1] > best[1] or points[name] == best:
            found.append(name)
            best = points[name]
    return tuple(sorted(found, key=lambda name: points[name]))


def widths(points: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """The spread of points in each measure."""
    spread: Array = np.ptp(np.array(list(points.values()), dtype=np.float64), axis=0)
    return float(spread[0]), float(spread[1])


def balanced(
    points: Mapping[str, tuple[float, float]], weight: float = 0.5, scale: tuple[float, float] | None = None
) -> str:
    """The point of the Pareto front that is nearest to the best of both measures; of several equally near, the one
    listed first.

    Args:
        points: two measures of each; higher is better.
        weight: of the second measure, 0 to 1; 0.5 favours neither.
        scale: the spread that scales each measure; None for the spread of all points. (Scaled by the spread of the
            front only, both its ends would be equally far from the best, however little one of them gives up.)
    """
    names = [name for name in points if name in set(front(points))]
    values = np.array([points[name] for name in names], dtype=np.float64)
    far = np.array([width if width > 0 else 1.0 for width in scale or widths(points)])
    distance = (np.array([1 - weight, weight]) * ((values.max(axis=0) - values) / far) ** 2).sum(axis=1)
    return names[int(np.flatnonzero(distance <= distance.min() + 1e-12)[0])]
