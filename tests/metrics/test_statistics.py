"""Intervals cover, contrasts are paired, fronts are what nothing beats, ties favour nobody."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from samecast.metrics.statistics import (
    FEWEST,
    Array,
    Cells,
    Estimate,
    NothingInCommonError,
    balanced,
    cells,
    contrast,
    estimate,
    front,
    holm,
    levelled,
    mean_of,
    rank_correlations,
    trend,
)
from samecast.study.claims import HOLDS, NOT_SHOWN, REVERSED, TOO_FEW, verdict

SHARES = (0.02, 0.04, 0.1, 0.25, 0.5, 0.75, 0.9, 0.96, 0.98)
RUNS = 400
LEAST = 0.92
"""What is asked of intervals that are to cover in 95 of 100: less what 400 samples may miss by chance (three standard
errors), as nothing is fitted to them."""

Draw = Callable[[np.random.Generator, float, int], Array]


def alike(draw: np.random.Generator, share: float, subjects: int) -> Array:
    """All subjects have the same share."""
    return np.full(subjects, share)


def spread(draw: np.random.Generator, share: float, subjects: int) -> Array:
    """Subjects differ: an intra-class correlation of 0.3."""
    return draw.beta(share * 7 / 3, (1 - share) * 7 / 3, subjects)


def all_or_nothing(draw: np.random.Generator, share: float, subjects: int) -> Array:
    """A subject is always right or never."""
    return (draw.random(subjects) < share).astype(float)


def few_hold_it(draw: np.random.Generator, share: float, subjects: int) -> Array:
    """A few subjects hold most of what is rare, the others hardly any."""
    rare = min(share, 1 - share)
    high, low = max(0.8, rare), 0.2 * rare
    shares = np.where(draw.random(subjects) < (rare - low) / (high - low), high, low)
    return shares if share <= 0.5 else 1 - shares


@pytest.mark.parametrize("subjects", [3, 8, 32])
@pytest.mark.parametrize("of", [alike, spread, all_or_nothing, few_hold_it])
def test_intervals_of_shares_cover_also_near_0_and_1(of: Draw, subjects: int) -> None:
    """Clustered data: subjects of 3 to 20 pictures each; what varies between subjects is drawn, too."""
    draw = np.random.default_rng(0)
    for share in SHARES:
        covered = 0
        for _ in range(RUNS):
            pictures = draw.integers(3, 21, subjects)
            means = draw.binomial(pictures, of(draw, share, subjects)) / pictures
            found = estimate(means, "share")
            assert 0 <= found.low <= found.value <= found.high <= 1
            covered += found.low - 1e-9 <= share <= found.high + 1e-9
        assert covered / RUNS >= LEAST, (share, covered / RUNS)


def nothing_differs(draw: np.random.Generator, subjects: int) -> tuple[Array, Array, float]:
    """Both arms are right in 3 of 100."""
    same = np.full(subjects, 0.03)
    return same, same, 0.0


def all_gain(draw: np.random.Generator, subjects: int) -> tuple[Array, Array, float]:
    """Every subject gains the same."""
    before = draw.beta(1, 2, subjects) * 0.8
    return before + 0.2, before, 0.2


def few_gain(draw: np.random.Generator, subjects: int) -> tuple[Array, Array, float]:
    """One subject in ten gains much, the others nothing."""
    return np.where(draw.random(subjects) < 0.1, 0.9, 0.02), np.full(subjects, 0.02), 0.088


def few_lose(draw: np.random.Generator, subjects: int) -> tuple[Array, Array, float]:
    """Most gain a little, and one in seven loses all."""
    lost = draw.random(subjects) < 0.15
    return np.where(lost, 0.05, 0.3), np.where(lost, 0.95, 0.1), 0.85 * 0.2 - 0.15 * 0.9


@pytest.mark.parametrize("subjects", [3, 8, 32])
@pytest.mark.parametrize("arms", [nothing_differs, all_gain, few_gain, few_lose])
def test_intervals_of_differences_of_shares_cover_also_where_most_subjects_are_unchanged(
    arms: Callable[[np.random.Generator, int], tuple[Array, Array, float]], subjects: int
) -> None:
    draw, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        pictures = draw.integers(3, 21, subjects)
        first, second, gain = arms(draw, subjects)
        table = Cells(
            "ab", [str(n) for n in range(subjects)], draw.binomial(pictures, [first, second]) / pictures, "share"
        )
        found = contrast(table, ["a"], ["b"])
        assert -1 <= found.low <= found.high <= 1
        covered += found.low <= gain <= found.high
    assert covered / 1000 >= LEAST


@pytest.mark.parametrize("subjects", [2, 3, 8, 30])
def test_intervals_of_means_cover_as_often_as_they_say(subjects: int) -> None:
    rng = np.random.default_rng(1)
    found = [estimate(rng.normal(0.3, 1.0, subjects)) for _ in range(2000)]
    assert np.mean([each.low <= 0.3 <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)


def test_probabilities_are_students_and_go_with_the_intervals() -> None:
    rng = np.random.default_rng(2)
    for kind, size in (("mean", 8), ("mean", 40), ("difference", 8), ("difference", 40)):
        for _ in range(50):
            sample = np.clip(rng.normal(0.1, 0.3, size), -1, 1)
            found = estimate(sample, kind)  # type: ignore[arg-type]
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
            if kind == "mean":
                assert found.p == pytest.approx(stats.ttest_1samp(sample, 0).pvalue)


def test_one_subject_has_no_interval_and_shows_nothing() -> None:
    alone = estimate([0.5])
    assert str(alone) == "0.500 (one subject)"
    assert math.isnan(alone.p)
    assert verdict(alone, 1) == verdict(alone, -1) == TOO_FEW


@pytest.mark.parametrize("kind", ["mean", "difference"])
@pytest.mark.parametrize("subjects", range(2, 10))
def test_few_subjects_show_nothing_however_much_they_agree(kind: str, subjects: int) -> None:
    for values in (np.full(subjects, 0.4), np.linspace(0.39, 0.41, subjects), np.ones(subjects)):
        found = estimate(values, kind)  # type: ignore[arg-type]
        assert (verdict(found, 1) == TOO_FEW) == (subjects < FEWEST)
    assert 2 * 0.5**FEWEST < 0.05 < 2 * 0.5 ** (FEWEST - 1)  # a sign test in which all agree


def test_a_share_that_nobody_or_everybody_has_is_not_certain() -> None:
    table = Cells("ab", [str(n) for n in range(8)], np.array([[0.0] * 8, [1.0] * 8]), "share")
    none, all_of = mean_of(table, "a"), mean_of(table, "b")
    assert (none.value, none.low) == (0, 0)
    assert 0.25 < none.high < 0.45
    assert (all_of.low, all_of.high) == pytest.approx((1 - none.high, 1))


def test_holms_adjustment_is_that_of_its_paper() -> None:
    # Holm 1979: the smallest is multiplied by how many there are, the next by one less, and none falls below another.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []
    adjusted = holm([0.02, math.nan, 0.03])
    assert adjusted[::2] == pytest.approx([0.04, 0.04])
    assert math.isnan(adjusted[1])


def test_of_many_claims_about_nothing_hardly_any_survives_holm() -> None:
    rng, false = np.random.default_rng(0), 0
    for _ in range(300):
        found = [estimate(rng.normal(0, 1, 8)).p for _ in range(31)]
        false += min(holm(found)) < 0.05
    assert false / 300 < 0.09


def test_without_common_subjects_nothing_is_compared() -> None:
    with pytest.raises(NothingInCommonError):
        contrast(Cells.of({"a": {"x": 1.0}, "b": {"y": 1.0}}), ["a"], ["b"])
    with pytest.raises(NothingInCommonError):
        trend(Cells.of({"a": {"x": 1.0}}), ["a", "b"])
    with pytest.raises(NothingInCommonError):
        mean_of(Cells.of({"a": {"x": 1.0}}), "b")


def test_a_contrast_compares_each_subject_with_itself() -> None:
    table = Cells.of({"a": {str(n): n + 0.1 for n in range(8)}, "b": {str(n): float(n) for n in range(8)}})
    found = contrast(table, ["a"], ["b"])
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-9
    alone = mean_of(table, "a")
    assert alone.high - alone.low > 1


def test_levels_of_subjects_are_taken_out_of_intervals_but_not_of_means() -> None:
    rng = np.random.default_rng(0)
    level = {str(n): float(10 * n) for n in range(8)}
    means = {v: {s: level[s] + v_mean + rng.normal(0, 0.1) for s in level} for v, v_mean in (("a", 0.0), ("b", 1.0))}
    found = levelled(Cells.of(means), ["a", "b"])
    for name in means:
        assert found[name].value == pytest.approx(np.mean(list(means[name].values())))
        assert found[name].low <= found[name].value <= found[name].high < found[name].low + 0.5


def test_subjects_count_not_their_repeats() -> None:
    rows = [
        {"variant": "v", "subject": s, "m": m} for s, m in [("a", 0.0), ("a", 1.0), ("a", 2.0), ("b", 5.0), ("c", None)]
    ]
    table = cells(rows, "m")
    assert (table.subjects, table.row("v").tolist()) == (("a", "b"), [1.0, 5.0])


def test_a_trend_is_one_where_every_subject_rises() -> None:
    rising = Cells.of({str(v): {s: v**3 * (1 + at) for at, s in enumerate("abcdefgh")} for v in range(5)})
    up, down = trend(rising, [str(v) for v in range(5)]), trend(rising, [str(v) for v in reversed(range(5))])
    assert (up.value, up.high, down.value, down.low) == pytest.approx((1, 1, -1, -1))
    assert verdict(up, 1) == HOLDS
    assert verdict(down, 1) == REVERSED


def test_ranks_are_spearmans_with_ties_averaged() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 4, (9, 20)), rng.integers(0, 4, (9, 20))
    found = rank_correlations(one, two)
    for column in range(20):
        assert found[column] == pytest.approx(stats.spearmanr(one[:, column], two[:, column]).statistic)
    assert rank_correlations(np.array([[1], [2], [3]]), np.array([[5], [5], [5]])).tolist() == [0]


def cloud(seed: int, count: int = 60) -> dict[str, tuple[float, float]]:
    rng = np.random.default_rng(seed)
    return {str(n): (float(x), float(y)) for n, (x, y) in enumerate(rng.random((count, 2)))}


def test_the_front_is_what_no_other_beats_in_both() -> None:
    points = cloud(0)
    best = front(points)
    for name in best:
        assert not any(a > points[name][0] and b > points[name][1] for a, b in points.values())
    assert all(
        any(points[b][0] >= x and points[b][1] >= y for b in best)
        for name, (x, y) in points.items()
        if name not in best
    )
    assert balanced(points) in best
    assert balanced(points, 0.0) == best[-1]
    assert balanced(points, 1.0) == best[0]


def test_a_recommendation_favours_neither_measure() -> None:
    """With the measures exchanged, and their weights, the same setting is recommended; ties too."""
    ties = {"a": (0.1, 0.3), "b": (0.3, 0.1), "worst": (0.0, 0.0)}
    for points in (ties, dict(reversed(ties.items())), *(cloud(seed) for seed in range(20))):
        for weight in (0.2, 0.5, 0.9):
            exchanged = {name: (y, x) for name, (x, y) in points.items()}
            assert balanced(points, weight) == balanced(exchanged, 1 - weight)
    assert balanced(ties) == next(iter(ties))
    assert balanced(dict(reversed(ties.items()))) == "b"


def test_what_little_an_end_of_the_front_gives_up_is_little() -> None:
    """By the spread of the front alone, both its ends would be equally far from the best."""
    points = {"much image": (0.299, 0.60), "hardly more text": (0.300, 0.40), "poor": (0.250, 0.35)}
    assert balanced(points) == "much image"
    points = {"much text": (0.300, 0.40), "hardly more image": (0.270, 0.401), "poor": (0.250, 0.35)}
    assert balanced(points) == "much text"


@pytest.mark.parametrize(("low", "high", "data"), [(0.1, 0.2, HOLDS), (-0.1, 0.2, NOT_SHOWN), (-0.2, -0.1, REVERSED)])
def test_verdicts_follow_the_interval(low: float, high: float, data: str) -> None:
    assert verdict(Estimate((low + high) / 2, low, high, 8), 1) == data
    assert verdict(Estimate(-(low + high) / 2, -high, -low, 8), -1) == data
