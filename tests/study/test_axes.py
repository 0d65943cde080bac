"""Axes from words and YAML; every mistake is one line that names the choices."""

import pytest

from samecast.attention.modes import Match, SubjectOnly, Weigh
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError
from samecast.study.axes import BASE, make_rules, parse_axis, read_axis


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("final=20:51:5", (20, 25, 30, 35, 40, 45, 50)),
        ("final=0.5,1.0", (0.5, 1.0)),
        ("layers=encoder,decoder,10-12,0-7+10-15", ("encoder", "decoder", "10-12", "0-7,10-15")),
        ("skip=none,1,2", (None, 1, 2)),
        ("threshold=0.1,otsu", (0.1, "otsu")),
        ("sources=source,source+self", ("source", "source,self")),
    ],
)
def test_words_become_values(words: str, values: tuple[object, ...]) -> None:
    assert parse_axis(words).values == values


@pytest.mark.parametrize(
    ("words", "data"),
    [
        ("final", "an axis is field=values"),
        ("finale=1", "choose from start, final"),
        ("final=a", "final cannot be 'a'"),
        ("final=1:2:3:4", "is not a range"),
        ("final=5,5", "each once"),
        ("final=9:0", "needs values"),
        ("start=0:99999", "more than 10,000 values"),
        ("skip=1.5", "skip cannot be '1.5'"),
        ("start=none", "start cannot be none; leave it out for 0.08"),
        ("threshold=none", "threshold cannot be none"),
        ("sources=0:2", "takes words"),
        ("weight=nan,1", "weight cannot be 'nan'; expected a number"),
        ("consistency=inf", "consistency cannot be 'inf'; expected a number or none"),
    ],
)
def test_mistakes_are_one_line(words: str, data: str) -> None:
    with pytest.raises(SamecastError, match=data) as caught:
        parse_axis(words)
    assert "\n" not in str(caught.value)


def test_yaml_values_are_read_like_words() -> None:
    assert read_axis("final", ["20:51:10", 45]) == parse_axis("final=20:51:10,45")
    assert read_axis("skip", [None, 3]) == parse_axis("skip=none,3")


def test_every_field_reaches_the_rule() -> None:
    data = {
        "start": 3,
        "final": 9,
        "skip": 2,
        "stride": 2,
        "layers": "encoder",
        "sources": "source,self",
        "mode": "weigh",
        "maps": "decoder",
        "map_start": 1,
        "map_final": 8,
        "threshold": "otsu",
        "weight": 3.0,
    }
    (rule,) = make_rules(data, 10)
    assert rule.steps == Steps(3, 9, 2, 2)
    tokens = SubjectTokens("", "decoder", Steps(1, 8), "otsu")
    assert (rule.layers, rule.sources, rule.mode) == ("encoder", ("source", "self"), Weigh(tokens, 3.0))
    (matched,) = make_rules({"mode": "match", "sources": "source,self", "maps": "default", "consistency": 0.2}, 50)
    assert isinstance(matched.mode, Match)
    assert matched.mode.consistency == 0.2
    (dropped,) = make_rules({"mode": "subject", "maps": "mid", "dropout": 0.5}, 50)
    assert isinstance(dropped.mode, SubjectOnly)
    assert dropped.mode.dropout == 0.5
    assert {*data, "consistency", "dropout"} == set(BASE)


def test_the_length_of_the_run_is_its_last_step() -> None:
    assert make_rules({"final": 50}, 50) == make_rules({}, 50)
    assert make_rules({"final": 49}, 50) != make_rules({}, 50)
