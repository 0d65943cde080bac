"""Converts a dataclass of settings to tyro's options, and typed options back to the dataclass.

tyro reads one small dataclass for each heading of help, made from the settings that `samecast.checked.leaves` finds.
Their defaults are "not given", so that the settings' own defaults apply to options that were not typed.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, cast, get_args, get_origin

import tyro

from samecast.checked import GROUPS, Leaf, Within, check_value, leaves

_Given = Mapping[tuple[str, ...], str]
_Taken = Mapping[tuple[str, ...], Any]


class Command:
    """Base class of every command's options.

    Attributes:
        given: the typed options, by the path of their field.
        other: a nested dataclass's name, its defaults under another condition, and that condition in words, for help.
    """

    given: ClassVar[_Given] = {}
    other: ClassVar[tuple[str, Any, str] | None] = None

    def flags(self, *without: str) -> list[str]:
        """The names of the typed options, except those of some fields; positional arguments have no hyphens."""
        return [flag for path, flag in self.given.items() if path[0] not in without]

    def data(self, name: str) -> dict[str, Any]:
        """The typed values of the nested dataclass in a field, by its field names."""
        nested = getattr(self, name)
        return {path[1]: getattr(nested, path[1]) for path in self.given if path[0] == name and len(path) == 2}


def parser_of(kind: type[Command]) -> type:
    """The nested dataclass that tyro parses a command into: one part for each heading, positional arguments first."""
    headings: dict[str, list[tuple[str, Any, Any]]] = {group: [] for group in GROUPS}
    plain: list[tuple[str, Any, Any]] = []
    for leaf in leaves(kind):
        where = plain if leaf.option.positional else headings[leaf.option.group or "method"]
        absent = MISSING if leaf.default is MISSING else _absent(leaf)
        where.append((_key(leaf), _annotation(leaf, kind), field(default=absent, kw_only=True)))
    for name, members in headings.items():
        if members:
            group = make_dataclass(name, members, frozen=True)
            group.__doc__ = ""
            plain.append((name, group, field(default_factory=group)))
    made = make_dataclass(kind.__name__, plain, frozen=True)
    made.__doc__ = kind.__doc__
    return made


def read_words(kind: type[Command], typed: Any) -> Command:
    """The options of a command from tyro's parsed values.

    Raises:
        SamecastError: a value has another type than its field, or is out of range.
    """
    values = {
        name: value
        for part in fields(typed)
        for name, value in (
            _values(getattr(typed, part.name))
            if is_dataclass(getattr(typed, part.name))
            else {part.name: getattr(typed, part.name)}
        ).items()
    }
    given: dict[tuple[str, ...], str] = {}
    taken: dict[tuple[str, ...], Any] = {}
    for leaf in leaves(kind):
        value = values[_key(leaf)]
        if leaf.default is not MISSING and value == _absent(leaf):
            continue
        given[leaf.path] = "a photo or prompt" if leaf.option.positional else leaf.flag
        taken[leaf.path] = check_value(value, _without_none(leaf.option.given_as or leaf.annotation), leaf.flag)
    options = kind(**_changes(partial(_default_of, kind), taken, ()))
    object.__setattr__(options, "given", given)
    return options


def flags_of(kind: type[Command]) -> tuple[str, ...]:
    """The names of all options of a command."""
    return tuple(leaf.flag for leaf in leaves(kind) if not leaf.option.positional)


def _values(part: Any) -> dict[str, Any]:
    return {each.name: getattr(part, each.name) for each in fields(part)}


def _changes(default_of: Callable[[str], Any], taken: _Taken, above: tuple[str, ...]) -> dict[str, Any]:
    """The typed values by field; a nested dataclass is its default with the typed values replaced."""
    changes: dict[str, Any] = {}
    for path, value in taken.items():
        name, here = path[len(above)], path[: len(above) + 1]
        if path == here:
            changes[name] = value
        elif name not in changes:
            inner = {at: one for at, one in taken.items() if at[: len(here)] == here}
            instance = default_of(name)
            changes[name] = replace(instance, **_changes(partial(getattr, instance), inner, here))
    return changes


def _default_of(kind: type, name: str) -> Any:
    of = next(each for each in fields(cast(Any, kind)) if each.name == name)
    return of.default if of.default_factory is MISSING else of.default_factory()


def _without_none(annotation: Any) -> Any:
    """The annotation without None."""
    if get_origin(annotation) is Annotated:
        return Annotated[(_without_none(get_args(annotation)[0]), *annotation.__metadata__)]  # type: ignore[return-value]
    kept = tuple(part for part in get_args(annotation) if part is not type(None))
    return Union[kept] if len(kept) < len(get_args(annotation)) else annotation  # noqa: UP007


def _key(leaf: Leaf) -> str:
    """The leaf's option as a Python identifier."""
    return (leaf.option.name or leaf.path[-1]).replace("-", "_")


