"""Bytes to text to plain data, with limits: a file of a few kilobytes must not exhaust a stack, a memory or a day."""

import codecs
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from samecast.checked.values import one_line, shown, text_fault
from samecast.disk import read_bytes
from samecast.errors import SamecastError

MOST_BYTES = 64 * 2**20
MOST_YAML_BYTES = 2**20
"""PyYAML reads about a megabyte a second."""
MOST_DEPTH = 64
MOST_DIGITS = 20
"""Of a whole number: enough for any of 64 bits."""
# Longest first: UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: str | Path, *, most: int = MOST_BYTES) -> str:
    """The text of a file: UTF-8, or what its byte-order mark says.

    Args:
        path: of a regular file.
        most: how many bytes it may have.

    Raises:
        SamecastError: it is missing, too long, or no text.
    """
    data = read_bytes(path, most=most)
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise SamecastError(
            f"{str(path)!r} is not {encoding.upper()} text: {error.reason} at byte {error.start}"
        ) from None


def read_lines(path: str | Path) -> tuple[str, ...]:
    """The lines of a text file without the blanks around them, those that are empty left out.

    Raises:
        SamecastError: as for `read_text`, or a line is longer than a text may be.
    """
    lines = tuple(line for line in map(str.strip, read_text(path).splitlines()) if line)
    for number, line in enumerate(lines, start=1):
        if reason := text_fault(line):
            raise SamecastError(f"line {number} of {str(path)!r} {reason}")
    return lines


def read_json(path: str | Path, what: str = "JSON file") -> Any:
    """The data in a file of JSON.

    Args:
        path: of the file.
        what: it should be, for messages: a list of subjects, a record.

    Raises:
        SamecastError: it cannot be read, or holds what `parse_json` refuses.
    """
    return parse_json(read_text(path), f"{str(path)!r} is no {what}")


def parse_json(text: str, complaint: str) -> Any:
    """Plain data from JSON.

    Args:
        text: the JSON.
        complaint: begins the message: what it is that is wrong.

    Raises:
        SamecastError: it is no JSON; it nests deeper than `MOST_DEPTH`; a key is there twice; a number is not finite,
            or whole and of more than 64 bits; or a text is no text, as `check_text` says.
    """
    try:
        data = json.loads(
            text, parse_constant=_refuse, parse_int=_integer, parse_float=_real, object_pairs_hook=_unique
        )
    except RecursionError:
        raise SamecastError(f"{complaint}: it nests more than {MOST_DEPTH} levels deep") from None
    except ValueError as error:
        raise SamecastError(f"{complaint}: {one_line(error)}") from None
    if reason := _fault(data):
        raise SamecastError(f"{complaint}: {reason}")
    return data


def read_yaml(path: str | Path, what: str = "YAML file") -> Any:
    """The data in a file of YAML, all scalars as text: YAML 1.1 takes 20:51:5 for a number to the base of 60.

    Args:
        path: of the file.
        what: it should be, for messages.

    Raises:
        SamecastError: it cannot be read; it nests deeper than `MOST_DEPTH`, repeats itself by aliases, which multiply,
            or has a key twice.
    """
    import yaml

    class Loader(yaml.BaseLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            return _unique(
                [(self.construct_object(key, deep), self.construct_object(of, deep)) for key, of in node.value]
            )

    complaint = f"{str(path)!r} is no {what}"
    text = read_text(path, most=MOST_YAML_BYTES)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                raise SamecastError(f"{complaint}: it nests more than {MOST_DEPTH} levels deep")
            if isinstance(event, yaml.AliasEvent):
                raise SamecastError(f"{complaint}: it has the alias *{event.anchor}; write the value out")
        # Aliases and depth are settled above, and this loader makes nothing but lists, dictionaries and text.
        data = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise SamecastError(f"{complaint}: {one_line(error)}") from None
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, SamecastError):
            raise
        raise SamecastError(f"{complaint}: {one_line(error)}") from None
    if reason := _fault(data):
        raise SamecastError(f"{complaint}: {reason}")
    return data


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _integer(digits: str) -> int:
    count = len(digits.lstrip("-"))
    if count > MOST_DIGITS:
        raise ValueError(f"a number of {count:,} digits; {MOST_DIGITS} are the most")
    return int(digits)


def _real(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {shown(digits)} is too large")
    return number


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} is there twice")
        found[key] = value
    return found


def _fault(data: object) -> str:
    """What is wrong with plain data, walked without recursion; empty where nothing is."""
    level: list[object] = [data]
    depth = 0
    while level:
        deeper: list[object] = []
        for value in level:
            if isinstance(value, dict | list) and depth == MOST_DEPTH:
                return f"it nests more than {MOST_DEPTH} levels deep"
            if isinstance(value, dict):
                deeper += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                deeper += value
            elif isinstance(value, str) and (reason := text_fault(value)):
                return f"a text {reason}: {shown(value)}"
        level, depth = deeper, depth + 1
    return ""
