"""Rules as plain data, and files of them: what records keep, `samecast tune` writes and people write themselves."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from samecast.attention.modes import Mode, make_mode
from samecast.control.rule import Rule, Rules
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError

_T = TypeVar("_T")


def rules_to_data(rules: Rules) -> list[dict[str, Any]]:
    """Rules as plain data that JSON can hold; `rules_from_data` reads it back."""
    return [{**asdict(rule), "mode": {"name": rule.mode.name, **asdict(rule.mode)}} for rule in rules]


def rules_from_data(data: object) -> Rules:
    """Rules from what `rules_to_data` gave, also after a round through JSON, which knows no tuples; or as people write
    them, with sources and sites, and the rest where it differs from a rule's defaults.

    Raises:
        SamecastError: the data describes no rules.
    """
    if not isinstance(data, list):
        raise SamecastError(f"rules must be a list; got {_shown(data)}")
    return tuple(_rule_from_data(entry) for entry in cast(list[object], data))


def read_rules(file: Path) -> Rules:
    """Rules from a file of JSON that holds a list of them under `rules`, as `samecast tune` writes it.

    Raises:
        SamecastError: it cannot be read, or holds no rules.
    """
    try:
        data: object = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or "rules" not in data:
            raise SamecastError(f'expected {{"rules": [...]}}, got {_shown(cast(object, data))}')
        return rules_from_data(cast(dict[str, object], data)["rules"])
    except (OSError, ValueError) as error:
        raise SamecastError(f"{str(file)!r} is no file of rules: {' '.join(str(error).split())}") from None


def _rule_from_data(data: object) -> Rule:
    told = _told(Rule, data, "a rule", needed=("sources", "sites"))
    told["sources"] = _listed(told["sources"], "a rule's sources")
    if told.get("readers", "targets") != "targets":
        told["readers"] = _listed(told["readers"], "a rule's readers")
    if "steps" in told:
        told["steps"] = _steps_from_data(told["steps"])
    if "mode" in told:
        told["mode"] = _mode_from_data(told["mode"])
    return _made(Rule, told, "a rule")


def _mode_from_data(data: object) -> Mode:
    """A mode by its name alone, or an object of its name and fields."""
    if isinstance(data, str):
        return make_mode(data, {})
    if not isinstance(data, dict) or not isinstance(cast(dict[str, Any], data).get("name"), str):
        raise SamecastError(f"a rule's mode must be a name, or an object with one; got {_shown(cast(object, data))}")
    told = dict(cast(dict[str, Any], data))
    if not isinstance(told.get("tokens", "given"), str):
        words = _told(SubjectTokens, told["tokens"], "a mode's tokens")
        if "steps" in words:
            words["steps"] = _steps_from_data(words["steps"])
        told["tokens"] = _made(SubjectTokens, words, "a mode's tokens")
    return make_mode(told.pop("name"), told)


def _steps_from_data(data: object) -> Steps:
    told = _told(Steps, data, "a rule's steps")
    if told.get("only") is not None:
        told["only"] = _listed(told["only"], "a rule's list of steps")
    return _made(Steps, told, "a rule's steps")


def _told(kind: type, data: object, name: str, needed: Sequence[str] = ()) -> dict[str, Any]:
    known = [each.name for each in fields(kind)]
    if not isinstance(data, dict):
        raise SamecastError(f"{name} must be an object of {', '.join(known)}; got {_shown(data)}")
    told = cast(dict[str, Any], data)
    for key in told:
        if key not in known:
            raise SamecastError(f"{name} has no {key!r}; it has {', '.join(known)}")
    for key in needed:
        if key not in told:
            raise SamecastError(f"{name} must tell its {key}; got {_shown(told)}")
    return dict(told)


def _listed(data: object, name: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise SamecastError(f"{name} must be a list; got {_shown(data)}")
    return tuple(cast(Sequence[Any], data))


def _made(kind: Callable[..., _T], told: Mapping[str, Any], name: str) -> _T:
    try:
        return kind(**told)
    except (TypeError, ValueError) as error:  # of the wrong kind, such as a number written as text
        if isinstance(error, SamecastError):
            raise
        raise SamecastError(f"{name}: something is of the wrong kind in: {_shown(told)}") from error


def _shown(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."
