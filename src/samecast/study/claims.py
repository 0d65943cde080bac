"""Tests of claims about a study's scores: contrasts, trends, equivalences and agreements.

Each gives its figure, its interval over subjects, and its p-value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from samecast.metrics.statistics import (
    FEWEST,
    Array,
    Cells,
    Estimate,
    NothingInCommonError,
    balanced,
    complete_ones,
    contrast,
    difference_of,
    estimate,
    mean_of,
    rank_correlations,
    shared,
    trend,
)
from samecast.study.measures import Measures

FLAT = 0.5
"""The start step hardly matters if no start moves the mean by more than this share of the final step's effect."""
CHANCE = 0.05
HOLDS, REVERSED, NOT_SHOWN, TOO_FEW, NO_DATA = "holds", "reversed", "not shown", "too few subjects", "no data"
INTERVALS = (
    "95% intervals over subjects: of cosines Student's, of shares Agresti and Coull's, of differences of shares and of"
    " rank correlations Agresti and Min's"
)
"""How intervals are computed, in words."""
FOLDS = 50
"""Largest number of groups of subjects that are left out in turn."""
Tables = Mapping[str, Cells]


@dataclass(frozen=True)
class Found:
    """The outcome of a claim, its figure, and its p-value."""

    verdict: str
    figure: str
    p: float = math.nan


def verdict(found: Estimate, sign: int) -> str:
    """The outcome of the claim that a figure is positive (or negative)."""
    if found.subjects < FEWEST:
        return TOO_FEW
    if found.low * sign > 0 and found.high * sign > 0:
        return HOLDS
    return REVERSED if found.low * sign < 0 and found.high * sign < 0 else NOT_SHOWN


def contrasted(table: Cells, first: str, second: str) -> Found:
    """Whether one variant has a better mean than another."""
    gap = contrast(table, [first], [second])
    figure = (
        f"{first} {mean_of(table, first)}, {second} {mean_of(table, second)}; difference {gap.signed},"
        f" {gap.subjects} subjects"
    )
    return Found(verdict(gap, table.sign), figure, gap.p)


def monotone(table: Cells, names: Sequence[str], way: int) -> Found:
    """Whether a measure gets better (or worse) along some variants."""
    rho, way = trend(table, names), way * table.sign
    grid = shared(table, names)
    means = [mean_of(table, name).value for name in names]
    if (grid == grid[0]).all():
        return Found(NOT_SHOWN, f"the same at all {len(names)} steps: {means[0]:.3f}", 1.0)
    against = sum(int((b - a) * way < 0) for a, b in pairwise(means))
    figure = (
        f"Spearman's rho within subjects {rho.signed}; of {len(means) - 1} steps between means {against} go the other"
        " way"
    )
    return Found(verdict(rho, way), figure, rho.p)


def flat(table: Cells, starts: Sequence[str], finals: Sequence[str]) -> Found:
    """Equivalence: whether every start step changes the mean by less than half of the final step's effect.

    Comparisons are paired by subject. The *margin* of a start is that half less the change of the mean, in either
    direction: the claim holds if the margin is above 0 at every start, and is reversed if it is below 0 at any, with
    Bonferroni's correction for their number. The reported figure is the least margin.
    """
    grid = shared(table, (*starts, finals[0], finals[-1]))
    move = grid[-1] - grid[-2]
    wide = estimate(move)
    limit = FLAT * move * np.sign(wide.value)
    shifts = {name: grid[number] - grid[0] for number, name in enumerate(starts) if number}
    margins = [(name, estimate(limit - sign * shift)) for name, shift in shifts.items() for sign in (1, -1)]
    outcomes = [verdict(margin, 1) for _, margin in margins]
    least, margin = min(margins, key=lambda data: data[1].value)
    against = min((min(1.0, len(margins) * margin.p) for _, margin in margins if margin.value < 0), default=1.0)
    p = max(margin.p if margin.value > 0 else 1.0 for _, margin in margins)
    outcome = NOT_SHOWN
    if TOO_FEW in outcomes:
        outcome = TOO_FEW
    elif all(data == HOLDS for data in outcomes):
        outcome = HOLDS
    elif against < CHANCE:
        outcome, p = REVERSED, against
    figure = (
        f"least margin {margin.signed} at {least}: {FLAT:.0%} of the final step's effect of {wide.signed}, less its own"
        f" change of {estimate(shifts[least]).signed} from {starts[0]}; the claim holds if it is above 0 at every start"
    )
    return Found(outcome, figure, p)


