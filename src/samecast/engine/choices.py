"""A named method and its arguments as one dataclass, made of the methods' own signatures and docstrings.

A method that is added to `METHODS` is an option of the command line with that, and so is every parameter it has.
"""

import inspect
import types
from collections.abc import Mapping
from dataclasses import field, is_dataclass, make_dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_type_hints

from samecast.attention.methods import METHODS
from samecast.attention.rule import Rules
from samecast.checked import Leaf, Option, leaves, shown
from samecast.checked.options import arg_docs
from samecast.errors import SamecastError

DEFAULT = "masactrl"


def spelt(method: str) -> str:
    """A method's name as the command line has it."""
    return method.replace("_", "-")


@cache
def method_options() -> type:
    """A frozen dataclass of `method`, and of all parameters that any of the methods has; None is the method's own."""
    annotation = Annotated[Literal[tuple(map(spelt, METHODS))], Option("method", help=_methods_help())]
    made: list[tuple[str, Any, Any]] = [("method", annotation, field(default=spelt(DEFAULT)))]
    for name, takers in _takers().items():
        inner, option = _split(next(iter(takers.values())).annotation)
        made.append((name, Annotated[Union[inner, None], _told(name, takers, option)], field(default=None)))  # noqa: UP007
    return make_dataclass("MethodOptions", made, frozen=True)


def make_rules(method: str, given: Mapping[str, Any], flags: Mapping[str, str] | None = None) -> Rules:
    """The rules of a method.

    Args:
        method: its name, with hyphens or underscores.
        given: parameters that somebody gave; a part of a nested dataclass is given by its own name.
        flags: what each of them is called in messages.

    Raises:
        SamecastError: there is no such method, a parameter has no effect with it, or is out of range.
    """
    key = method.replace("-", "_")
    if key not in METHODS:
        raise SamecastError(f"there is no method {shown(method)}; choose from {', '.join(map(spelt, METHODS))}")
    arguments: dict[str, Any] = {}
    for name, value in given.items():
        called = (flags or {}).get(name, name)
        takers = _takers().get(name, {})
        if key not in takers:
            data = f"it is for {', '.join(spelt(other) for other in takers)}" if takers else "no method takes it"
            raise SamecastError(f"{called} has no effect with --method {spelt(key)}: {data}")
        parent = takers[key].path[0] if len(takers[key].path) > 1 else None
        if parent is None:
            arguments[name] = value
        else:
            before = arguments.get(parent, inspect.signature(METHODS[key]).parameters[parent].default)
            part = takers[key].path[1]
            arguments[parent] = replace(before, **{part: value})
    return METHODS[key](**arguments)


@cache
def _takers() -> dict[str, dict[str, Leaf]]:
    """All parameters, each with the methods that take it and what they say of it."""
    found: dict[str, dict[str, Leaf]] = {}
    for method, function in METHODS.items():
        hints, data = get_type_hints(function, include_extras=True), arg_docs(function)
        for name, parameter in inspect.signature(function).parameters.items():
            annotation, default = hints[name], parameter.default
            if isinstance(annotation, type) and is_dataclass(annotation):
                for leaf in leaves(annotation, default):
                    if len(leaf.path) == 1:  # what is nested deeper no option says
                        key = (leaf.option.name or leaf.path[0]).replace("-", "_")
                        found.setdefault(key, {})[method] = replace(leaf, path=(name, *leaf.path))
                continue
            _, option = _split(annotation)
            leaf = Leaf((name,), annotation, default, option, data.get(name, ""))
            found.setdefault(name, {})[method] = leaf
    return found


def _told(name: str, takers: Mapping[str, Leaf], option: Option) -> Option:
    """The option of a parameter: whom it is for, its help, and what each method takes by default."""
    text = next((leaf.help for leaf in takers.values() if leaf.help), "")
    takes = [spelt(method) for method in takers]
    if len(takers) < len(METHODS) - 1:  # all but `none`
        text = f"For {' and '.join(takes) if len(takes) < 3 else ', '.join(takes)}: {text[:1].lower()}{text[1:]}"
    by_value: dict[str, list[str]] = {}
    for method, leaf in takers.items():
        by_value.setdefault(_value(leaf), []).append(spelt(method))
    values = sorted(by_value, key=lambda value: -len(by_value[value]))
    default = "; ".join([values[0], *(f"{value} for {', '.join(by_value[value])}" for value in values[1:])])
    return replace(option, group="method", name=name.replace("_", "-"), help=text, default=default)


def _value(leaf: Leaf) -> str:
    if leaf.default in (None, "") and leaf.option.default:
        return leaf.option.default
    return f"{leaf.default:g}" if isinstance(leaf.default, float) else str(leaf.default)


def _methods_help() -> str:
    """What each method is, in the first line of its docstring."""
    firsts = {spelt(name): (inspect.getdoc(method) or "").splitlines()[0] for name, method in METHODS.items()}
    return "How the subject is kept.\n" + "\n".join(f"{name}: {text}" for name, text in firsts.items())


def _split(annotation: Any) -> tuple[Any, Option]:
    """An annotation without None and without marks, and its mark."""
    option = next((mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Option)), Option())
    inner = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    if isinstance(inner, types.UnionType):
        kept = tuple(part for part in get_args(inner) if part is not type(None))
        inner = Union[kept]  # noqa: UP007
    return inner, option
