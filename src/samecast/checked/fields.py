"""Dataclasses checked against their annotations: types and, through `Within`, ranges."""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from samecast.checked.values import shown, text_fault
from samecast.errors import SamecastError

_T = TypeVar("_T")
RAW = "raw"
"""Marks a text that may name a file, and so may hold undecodable bytes: `Annotated[str, RAW]`."""


@dataclass(frozen=True)
class Within:
    """The range of a number, both ends included: `Annotated[int, Within(1, 1000)]`."""

    least: float
    most: float = math.inf


_WHOLE = Within(-(2**63), 2**63 - 1)
_FINITE = Within(-1.7e308, 1.7e308)


@dataclass(frozen=True)
class _Kind:
    """The check for an annotation.

    Args:
        expected: the expected value, in words.
        keep: converts a value for storing: numpy's numbers to Python's, lists to tuples.
    """

    expected: str
    keep: Callable[[Any], Any]


class _OtherError(Exception):
    """The value does not fit the annotation."""


def check_fields(instance: Any, name: Callable[[str], str] = str) -> None:
    """Checks a dataclass against its annotations; call it in `__post_init__`.

    Args:
        instance: the object to check. numpy's numbers become Python's, and lists become tuples where annotated so.
        name: gives a field's name in messages.

    Raises:
        SamecastError: a field has the wrong type, is out of range, not finite, or a text that cannot be encoded.
    """
    values = instance.__dict__
    for field, kind in _kinds(type(instance)):
        value = values[field]
        try:
            kept = kind.keep(value)
        except _OtherError as other:
            raise SamecastError(_refusal(name(field), kind, value, other)) from None
        if kept is not value:
            object.__setattr__(instance, field, kept)


def check_value(value: object, annotation: Any, name: str) -> Any:
    """Checks a single value against an annotation; returns the converted value. Errors as for `check_fields`."""
    kind = _kind(annotation)
    try:
        return kind.keep(value)
    except _OtherError as other:
        raise SamecastError(_refusal(name, kind, value, other)) from None


def build(kind: type[_T], data: object, name: str, *, needed: Sequence[str] = (), spare: bool = False) -> _T:
    """Makes a dataclass from plain data, such as parsed JSON.

    Args:
        kind: the dataclass, which checks itself. Fields that are dataclasses are built likewise.
        data: a dictionary.
        name: its name in messages.
        needed: fields that are required although they have defaults.
        spare: whether unknown keys are ignored; otherwise they are refused.

    Raises:
        SamecastError: `data` is not a dictionary, lacks a field, has an unknown key, or a value is invalid.
    """
    if not isinstance(data, Mapping):
        raise SamecastError(f"{name} must be an object of {', '.join(_names(kind))}; got {shown(data)}")
    record = cast(Mapping[str, Any], data)
    known = _names(kind)
    if not spare and (unknown := [key for key in record if key not in known]):
        raise SamecastError(f"{name} has no {shown(unknown[0])}; it has {', '.join(known)}")
    of = {field.name: field for field in fields(cast(Any, kind))}
    required = [each for each in known if of[each].default is MISSING and of[each].default_factory is MISSING]
    for key in (*required, *needed):
        if key not in record:
            raise SamecastError(f"{name} must have {key}; got {shown(data)}")
    hints = get_type_hints(kind, include_extras=True)
    values = {key: _built(hints[key], record[key], f"{name}: {key}") for key in known if key in record}
    try:
        return kind(**values)
    except SamecastError as error:
        text = str(error)
        raise SamecastError(text if text.startswith(name) else f"{name}: {text}") from None


def _built(annotation: Any, value: Any, name: str) -> Any:
    """The value, or the dataclass built from it where the annotation names one and the value is a dictionary."""
    if isinstance(value, Mapping):
        for member in _members(annotation):
            if is_dataclass(member) and isinstance(member, type):
                return build(member, cast(object, value), name)
    return check_value(value, annotation, name)


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows, without their metadata."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for part in get_args(annotation) for member in _members(part))
    return (annotation,)


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(cast(Any, kind)) if field.init]


@cache
def _kinds(of: type) -> tuple[tuple[str, _Kind], ...]:
    hints = get_type_hints(of, include_extras=True)
    return tuple((field.name, _kind(hints[field.name])) for field in fields(cast(Any, of)))


def _refusal(name: str, kind: _Kind, value: object, other: _OtherError) -> str:
    reason = str(other)
    return f"{name} {reason}: {shown(value)}" if reason else f"{name} must be {kind.expected}; got {shown(value)}"