def masked(table: Cells, variants: Sequence[str], plain: str) -> Found:
    """Whether the mean over some variants is better than that of a plain one."""
    gap = contrast(table, variants, [plain])
    figure = f"{len(variants)} thresholds together {gap.signed} over {mean_of(table, plain)}, {gap.subjects} subjects"
    return Found(verdict(gap, table.sign), figure, gap.p)


def lost(seen: Cells, unseen: Cells, encoder: str, decoder: str) -> Found:
    """Whether encoder layers lose less than decoder layers if the photo hides a part of the subject."""
    gap = Cells(seen.variants, seen.subjects, unseen.values - seen.values, seen.kind, seen.sign)
    first, second = shared(gap, (encoder, decoder))
    # A difference of differences lies within twice their bounds.
    half = estimate((first - second) / 2, difference_of(seen.kind))
    gain = replace(half, value=2 * half.value, low=2 * half.low, high=2 * half.high)
    figure = (
        f"encoder {mean_of(seen, encoder)} and {mean_of(unseen, encoder)} on hidden, decoder"
        f" {mean_of(seen, decoder)} and {mean_of(unseen, decoder)}; difference of what is lost"
        f" {gain.signed}"
    )
    return Found(verdict(gain, gap.sign), figure, gain.p)


def agreement(tables: Tables, measure: str, truth: str) -> Found:
    """Whether a measure ranks settings as the truth does, within each subject."""
    variants = tables[truth].present
    both = _aligned(tables, (measure, truth), variants)
    rho = estimate(rank_correlations(both[0], both[1]), "difference")
    means = [np.array([[mean_of(tables[name], v).value] for v in variants]) for name in (measure, truth)]
    pooled = float(rank_correlations(means[0], means[1])[0])
    figure = f"Spearman's rho over settings, within subjects {rho.signed}; of the means {pooled:+.3f}"
    return Found(verdict(rho, tables[measure].sign * tables[truth].sign), figure, rho.p)


def best(measures: Measures, truth: str) -> Found:
    """Cross-validation: both settings are chosen without one group of subjects and compared on that group, in turn, so
    that no setting is evaluated on the subjects that it was chosen on."""
    tables, sides = measures.whole, (measures.text, measures.image)
    variants = [name for name in tables[truth].present if all(name in tables[side.column] for side in sides)]
    both, *aligned = _aligned(tables, (truth, *(side.column for side in sides)), variants)
    text, image = (side.sign() * values for side, values in zip(sides, aligned, strict=True))
    count = both.shape[1]
    if count < 2:
        raise NothingInCommonError("choosing on some subjects and comparing on others needs at least 2 subjects")

    def chosen(among: Array) -> tuple[int, int]:
        means = [table[:, among].mean(axis=1) for table in (both, text, image)]
        points = {str(at): (float(x), float(y)) for at, (x, y) in enumerate(zip(means[1], means[2], strict=True))}
        return int(means[0].argmax()), int(balanced(points))

    gaps, everybody = np.zeros(count), np.arange(count)
    for out in np.array_split(everybody, min(count, FOLDS)):
        by_truth, traded = chosen(np.setdiff1d(everybody, out))
        gaps[out] = both[by_truth, out] - both[traded, out]
    gap, (by_truth, by_trade) = estimate(gaps, "difference"), [variants[at] for at in chosen(everybody)]
    figure = (
        f"on subjects left out of the choice {gap.signed}; on all, the trade-off is {by_trade}"
        f" ({mean_of(tables[truth], by_trade)} both right), the best is {by_truth}"
        f" ({mean_of(tables[truth], by_truth)})"
    )
    return Found(verdict(gap, 1), figure, gap.p)


def _aligned(tables: Tables, measures: Sequence[str], variants: Sequence[str]) -> Array:
    """Several measures of the subjects that have all of them for all variants: (measure, variant, subject).

    Raises:
        NothingInCommonError: no subject has all of them.
    """
    return complete_ones(np.stack([tables[measure].rows(variants) for measure in measures]))
