"""Dataclasses that hold themselves to their annotations, in every place where they are used."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from jaxtyping import config

from samecast.attention.modes import Match, Separate, SubjectOnly, Weigh
from samecast.attention.rule import Rule
from samecast.attention.rule_files import rules_from_data
from samecast.checked import RAW, Within, build, check_fields, check_value
from samecast.core.settings import RenderSettings
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError
from samecast.learn.settings import LearnSettings
from samecast.learn.watch import Watching
from samecast.subject import Subject

NAN, INFINITY = float("nan"), float("inf")


@dataclass(frozen=True)
class Inner:
    count: Annotated[int, Within(1, 9)] = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    share: Annotated[float, Within(0, 1)] | None = None
    words: tuple[str, ...] = ()
    pair: tuple[int, str] = (0, "")
    kind: Literal["a", "b", 3] = "a"
    switch: bool = False
    file: Annotated[str, RAW] = ""

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.fixture(autouse=True)
def no_checks_but_ours() -> Iterator[None]:
    """Outside the tests nothing else checks types at run time."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        ({"name": 3}, "name must be text; got 3"),
        ({"name": None}, "name must be text; got None"),
        ({"name": b"rex"}, "name must be text; got b'rex'"),
        ({"name": "\udce9"}, r"name is not UTF-8 text: '\\udce9'"),
        ({"name": "a\0"}, "name holds a null character"),
        ({"name": "x" * 100_001}, "name has 100,001 characters"),
        ({"inner": {"count": 1}}, r"inner must be Inner \(count\); got"),
        ({"share": True}, "share must be a number from 0 to 1 or none; got True"),
        ({"share": NAN}, "share must be a number from 0 to 1 or none; got nan"),
        ({"share": "0.5"}, "share must be"),
        ({"share": 10**400}, "share must be .* got 1000"),
        ({"words": "rex"}, "words must be a list, each member text; got 'rex'"),
        ({"words": ("a", 3)}, "words must be a list"),
        ({"words": {"a": 1}}, "words must be a list"),
        ({"pair": (1,)}, "pair must be a list of a whole number, text"),
        ({"pair": (1.0, "")}, "pair must be"),
        ({"kind": "c"}, "kind must be 'a' or 'b' or 3; got 'c'"),
        ({"kind": 3.0}, "kind must be"),
        ({"switch": 1}, "switch must be true or false; got 1"),
        ({"switch": "no"}, "switch must be true or false; got 'no'"),
    ],
)
def test_a_value_of_another_kind_is_told(fields: dict[str, Any], record: str) -> None:
    with pytest.raises(SamecastError, match=record) as caught:
        Outer(**{"name": "rex", **fields})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_numbers_of_numpys_and_lists_become_what_json_can_hold() -> None:
    outer = Outer("rex", Inner(np.int64(3)), np.float32(0.5), ["a"], [np.uint8(2), "b"])
    assert asdict(outer) == asdict(Outer("rex", Inner(3), 0.5, ("a",), (2, "b")))
    assert [type(value) for value in (outer.inner.count, outer.share, outer.pair[0])] == [int, float, int]


def test_a_text_that_may_name_a_file_may_hold_its_bytes() -> None:
    assert Outer("rex", file="r\udce9x.png").file == "r\udce9x.png"


HUGE = 10**5000

WRONG: list[tuple[type, dict[str, Any]]] = [
    (RenderSettings, {"seed": 1.5}),
    (RenderSettings, {"seed": HUGE}),
    (RenderSettings, {"seed": True}),
    (RenderSettings, {"width": 64.0}),
    (RenderSettings, {"width": "64"}),
    (RenderSettings, {"width": 10**9}),
    (RenderSettings, {"num_inference_steps": 2.0}),
    (RenderSettings, {"num_inference_steps": None}),
    (RenderSettings, {"init": True}),
    (RenderSettings, {"init": None}),
    (RenderSettings, {"init": -0.1}),
    (RenderSettings, {"fixed_point": 1000}),
    (RenderSettings, {"fixed_point": 1.0}),
    (RenderSettings, {"source_memory": INFINITY}),
    (RenderSettings, {"source_memory": NAN}),
    (RenderSettings, {"guidance_scale": INFINITY}),
    (RenderSettings, {"guidance_scale": [7.5]}),
    (RenderSettings, {"check_inversion": "yes"}),
    (RenderSettings, {"check_inversion": 1}),
    (RenderSettings, {"negative_prompt": None}),
    (RenderSettings, {"negative_prompt": "\ud800"}),
    (RenderSettings, {"source_prompt": ["a dog"]}),
    (RenderSettings, {"num_images_per_prompt": 0.5}),
    (RenderSettings, {"batch_rows": 10**7}),
    (RenderSettings, {"fit": ["crop"]}),
    (Steps, {"start": True}),
    (Steps, {"start": "4"}),
    (Steps, {"final": NAN}),
    (Steps, {"final": HUGE}),
    (Steps, {"skip": 1.0}),
    (Steps, {"stride": "2"}),
    (Steps, {"only": 3}),
    (Steps, {"only": (1, 2.0)}),
    (Steps, {"only": {1: 2}}),
    (SubjectTokens, {"phrase": 3}),
    (SubjectTokens, {"phrase": "\udc80"}),
    (SubjectTokens, {"threshold": True}),
    (SubjectTokens, {"threshold": "0.1"}),
    (SubjectTokens, {"steps": {"final": 3}}),
    (Rule, {"readers": "target"}),
    (Rule, {"readers": (1.0,)}),
    (Rule, {"readers": (-1,)}),
    (Rule, {"sources": "source"}),
    (Rule, {"sources": (None,)}),
    (Rule, {"sources": ({"source": 1},)}),
    (Rule, {"layers": 10}),
    (Rule, {"steps": (1, 2)}),
    (Rule, {"mode": ["read"]}),
    (Rule, {"mode": "read"}),
    (Separate, {"tokens": ["given"]}),
    (Separate, {"tokens": "all"}),
    (Weigh, {"weight": INFINITY}),
    (Weigh, {"weight": "3"}),
    (SubjectOnly, {"dropout": NAN}),
    (SubjectOnly, {"dropout": True}),
    (Match, {"consistency": NAN}),
    (Match, {"consistency": -1.0}),
    (LearnSettings, {"steps": 1.5}),
    (LearnSettings, {"batch": True}),
    (LearnSettings, {"learning_rate": INFINITY}),
    (LearnSettings, {"method": "hypernetwork"}),
    (LearnSettings, {"mode": "q"}),
    (LearnSettings, {"optimizer": "sgd"}),
    (LearnSettings, {"flip": "no"}),
    (LearnSettings, {"rank": 10**6}),
    (LearnSettings, {"initializer": "\udce9"}),
    (Watching, {"save_seconds": NAN}),
    (Watching, {"show_every": 2.5}),
    (Watching, {"prompts": (3,)}),
    (Subject, {"references": ()}),
    (Subject, {"references": 3}),
    (Subject, {"references": ("a.png", 3)}),
    (Subject, {"references": "a.png", "class_noun": None}),
    (Subject, {"references": "a.png", "class_noun": "d\udce9g"}),
]


