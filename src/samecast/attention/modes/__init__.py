"""Attention modes: how a row reads. One file each; a new mode is a file here and its line in `MODES`."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from samecast.attention.modes.align import Align
from samecast.attention.modes.base import Mode, Reader, Reading
from samecast.attention.modes.cast import Cast
from samecast.attention.modes.match import Match
from samecast.attention.modes.read import Read
from samecast.attention.modes.separate import Separate
from samecast.attention.modes.subject import SubjectOnly
from samecast.attention.modes.weigh import Weigh
from samecast.errors import SamecastError

MODES: dict[str, type[Mode]] = {mode.name: mode for mode in (Read, Separate, SubjectOnly, Weigh, Align, Match, Cast)}
"""Every mode by the name that files of rules and records give it."""


def make_mode(name: str, settings: Mapping[str, Any]) -> Mode:
    """A mode by its name and fields.

    Args:
        name: one of `MODES`.
        settings: its fields; those that are left out are at their defaults.

    Raises:
        SamecastError: there is no such mode, it has no such field, or a value is out of range.
    """
    if name not in MODES:
        raise SamecastError(f"the attention mode must be one of {', '.join(MODES)}; got {name!r}")
    known = [each.name for each in fields(MODES[name])]
    for field in settings:
        if field not in known:
            has = f"it has {', '.join(known)}" if known else "it has no fields"
            raise SamecastError(f"attention mode {name} has no {field}, which would do nothing; {has}")
    return MODES[name](**settings)


__all__ = [
    "MODES",
    "Align",
    "Cast",
    "Match",
    "Mode",
    "Read",
    "Reader",
    "Reading",
    "Separate",
    "SubjectOnly",
    "Weigh",
    "make_mode",
]
