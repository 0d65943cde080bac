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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": -1}, "start must be 0 or more; got -1"),
        ({"start": 9, "final": 8}, "start 9 comes after final 8"),
        ({"skip": 10}, r"skip must be 0\.\.9; got 10"),
    ],
)
def test_impossible_spans_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(SamecastError, match=message):
        Steps(**fields)


@pytest.mark.parametrize("steps", [Steps(start=50), Steps(final=50)])
def test_steps_beyond_the_run_are_refused_with_its_range(steps: Steps) -> None:
    with pytest.raises(SamecastError, match=r"50 is beyond the last step; a run of 50 steps has 0\.\.49"):
        steps.select(50)


def test_a_span_that_skip_empties_is_refused() -> None:
    with pytest.raises(SamecastError, match="selects none"):
        Steps(start=10, final=14, skip=5).select(50)
