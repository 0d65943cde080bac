"""Means with intervals over subjects, contrasts and trends: what a table of scores allows one to say.

Subjects are what a study has a sample of; prompts, photos and seeds repeat within them. So every figure is made of one
mean for each subject, and its interval is Student's for these (95%). A percentile bootstrap of eight subjects would
cover the truth in 87 cases of 100, of three in 75. One subject has no interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Bounds = tuple[float, float]
"""What a measure cannot leave, such as 0 and 1 for shares."""
UNBOUNDED: Bounds = (-math.inf, math.inf)


Means = Mapping[str, Mapping[str, float]]
"""For each variant, for each subject, a mean."""


class Cells(dict[str, dict[str, float]]):
    """`Means` of one measure.

    Args:
        means: for each variant, for each subject.
        bounds: what the measure cannot leave; intervals are cut to them.
    """

    def __init__(self, means: Means, bounds: Bounds = UNBOUNDED) -> None:
        super().__init__({variant: dict(of) for variant, of in means.items()})
        self.bounds = bounds


class NothingInCommonError(ValueError):
    """No subject has all the pictures that a comparison takes: some failed."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Args:
        value: the mean over subjects.
        low, high: of its 95% interval; not numbers where there is one subject.
        subjects: how many.
    """

    value: float
    low: float
    high: float
    subjects: int

    def __str__(self) -> str:
        return self._told("")

    @property
    def signed(self) -> str:
        """With its sign, as a difference is told."""
        return self._told("+")

    def _told(self, sign: str) -> str:
        if self.subjects == 1:
            return f"{self.value:{sign}.3f} (one subject)"
        return f"{self.value:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


def estimate(values: Sequence[float], bounds: Bounds = UNBOUNDED) -> Estimate:
    """The mean of one value for each subject, with Student's interval.

    Args:
        values: of the subjects.
        bounds: the interval is cut to them.

    Raises:
        NothingInCommonError: there is none.
    """
    if not len(values):
        raise NothingInCommonError("no subject has all the pictures that this takes")
    sample: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    mean, count = float(sample.mean()), len(sample)
    if count == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    reach = student(count - 1) * float(sample.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, max(bounds[0], mean - reach), min(bounds[1], mean + reach), count)


@cache
def student(freedom: int, level: float = LEVEL) -> float:
    """Student's t between whose negative and itself a share `level` of the distribution lies.

    With t = sqrt(freedom) tan(angle) its density becomes cos(angle) ** (freedom - 1), which is summed and inverted.
    """
    angles = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(level, share / share[-1], angles)))


def cells(rows: Sequence[Mapping[str, Any]], measure: str, bounds: Bounds = UNBOUNDED) -> Cells:
    """For each variant, each subject's mean of a measure over prompts, photos and seeds; rows without it left out."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row[measure] is not None:
            found.setdefault(row["variant"], {}).setdefault(row["subject"], []).append(float(row[measure]))
    means = {
        variant: {subject: float(np.mean(values)) for subject, values in of.items()} for variant, of in found.items()
    }
    return Cells(means, bounds)


def mean_of(table: Cells, variant: str) -> Estimate:
    """The mean of a variant over subjects."""
    return estimate(list(table.get(variant, {}).values()), table.bounds)


def levelled(table: Means, variants: Sequence[str]) -> dict[str, Estimate]:
    """The mean of each variant, with intervals of what varies within subjects.

    Each subject's own level, its mean over the variants, is taken out first (Cousineau 2005), as the variants
    are compared within subjects; with the correction of Morey (2008) for having taken it out.
    """
    subjects = common(table, variants)
    grid = np.array([[table[variant][subject] for variant in variants] for subject in subjects])
    centred = grid - grid.mean(axis=1, keepdims=True)
    wider = (len(variants) / max(1, len(variants) - 1)) ** 0.5
    means = grid.mean(axis=0)
    off = centred.mean(axis=0)
    found = [
        estimate(((column - shift) * wider + mean).tolist())
        for column, shift, mean in zip(centred.T, off, means, strict=True)
    ]
    return dict(zip(variants, found, strict=True))


def contrast(table: Cells, first: Sequence[str], second: Sequence[str]) -> Estimate:
    """How much more of a measure some variants give than others, each subject compared with itself.

    Args:
        table: of the measure.
        first: variants, whose mean counts.
        second: those to compare them with.
    """
    subjects, most = common(table, (*first, *second)), table.bounds[1] - table.bounds[0]
    return estimate(
        [_mean(table, first, subject) - _mean(table, second, subject) for subject in subjects], (-most, most)
    )


def trend(table: Means, variants: Sequence[str]) -> Estimate:
    """Spearman's rank correlation, within each subject, of a measure with the order of the variants; -1 to 1."""
    subjects = common(table, variants)
    order = np.arange(len(variants))
    return estimate([rank_correlation(order, [table[v][subject] for v in variants]) for subject in subjects], (-1, 1))


def rank_correlation(first: Any, second: Any) -> float:
    """Spearman's, ties averaged; 0 where either is constant."""
    one, two = _ranks(np.asarray(first, dtype=float)), _ranks(np.asarray(second, dtype=float))
    if one.std() == 0 or two.std() == 0:
        return 0.0
    return float(np.corrcoef(one, two)[0, 1])


def front(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """The names of the points that no other beats in both respects, ascending in the first."""
    found = [
        name
        for name, (x, y) in points.items()
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
    return tuple(sorted(found, key=lambda name: points[name]))


def balanced(points: Mapping[str, tuple[float, float]], weight: float = 0.5) -> str:
    """The point of the front that is nearest to best in both respects, each scaled to its range over the front.

    Args:
        points: two measures of each, of which more is better.
        weight: of the second measure, 0 to 1; 0.5 favours neither.
    """
    names = front(points)
    values = np.array([points[name] for name in names], dtype=float)
    width = np.ptp(values, axis=0)
    scaled = (values.max(axis=0) - values) / np.where(width > 0, width, 1)
    distance = (np.array([1 - weight, weight]) * scaled**2).sum(axis=1)
    return names[int(distance.argmin())]


def common(table: Means, variants: Sequence[str]) -> list[str]:
    """The subjects that have a value under each of these variants.

    Raises:
        NothingInCommonError: there are none.
    """
    shared = set[str].intersection(*(set(table.get(variant, {})) for variant in variants))
    if not shared:
        raise NothingInCommonError("no subject has all the pictures that this takes")
    return sorted(shared)


def _mean(table: Means, variants: Sequence[str], subject: str) -> float:
    return float(np.mean([table[variant][subject] for variant in variants]))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return (ends - (counts - 1) / 2)[inverse]
