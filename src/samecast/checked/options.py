"""Settings as a schema: what the command line, or any form, needs to know about a dataclass's fields.

A setting is declared once, as a field of a frozen dataclass: its annotation gives type and range (`Within`), its value
the default, the string below it the help, and `Option` the rest. Nothing here depends on the command line.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

Group = Literal["subject", "method", "sampling", "model", "output", "advanced"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""In the order in which help lists them."""
_SECTION = re.compile(r"^\S", re.MULTILINE)


@dataclass(frozen=True, repr=False)
class Option:
    """The properties of an option that its type and default leave open: `Annotated[int, Option(metavar="STEP")]`.

    Args:
        group: the heading that lists it in help.
        name: the option's name, if it is not the field's with hyphens.
        aliases: short names for it.
        metavar: the name of its value in help.
        default: the default in words, if the method, the model or the machine sets it.
        help: replaces the string below the field.
        given_as: a narrower type that the option accepts.
        repeated: whether the option may be given several times, once for each member of a tuple.
        positional: whether the values are given without an option name.
    """

    group: Group | None = None
    name: str = ""
    aliases: tuple[str, ...] = ()
    metavar: str = ""
    default: str = ""
    help: str = ""
    given_as: Any = None
    repeated: bool = False
    positional: bool = False

    def __repr__(self) -> str:
        data = ((each.name, getattr(self, each.name), each.default) for each in fields(self))
        return f"Option({', '.join(f'{name}={value!r}' for name, value, default in data if value != default)})"


class Takes:
    """Which fields of a nested dataclass are options of a command: `Annotated[RenderSettings, Takes("seed")]`."""

    def __init__(self, *names: str) -> None:
        self.names = names


@dataclass(frozen=True)
class Leaf:
    """One setting of a dataclass, possibly nested.

    Args:
        path: field names, from the outermost dataclass inwards.
        annotation: the field's annotation, with its metadata.
        default: the field's default.
        option: its `Option` metadata, merged; the heading is always set.
        help: the help text.
    """

    path: tuple[str, ...]
    annotation: Any
    default: Any
    option: Option
    help: str

    @property
    def flag(self) -> str:
        """The option's name as typed, with hyphens; a switch that is on by default is named `no-...`."""
        name = self.option.name or self.path[-1].replace("_", "-")
        return f"--no-{name}" if self.default is True else f"--{name}"


def leaves(kind: type, default: Any = None) -> tuple[Leaf, ...]:
    """All settings of a dataclass, including those of nested dataclasses, in field order.

    Args:
        kind: the dataclass.
        default: an instance whose values replace the fields' defaults.
    """
    return tuple(_leaves(kind, default, ()))


def _leaves(kind: type, default: Any, path: tuple[str, ...]) -> Iterator[Leaf]:
    hints, data = get_type_hints(kind, include_extras=True), field_docs(kind)
    for field in fields(cast(Any, kind)):
        if not field.init:
            continue
        annotation = hints[field.name]
        value = _default_of(field) if default is None else getattr(default, field.name)
        marks: tuple[Any, ...] = getattr(annotation, "__metadata__", ())
        inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
        here = (*path, field.name)
        if isinstance(inner, type) and is_dataclass(inner):
            taken = next((mark.names for mark in marks if isinstance(mark, Takes)), None)
            for leaf in _leaves(inner, value, here):
                if taken is None or leaf.path[len(here)] in taken:
                    yield leaf
            continue
        option = next((mark for mark in marks if isinstance(mark, Option)), Option())
        yield Leaf(here, annotation, value, option, option.help or data.get(field.name, ""))


def _default_of(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def field_docs(kind: type) -> dict[str, str]:
    """The help of each field of a dataclass and its bases: the string below the field, or its entry under `Args`."""
    data: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        data |= arg_docs(base)
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):
            continue
        (node,) = ast.parse(textwrap.dedent(source)).body
        body = node.body if isinstance(node, ast.ClassDef) else []
        for one, below in pairwise(body):
            match one, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    data[name] = " ".join(text.split())
                case _:
                    continue
    return data


def arg_docs(of: object) -> dict[str, str]:
    """The entries of a docstring's `Args` as sentences, by argument; entries for several arguments are left out."""
    _, _, below = (inspect.getdoc(of) or "").partition("\nArgs:\n")
    section = _SECTION.split(below)[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", section, re.MULTILINE)
    return {name: _sentence(" ".join(text.split())) for name, text in entries}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
