"""Intervals cover, contrasts are paired, fronts are what nothing beats."""

import numpy as np
import pytest

from samecast.score.statistics import (
    Cells,
    Estimate,
    NothingInCommonError,
    balanced,
    cells,
    contrast,
    estimate,
    front,
    levelled,
    mean_of,
    rank_correlation,
    student,
    trend,
)
from samecast.study.findings import verdict


@pytest.mark.parametrize("subjects", [2, 3, 8, 30])
def test_intervals_cover_the_mean_as_often_as_they_say(subjects: int) -> None:
    rng = np.random.default_rng(1)
    found = [estimate(rng.normal(0.3, 1.0, subjects).tolist()) for _ in range(2000)]
    assert np.mean([each.low <= 0.3 <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)


def test_students_t_is_that_of_the_tables() -> None:
    assert [student(n) for n in (1, 2, 7, 29, 120)] == pytest.approx([12.706, 4.303, 2.365, 2.045, 1.980], abs=1e-3)


def test_one_subject_has_no_interval_and_shows_nothing() -> None:
    alone = estimate([0.5])
    assert str(alone) == "0.500 (one subject)"
    assert verdict(alone, 1) == verdict(alone, -1) == "not shown"


def test_an_interval_of_shares_stays_within_them() -> None:
    low, high = dict(zip("abcd", [0, 0, 0.5, 0], strict=True)), dict(zip("abcd", [1, 1, 0.5, 1], strict=True))
    table = Cells({"low": low, "high": high}, (0, 1))
    assert (mean_of(table, "low").low, mean_of(table, "high").high) == (0, 1)


def test_without_common_subjects_nothing_is_compared() -> None:
    with pytest.raises(NothingInCommonError):
        contrast(Cells({"a": {"x": 1.0}, "b": {"y": 1.0}}), ["a"], ["b"])
    with pytest.raises(NothingInCommonError):
        trend({"a": {"x": 1.0}}, ["a", "b"])


def test_a_contrast_compares_each_subject_with_itself() -> None:
    table = Cells({"a": {str(n): n + 0.1 for n in range(8)}, "b": {str(n): float(n) for n in range(8)}})
    found = contrast(table, ["a"], ["b"])
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-9
    assert estimate(list(table["a"].values())).high - estimate(list(table["a"].values())).low > 1


def test_levels_of_subjects_are_taken_out_of_intervals_but_not_of_means() -> None:
    rng = np.random.default_rng(0)
    level = {str(n): float(10 * n) for n in range(8)}
    table = {v: {s: level[s] + v_mean + rng.normal(0, 0.1) for s in level} for v, v_mean in (("a", 0.0), ("b", 1.0))}
    found = levelled(table, ["a", "b"])
    for name in table:
        assert found[name].value == pytest.approx(np.mean(list(table[name].values())))
        assert found[name].low <= found[name].value <= found[name].high < found[name].low + 0.5


def test_subjects_count_not_their_repeats() -> None:
    rows = [
        {"variant": "v", "subject": s, "m": m} for s, m in [("a", 0.0), ("a", 1.0), ("a", 2.0), ("b", 5.0), ("c", None)]
    ]
    assert cells(rows, "m") == {"v": {"a": 1.0, "b": 5.0}}


def test_a_trend_is_one_where_every_subject_rises() -> None:
    table = {str(v): {s: v**3 * (1 + at) for at, s in enumerate("abc")} for v in range(5)}
    assert trend(table, [str(v) for v in range(5)]).low == pytest.approx(1)
    assert trend(table, [str(v) for v in reversed(range(5))]).high == pytest.approx(-1)


def test_ranks_average_ties() -> None:
    assert rank_correlation([1, 2, 2, 3], [10, 20, 20, 30]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [5, 5, 5]) == 0
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)


def test_the_front_is_what_no_other_beats_in_both() -> None:
    rng = np.random.default_rng(0)
    points = {str(n): (float(x), float(y)) for n, (x, y) in enumerate(rng.random((60, 2)))}
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


@pytest.mark.parametrize(
    ("low", "high", "told"), [(0.1, 0.2, "holds"), (-0.1, 0.2, "not shown"), (-0.2, -0.1, "reversed")]
)
def test_verdicts_follow_the_interval(low: float, high: float, told: str) -> None:
    assert verdict(Estimate((low + high) / 2, low, high, 8), 1) == told
    assert verdict(Estimate(-(low + high) / 2, -high, -low, 8), -1) == told