@pytest.mark.parametrize(("kind", "fields"), WRONG)
def test_no_dataclass_takes_what_it_does_not_say(kind: type, fields: dict[str, Any]) -> None:
    with pytest.raises(SamecastError) as caught:
        kind(**fields)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_ranges_are_whole_from_end_to_end() -> None:
    RenderSettings(
        seed=2**63 - 1, height=8192, num_inference_steps=1000, init=1, fixed_point=20, source_memory=0, guidance_scale=0
    )
    assert RenderSettings(num_inference_steps=np.int32(7)).num_inference_steps == 7
    assert replace(RenderSettings(), init=0.5).noise_share == 0.5


def test_data_becomes_dataclasses_with_all_that_is_in_them() -> None:
    outer = build(Outer, {"name": "rex", "inner": {"count": 4}, "words": ["a"], "pair": [1, "b"]}, "it")
    assert outer == Outer("rex", Inner(4), words=("a",), pair=(1, "b"))


@pytest.mark.parametrize(
    ("data", "record"),
    [
        ([], r"it must be an object of name, inner.*; got \[\]"),
        ({}, "it must have name; got {}"),
        ({"name": "rex", "nane": "rex"}, "it has no 'nane'; it has name, inner"),
        ({"name": "rex", "inner": {"count": 10}}, "it: inner: count must be a whole number from 1 to 9; got 10"),
        ({"name": "rex", "inner": {"number": 1}}, "it: inner has no 'number'; it has count"),
        ({"name": "rex", "inner": [1]}, r"it: inner must be Inner \(count\); got \[1\]"),
        ({"name": "rex", "share": 2}, "it: share must be a number from 0 to 1"),
    ],
)
def test_data_that_describes_nothing_is_told_with_its_place(data: object, record: str) -> None:
    with pytest.raises(SamecastError, match=record):
        build(Outer, data, "it")


def test_spare_keys_are_passed_over_where_that_is_meant() -> None:
    assert build(Inner, {"count": 2, "more": [1]}, "it", spare=True) == Inner(2)


def test_a_value_alone_is_checked_likewise() -> None:
    assert check_value(np.float64(3.0), float, "scale") == 3.0
    with pytest.raises(SamecastError, match="scale must be a number from 0 to 1,000; got -1"):
        check_value(-1, Annotated[float, Within(0, 1000)], "scale")


@pytest.mark.parametrize(
    ("rule", "record"),
    [
        (
            {"mode": {"name": "separate", "tokens": {"steps": {"final": "x"}}}},
            "mode separate: tokens: steps: final must be a number",
        ),
        ({"mode": {"name": "subject", "tokens": {"steps": {"final": [1]}}}}, "tokens: steps: final must be"),
        ({"mode": {"name": "match", "tokens": {"phrase": {"a": 1}}}}, "tokens: phrase must be text"),
        ({"steps": {"only": [1, True]}}, "rule 1: steps: only must be"),
        ({"readers": [[0]]}, "rule 1: readers must be"),
        ({"sources": [["source"]]}, "rule 1: sources must be"),
        ({"mode": {"name": "weigh", "weight": None}}, "weight must be a number of 0 or more; got None"),
        ({"mode": {"name": "match", "consistency": {}}}, "consistency must be a number of 0 or more; got {}"),
    ],
)
def test_rules_in_files_are_told_to_the_last_field(rule: dict[str, Any], record: str) -> None:
    with pytest.raises(SamecastError, match=record):
        rules_from_data([{"sources": ["source"], "layers": "15", **rule}])
