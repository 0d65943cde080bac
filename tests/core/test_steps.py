from collections.abc import Sequence
from typing import Any

import pytest

from samecast.core.steps import Steps
from samecast.errors import SamecastError


def test_default_is_every_step() -> None:
    assert Steps().select(5) == (0, 1, 2, 3, 4)


def test_start_and_final_are_both_inclusive() -> None:
    assert Steps(start=4, final=6).select(50) == (4, 5, 6)


def test_skip_omits_the_first_steps_of_every_ten() -> None:
    assert Steps(start=4, skip=1).select(50) == tuple(step for step in range(4, 50) if step % 10 >= 1)
    assert Steps(skip=9).select(50) == (9, 19, 29, 39, 49)
    assert Steps(skip=0).select(50) == Steps().select(50)


def test_stride_takes_every_so_many_from_start() -> None:
    assert Steps(start=4, stride=20).select(50) == (4, 24, 44)
    assert Steps(start=4, final=23, stride=20).select(50) == (4,)
    assert Steps(stride=1).select(5) == Steps().select(5)


def test_stride_and_skip_both_thin() -> None:
    assert Steps(stride=3, skip=5).select(20) == (6, 9, 15, 18)


@pytest.mark.parametrize(
    ("fields", "total", "expected"),
    [
        ({"start": 0.5}, 10, range(5, 10)),
        ({"start": 0.08, "final": 0.5}, 50, range(4, 26)),
        ({"final": 1.0}, 10, range(10)),
        ({"start": 1, "final": 0.5}, 4, (1, 2)),
    ],
)
def test_a_float_is_a_fraction_of_the_run(fields: dict[str, float], total: int, expected: Sequence[int]) -> None:
    assert Steps(**fields).select(total) == tuple(expected)


def test_only_lists_the_very_steps() -> None:
    assert Steps(only=(1, 2, 9)).select(10) == (1, 2, 9)
    with pytest.raises(SamecastError, match="a listed step 9 is beyond the last step"):
        Steps(only=(1, 2, 9)).select(9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": -1}, "start must be a number from 0 to 1,000,000; got -1"),
        ({"start": 9, "final": 8}, "start 9 comes after final 8"),
        ({"skip": 10}, "skip must be a whole number from 0 to 9 or none; got 10"),
        ({"stride": 0}, "stride must be a whole number from 1"),
        ({"start": 1.5}, r"start as a fraction of the run must be 0\.0 to 1\.0; got 1\.5"),
        ({"final": -0.1}, "final must be a number from 0"),
        ({"only": ()}, "only must list steps"),
        ({"only": (2, 1)}, "only must list steps"),
        ({"only": (1, 1)}, "only must list steps"),
        ({"only": (-1,)}, "only must be a list, each member a whole number from 0"),
        ({"only": (5,), "start": 1}, "leave out start, final, skip and stride"),
    ],
)
def test_impossible_spans_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SamecastError, match=message):
        Steps(**fields)


@pytest.mark.parametrize("steps", [Steps(start=50), Steps(final=50)])
def test_steps_beyond_the_run_are_refused_with_its_range(steps: Steps) -> None:
    with pytest.raises(SamecastError, match=r"50 is beyond the last step; a run of 50 steps has 0\.\.49"):
        steps.select(50)


def test_a_span_that_skip_empties_is_refused() -> None:
    with pytest.raises(SamecastError, match="selects none"):
        Steps(start=10, final=14, skip=5).select(50)
    with pytest.raises(SamecastError, match="selects none"):
        Steps(start=8, final=0.5).select(10)
