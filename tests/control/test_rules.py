import json
from inspect import signature
from typing import Any

import pytest

from samecast.attention.methods import METHODS, masactrl, masactrl_union, none
from samecast.attention.plan import make_plan
from samecast.attention.rule import Rule
from samecast.attention.rule_files import rules_from_data, rules_to_data
from samecast.core.batch import Branch, Branches
from samecast.core.ddim import NoiseLevel, Schedule
from samecast.core.layers import Layer
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError

LAYERS = tuple(Layer(f"up.{index}", index, "self", "up", 16, 8) for index in range(16))
LEVELS = tuple(NoiseLevel(0.01 * j, 1 - 0.01 * j) for j in range(50))
# The last step is the identity.
SCHEDULE = Schedule(tuple(range(50, 0, -1)), LEVELS, (*[NoiseLevel(0.5, 0.5)] * 49, LEVELS[-1]), 0, "epsilon")
TARGETS = (Branch("target", 0, "a"), Branch("target", 1, "b"))
SOURCE = Branch("source", 0, "")
BRANCHES = Branches(TARGETS, (SOURCE,), 1.0)


def reads(rules: tuple[Rule, ...], step: int) -> dict[int, tuple[tuple[int, ...], ...]]:
    plan = make_plan(rules, LAYERS, SCHEDULE, len(TARGETS))
    routes = plan.routes(step, BRANCHES, BRANCHES.layout(), {})
    return {layer: route.reads for layer, route in routes.items()}


def test_masactrl_reads_the_source_from_step_4_at_layers_10_to_15() -> None:
    assert reads(masactrl(), 3) == {}
    assert reads(masactrl(), 4) == dict.fromkeys(range(10, 16), ((2,), (2,), (2,)))


def test_masactrl_union_reads_source_and_self() -> None:
    assert reads(masactrl_union(layers="15"), 4) == {15: ((2, 0), (2, 1), (2,))}


def test_none_controls_nothing() -> None:
    assert none() == ()
    assert make_plan((), LAYERS, SCHEDULE, 2).acting == {}


def test_rules_on_one_layer_and_step_add_up() -> None:
    rules = (Rule(layers="15"), Rule(sources=("self",), layers="15", steps=Steps(10, 10)))
    assert reads(rules, 9) == {15: ((2,), (2,), (2,))}
    assert reads(rules, 10) == {15: ((2, 0), (2, 1), (2,))}


def test_methods_add_up_over_time() -> None:
    rules = masactrl(0, 9, layers="encoder") + masactrl(10, layers="decoder")
    down, up = (
        tuple(Layer(f"{stage}.{number}", first + number, "self", stage, 16, 8) for number in range(2))
        for stage, first in (("down", 0), ("up", 2))
    )
    plan = make_plan(rules, (*down, *up), SCHEDULE, len(TARGETS))
    assert [tuple(plan.acting[step]) for step in (0, 9, 10, 48)] == [(0, 1), (0, 1), (2, 3), (2, 3)]


def test_a_rule_acts_on_its_readers_alone() -> None:
    assert reads((Rule(readers=(1,), layers="15"),), 0) == {15: ((0,), (2,), (2,))}


def test_a_reader_that_is_not_there_is_refused() -> None:
    with pytest.raises(SamecastError, match=r"reader 2 is not among the 2 images, 0\.\.1"):
        make_plan((Rule(readers=(2,)),), LAYERS, SCHEDULE, 2)


@pytest.mark.parametrize("fields", [{"sources": ()}, {"readers": ()}])
def test_a_rule_without_reader_or_source_is_refused(fields: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(SamecastError):
        Rule(**fields)


def test_a_rule_that_acts_only_where_nothing_changes_is_refused() -> None:
    with pytest.raises(SamecastError, match="change nothing"):
        make_plan(masactrl(start=49), LAYERS, SCHEDULE, 2)


OTHER_VALUES = {
    "start": 3,
    "final": 20,
    "skip": 2,
    "stride": 2,
    "layers": "14",
    "tokens": SubjectTokens("cat"),
    "anchor": 1,
    "weight": 2.0,
    "dropout": 0.1,
    "consistency": 0.1,
}


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, method in METHODS.items() for argument in signature(method).parameters],
)
def test_every_argument_of_every_method_changes_what_is_done(name: str, argument: str) -> None:
    def done(**arguments: Any) -> tuple[object, ...]:
        plan = make_plan(METHODS[name](**arguments), LAYERS, SCHEDULE, 2)
        return tuple(
            (step, layer, [(rule.readers, rule.sources, rule.mode) for rule in rules])
            for step, at_step in plan.acting.items()
            for layer, rules in at_step.items()
        )

    assert done(**{argument: OTHER_VALUES[argument]}) != done()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_survives_json(name: str) -> None:
    rules = METHODS[name]()
    assert rules_from_data(json.loads(json.dumps(rules_to_data(rules)))) == rules


def test_readers_survive_json() -> None:
    rules = (Rule(readers=(0, 2), steps=Steps(1, 0.5, 3, 2)), Rule(steps=Steps(only=(1, 4))))
    assert rules_from_data(json.loads(json.dumps(rules_to_data(rules)))) == rules


def test_a_written_rule_needs_to_tell_only_what_differs_from_the_defaults() -> None:
    (rule,) = rules_from_data([{"sources": ["source"], "layers": "decoder"}])
    assert rule == Rule(layers="decoder")


TOLD = {"sources": ["source"], "layers": "15"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("rule", "rules must be a list; got 'rule'"),
        (["rule"], "rule 1 must be an object of readers, sources"),
        ([{}], "rule 1 must tell its sources"),
        ([{"sources": ["source"]}], "rule 1 must tell its layers"),
        ([TOLD | {"reader": [1]}], "rule 1 has no 'reader'; it has readers, sources"),
        ([TOLD | {"sources": "source"}], "rule 1: sources must be a list, each member 'source' or"),
        ([TOLD | {"readers": 1}], "rule 1: readers must be 'targets' or a list, each member a whole number"),
        ([TOLD | {"steps": 4}], r"rule 1: steps must be Steps \(start, final, skip, stride, only\); got 4"),
        ([TOLD | {"steps": {"only": 4}}], "rule 1: steps: only must be a list"),
        ([TOLD | {"steps": {"start": "4"}}], "rule 1: steps: start must be a number from 0 to 1,000,000; got '4'"),
        ([TOLD | {"steps": {"start": 30, "final": 20}}], "rule 1: steps: start 30 comes after final 20"),
        (
            [TOLD | {"mode": {"name": "separate", "tokens": {"word": "dog"}}}],
            "tokens has no 'word'; it has",
        ),
        (
            [TOLD | {"mode": {"name": "weigh", "weight": "3"}}],
            "weight must be a number of 0 or more; got '3'",
        ),
        ([TOLD | {"mode": {"name": "read", "weight": 3}}], "rule 1: mode read has no 'weight'"),
        ([TOLD | {"mode": {"weight": 3}}], "rule 1: mode must be read, separate, .* or an object with such a name"),
        ([TOLD | {"mode": 3}], "rule 1: mode must be read, separate, .*; got 3"),
        ([TOLD | {"mode": "glance"}], "rule 1: mode must be read, separate, .*; got 'glance'"),
    ],
)
def test_what_is_no_rule_is_refused_in_one_line(data: object, message: str) -> None:
    with pytest.raises(SamecastError, match=message) as error:
        rules_from_data(data)
    assert "\n" not in str(error.value)
