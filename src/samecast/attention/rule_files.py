"""Rules as plain data, and files of them: what records keep, `samecast tune` writes and people write themselves."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from samecast.attention.modes import MODES, Mode
from samecast.attention.rule import Rule, Rules
from samecast.checked import Within, build, read_json, shown
from samecast.errors import SamecastError

FORMAT = 1
_FORMER = {"sites": "layers"}
"""Names that older files use."""


@dataclass(frozen=True)
class _RulesFile:
    """What a file of rules holds; `why` is for people."""

    rules: Any
    format: Annotated[int, Within(FORMAT, FORMAT)] = FORMAT
    why: Any = None


def rules_to_data(rules: Rules) -> list[dict[str, Any]]:
    """Rules as plain data that JSON can hold; `rules_from_data` reads it back."""
    return [{**asdict(rule), "mode": {"name": rule.mode.name, **asdict(rule.mode)}} for rule in rules]


def rules_from_data(data: object, where: str = "") -> Rules:
    """Rules from what `rules_to_data` gave, also after a round through JSON, which knows no tuples; or as people write
    them, with sources and layers, and the rest where it differs from a rule's defaults.

    Args:
        data: a list.
        where: it is from; begins each message.

    Raises:
        SamecastError: the data describes no rules.
    """
    if not isinstance(data, list):
        raise SamecastError(f"{where}rules must be a list; got {shown(data)}")
    record = enumerate(cast(list[object], data), start=1)
    return tuple(_rule_from_data(entry, f"{where}rule {number}") for number, entry in record)


def read_rules(file: Path) -> Rules:
    """Rules from a file of JSON that holds a list of them under `rules`, as `samecast tune` writes it.

    Raises:
        SamecastError: it cannot be read, or holds no rules.
    """
    record = build(_RulesFile, read_json(file, "file of rules"), repr(str(file)))
    return rules_from_data(record.rules, f"{str(file)!r}: ")


def rules_file(rules: Rules, why: dict[str, Any]) -> dict[str, Any]:
    """What `read_rules` reads; `why` is for people."""
    return asdict(_RulesFile(rules_to_data(rules), FORMAT, why))


def _rule_from_data(data: object, name: str) -> Rule:
    data = _renamed(data)
    if isinstance(data, dict) and "mode" in data:
        data = {**data, "mode": _mode_from_data(cast(object, data["mode"]), f"{name}: mode")}
    return build(Rule, data, name, needed=("sources", "layers"))


def _mode_from_data(data: object, name: str) -> Mode:
    """A mode by its name alone, or from an object of its name and fields."""
    record: dict[str, Any] = dict(cast(dict[str, Any], data)) if isinstance(data, dict) else {"name": data}
    called = record.pop("name", None)
    if not isinstance(called, str) or called not in MODES:
        raise SamecastError(f"{name} must be {', '.join(MODES)}, or an object with such a name; got {shown(data)}")
    return build(MODES[called], record, f"{name} {called}")


def _renamed(data: object) -> object:
    """Data with the names of today, also in the objects within."""
    if not isinstance(data, dict):
        return data
    return {_FORMER.get(key, key): _renamed(value) for key, value in cast(dict[Any, object], data).items()}