def _kind(annotation: Any, within: Within | None = None, *, raw: bool = False) -> _Kind:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        marks: tuple[Any, ...] = annotation.__metadata__
        ranges = [mark for mark in marks if isinstance(mark, Within)]
        return _kind(inner[0], ranges[0] if ranges else within, raw=raw or RAW in marks)
    if origin in (Union, types.UnionType):
        return _either([_kind(part, within, raw=raw) for part in inner])
    if origin is Literal:
        return _choice(inner)
    if origin is tuple:
        return _tuple([_kind(part, within, raw=raw) for part in inner if part is not ...], endless=... in inner)
    if annotation in _PLAIN:
        return _PLAIN[annotation](within)
    if annotation is str:
        return _Kind("text", _any_text if raw else _text)
    if annotation is Any or annotation is object:
        return _Kind("anything", lambda value: value)
    return _instance(origin or annotation)


def _whole(within: Within | None) -> _Kind:
    least, most = (within or _WHOLE).least, min((within or _WHOLE).most, _WHOLE.most)

    def keep(value: Any) -> Any:
        kept = value if type(value) is int else int(value) if _is(value, Integral) else None
        if kept is None or not least <= kept <= most:
            raise _OtherError
        return kept

    return _Kind(f"a whole number{_range(within)}", keep)


def _real(within: Within | None) -> _Kind:
    least = max((within or _FINITE).least, _FINITE.least)
    most = min((within or _FINITE).most, _FINITE.most)

    def keep(value: Any) -> Any:
        kept = value
        if type(value) is not float and type(value) is not int:
            if not _is(value, Real):
                raise _OtherError
            kept = int(value) if isinstance(value, Integral) else float(value)
        if not least <= kept <= most:  # False for NaN
            raise _OtherError
        return float(kept)

    return _Kind(f"a number{_range(within)}", keep)


def _is(value: object, kind: type) -> bool:
    """Whether a value is a number; booleans are not."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _range(within: Within | None) -> str:
    if within is None:
        return ""
    least, most = (
        f"{int(end):,}" if end == int(end) else f"{end:g}" for end in (within.least, min(within.most, 1e300))
    )
    return f" from {least} to {most}" if within.most < math.inf else f" of {least} or more"


def _truth(within: Within | None) -> _Kind:
    def keep(value: Any) -> Any:
        if type(value) is not bool:
            raise _OtherError
        return value

    return _Kind("true or false", keep)


def _nothing(within: Within | None) -> _Kind:
    def keep(value: Any) -> Any:
        if value is not None:
            raise _OtherError
        return value

    return _Kind("none", keep)


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise _OtherError
    if reason := text_fault(value):
        raise _OtherError(reason)
    return value


def _any_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise _OtherError
    return value


def _choice(choices: tuple[Any, ...]) -> _Kind:
    def keep(value: Any) -> Any:
        for choice in choices:
            if type(choice) is type(value) and choice == value:
                return value
        raise _OtherError

    return _Kind(" or ".join(repr(choice) for choice in choices), keep)


def _either(kinds: list[_Kind]) -> _Kind:
    def keep(value: Any) -> Any:
        reason = ""
        for kind in kinds:
            try:
                return kind.keep(value)
            except _OtherError as other:
                reason = reason or str(other)
        raise _OtherError(reason)

    words = [kind.expected for kind in kinds]
    real = [word for word in words if word.startswith("a number")]
    return _Kind(" or ".join(word for word in words if word.replace("a whole", "a") not in real or word in real), keep)


def _tuple(kinds: list[_Kind], *, endless: bool) -> _Kind:
    def keep(value: Any) -> Any:
        if not isinstance(value, tuple | list):
            raise _OtherError
        members = cast(Sequence[Any], value)
        each = kinds * len(members) if endless else kinds
        if len(each) != len(members):
            raise _OtherError
        kept = tuple(kind.keep(member) for kind, member in zip(each, members, strict=True))
        same = isinstance(value, tuple) and all(one is other for one, other in zip(kept, members, strict=True))
        return value if same else kept

    of = kinds[0].expected if endless else ", ".join(kind.expected for kind in kinds)
    return _Kind(f"a list, each member {of}" if endless else f"a list of {of}", keep)


def _instance(of: Any) -> _Kind:
    def keep(value: Any) -> Any:
        if not isinstance(value, of):
            raise _OtherError
        return value

    record = of.__name__
    return _Kind(f"{record} ({', '.join(_names(cast(type, of)))})" if is_dataclass(of) else f"a {record}", keep)


_PLAIN: dict[Any, Callable[[Within | None], _Kind]] = {
    int: _whole,
    float: _real,
    bool: _truth,
    None: _nothing,
    type(None): _nothing,
}
