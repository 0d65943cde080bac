"""What a comparison says in its figures."""

from dataclasses import replace

import pytest

from samecast.attention.methods import masactrl
from samecast.compare.benchmark import Judgement
from samecast.compare.figures import headline, in_percent, in_points, mean, seconds_and_size
from samecast.compare.methods import Method
from samecast.learn.settings import LearnSettings
from samecast.metrics.statistics import Estimate
from tests.compare.makers import RIGHT, judged

LEARNING = LearnSettings()
METHODS = (
    Method("prompt", "nothing", ()),
    Method("learnt", "training", (), learning=LEARNING),
    Method("read", "attention", masactrl(4)),
    Method("joined", "the two", masactrl(4), learning=LEARNING),
)


def shares(**right: tuple[int, int]) -> list[Judgement]:
    """Four pictures of each of two subjects, of which so many are right."""
    return [
        judged(method, subject, replace(RIGHT, pattern=number < of[at]))
        for method, of in right.items()
        for at, subject in enumerate("ab")
        for number in range(4)
    ]


def test_the_headline_sets_both_together_against_the_best_of_the_others() -> None:
    found = shares(prompt=(0, 0), learnt=(1, 0), read=(2, 2), joined=(3, 4))
    assert headline(found, METHODS) == (
        "the two: 88% [0, 100] *both* right; the best other method, attention: 50% [0, 100]. That is"
        " +38 points [-100, +100], 1.75 times as often."
    )
    assert headline(found, METHODS[:3]) == headline(found, METHODS[3:]) == ""
    less = (*METHODS, Method("less", "less of it", masactrl(4, 8)))
    assert headline(found + shares(less=(1, 2)), less) == (
        headline(found, METHODS) + " Over less of it it is +50 points [-100, +100], 2.33 times as often."
    )
    drawn = (*METHODS, Method("drawn", "the world", (), drawn=True))
    assert headline(found + shares(drawn=(4, 4)), drawn) == (
        headline(found, METHODS) + " Perfect pictures reach 100% [0, 100]."
    )
    nothing = shares(prompt=(0, 0), learnt=(0, 0), read=(0, 0), joined=(1, 1))
    assert "times" not in headline(nothing, METHODS)


def test_one_subject_has_no_interval() -> None:
    alone = mean([judged("read", "a")], "read", "both")
    assert in_percent(alone) == "100%"
    assert in_points(Estimate(0.123, float("nan"), float("nan"), 1)) == "+12 points"


@pytest.mark.parametrize(
    ("seconds", "megabytes", "data"),
    [(90.4, 0.003, ("90 s", "3 kB")), (12, 3.44, ("12 s", "3.4 MB")), (0, 0, ("", ""))],
)
def test_costs_are_told_where_something_was_learnt(seconds: float, megabytes: float, data: tuple[str, str]) -> None:
    judgement = judged("learnt", "a", training_seconds=seconds, file_megabytes=megabytes)
    assert seconds_and_size([judgement], "learnt") == data
