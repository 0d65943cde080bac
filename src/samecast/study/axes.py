"""Axes: the varied fields of a rule and their values, from the command line or a YAML file.

final=20:51:5                     20, 25, .., 50 (as in Python, without the end)
layers=encoder,decoder,0-7+10-15   one set of layers each; + joins selectors within a set
skip=none,1,2,3                   `none` keeps the rule's default
maps=none,encoder,0-1             cross-attention layers whose maps mask the subject; none for no mask
threshold=0.1,otsu                thresholds of these maps
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samecast.attention.methods import START
from samecast.attention.modes import make_mode
from samecast.attention.modes.base import Masked
from samecast.attention.rule import DECODER_LAYERS, Rule, Rules
from samecast.checked import shown
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens, Threshold
from samecast.errors import SamecastError

Value = int | float | str | None

BASE: dict[str, Value] = {
    "start": START,
    "final": None,
    "skip": None,
    "stride": None,
    "layers": DECODER_LAYERS,
    "sources": "source",
    "mode": None,
    "maps": None,
    "map_start": 0,
    "map_final": None,
    "threshold": "otsu",
    "weight": None,
    "dropout": None,
    "consistency": None,
}
"""The fields of a rule that can be an axis, with their default values, those of MasaCtrl."""
_STEPS = ("start", "final", "map_start", "map_final")
_WHOLE = ("skip", "stride")
_REAL = ("weight", "dropout", "consistency")
_MOST_VALUES = 10_000


@dataclass(frozen=True)
class Axis:
    """One field of a rule and its values.

    Raises:
        SamecastError: the field does not exist, or there is no value or a repeated one.
    """

    field: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if self.field not in BASE:
            raise SamecastError(f"axis {shown(self.field)} is not a field of a rule; choose from {', '.join(BASE)}")
        if not self.values or len(set(self.values)) < len(self.values):
            raise SamecastError(f"axis {self.field} needs values, each once; got {list(self.values)}")


def parse_axis(words: str) -> Axis:
    """An axis from the command line: `field=value,value` or `field=first:end:stride`.

    Raises:
        SamecastError: it is malformed.
    """
    field, equals, data = words.partition("=")
    if not equals or not data.strip():
        raise SamecastError(
            f"an axis is field=values, like final=20:51:5 or layers=encoder,decoder; got {shown(words)}"
        )
    return read_axis(field.strip(), data.split(","))


def read_axis(field: str, data: object) -> Axis:
    """An axis from its values in YAML or on the command line: a list of values and ranges, or a single one.

    Raises:
        SamecastError: a value is not one of the field's.
    """
    parts: Sequence[object] = data if isinstance(data, list) else [data]
    values: list[Value] = []
    for part in parts:
        if isinstance(part, str) and ":" in part:
            values += _range(field, part)
        else:
            values.append(read_value(field, part))
    return Axis(field, tuple(values))


def _range(field: str, data: str) -> list[Value]:
    if field not in (*_STEPS, *_WHOLE, *_REAL, "threshold"):
        raise SamecastError(f"axis {field}: {data!r} is a range of numbers, but {field} takes words")
    try:
        span = range(*(int(number) for number in data.split(":")))
    except (ValueError, TypeError):
        raise SamecastError(
            f"axis {field}: {shown(data)} is not a range; write first:end or first:end:stride"
        ) from None
    if len(span[: _MOST_VALUES + 1]) > _MOST_VALUES:  # the length of the whole range may exceed 64 bits
        raise SamecastError(f"axis {field}: {shown(data)} has more than {_MOST_VALUES:,} values")
    return list(span)


def read_value(field: str, data: object) -> Value:
    """One value of a field.

    Raises:
        SamecastError: the field does not allow it.
    """
    if field not in BASE:
        raise SamecastError(f"axis {shown(field)} is not a field of a rule; choose from {', '.join(BASE)}")
    text = str(data).strip()
    if data is None or text.lower() in ("none", "null", "~"):
        if BASE[field] is not None:
            raise SamecastError(f"{field} cannot be none; leave it out for {BASE[field]}")
        return None
    try:
        if field in _WHOLE:
            return int(text)
        if field in _STEPS:
            return _finite(text) if "." in text else int(text)
        if field in _REAL or (field == "threshold" and text != "otsu"):
            return _finite(text)
    except ValueError:
        raise SamecastError(f"{field} cannot be {shown(text)}; expected a number{_or_none(field)}") from None
    return text.replace("+", ",") if field in ("layers", "maps", "sources") else text


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _or_none(field: str) -> str:
    return " or none" if BASE[field] is None else ""


def make_rules(fields: Mapping[str, Value], steps: int) -> Rules:
    """The rules with some fields given; the others are those of `BASE`.

    A `final` equal to `steps` is the last step, as in the AIKU study.

    Raises:
        SamecastError: the fields contradict each other.
    """
    data: dict[str, Any] = {**BASE, **fields}
    span = Steps(data["start"], _last(data["final"], steps), data["skip"], data["stride"])
    masked, mode = data["maps"] is not None, data["mode"]
    settings = {name: data[name] for name in _REAL if data[name] is not None}
    if masked:
        settings["tokens"] = _tokens(data, steps)
    how = make_mode(mode or ("separate" if masked else "read"), settings)
    if isinstance(how, Masked) and not masked:
        raise SamecastError(f"mode {how.name} needs masks: give maps too, from which masks are made")
    return (Rule("targets", tuple(data["sources"].split(",")), data["layers"], span, how),)


def _tokens(data: Mapping[str, Any], steps: int) -> SubjectTokens:
    layers = "" if data["maps"] == "default" else str(data["maps"])
    threshold: Threshold = data["threshold"]
    return SubjectTokens("", layers, Steps(data["map_start"], _last(data["map_final"], steps)), threshold)


def _last(final: Value, steps: int) -> Any:
    return None if final == steps and not isinstance(final, float) else final