def _absent(leaf: Leaf) -> Any:
    """The value of an option that was not typed."""
    kind = _plain(leaf)
    if kind is bool:
        return leaf.default
    return () if get_origin(kind) is tuple else None


def _plain(leaf: Leaf) -> Any:
    """The type of an option's value, without metadata and None."""
    kind: Any = leaf.option.given_as or leaf.annotation
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (tuple, Literal) or not get_args(kind):
        return kind
    members = [part for part in get_args(kind) if part is not type(None)]
    return Union[tuple(_bare(part) for part in members)]  # noqa: UP007


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _annotation(leaf: Leaf, of: type[Command]) -> Any:
    """The leaf's type with tyro's metadata."""
    kind = _plain(leaf)
    hint = ""
    if kind is not bool and not leaf.option.repeated:
        data = default_text(leaf, of)
        hint = f"(default: {data})" if data else ""
    shown: dict[str, Any] = {"help": leaf.help, "help_behavior_hint": hint, "prefix_name": False}
    if kind is not bool:
        shown["metavar"] = leaf.option.metavar or _metavar(kind, leaf)
    if leaf.option.aliases:
        shown["aliases"] = leaf.option.aliases
    if get_origin(kind) is Literal:  # our own check lists the choices in order
        kind = str
    if kind is bool:
        marked: Any = tyro.conf.FlagCreatePairsOff[bool]
    elif leaf.option.positional:
        marked = tyro.conf.Positional[kind if leaf.default is MISSING else _optional(kind)]
    elif leaf.option.repeated:
        marked = tyro.conf.UseAppendAction[kind]
    else:
        marked = _optional(kind)
    return Annotated[marked, tyro.conf.arg(**shown)]


def _optional(kind: Any) -> Any:
    return kind if get_origin(kind) is tuple else Union[kind, None]  # noqa: UP007


def default_text(leaf: Leaf, of: type[Command]) -> str:
    """The default in words, with that under the other condition if it differs."""
    data = _shown(leaf.default, leaf)
    if of.other is not None and of.other[0] == leaf.path[0]:
        _, instance, condition = of.other
        instead = _shown(getattr(instance, leaf.path[1]), leaf)
        if instead != data:
            return f"{data}; {instead} {condition}"
    return data


def _shown(value: object, leaf: Leaf) -> str:
    if leaf.option.default and value in (None, "", (), leaf.default):
        return leaf.option.default
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value in (None, (), "", MISSING) else str(value)


def _metavar(kind: Any, leaf: Leaf) -> str:
    members = get_args(kind)
    if get_origin(kind) is Literal:
        return "|".join(members)
    if get_origin(kind) is Union or isinstance(kind, type(int | str)):
        return "|".join(_metavar(member, leaf) for member in members)
    if kind in (int, float):
        within = next((mark for mark in _marks(leaf.annotation) if isinstance(mark, Within)), None)
        if within is not None and within.most <= 100:
            return f"{within.least:g}-{within.most:g}"
        return "INT" if kind is int else "NUMBER"
    return "PATH" if kind is Path else "TEXT"


def _marks(annotation: Any) -> tuple[Any, ...]:
    """All metadata of an annotation and of its alternatives."""
    if get_origin(annotation) is Annotated:
        return (*annotation.__metadata__, *_marks(get_args(annotation)[0]))
    return tuple(mark for part in get_args(annotation) for mark in _marks(part))
