"""Bytes to text to plain data, with limits, so that a small file cannot exhaust stack, memory or time."""

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
"""Most digits of a whole number: enough for 64 bits."""
# Longest first: UTF-32's byte-order mark starts with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: str | Path, *, most: int = MOST_BYTES) -> str:
    """The text of a file: UTF-8, or the encoding of its byte-order mark.

    Args:
        path: a regular file.
        most: largest size in bytes.

    Raises:
        SamecastError: the file is missing, too long, or not text.
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
    """The stripped, non-empty lines of a text file.

    Raises:
        SamecastError: as for `read_text`, or a line is too long.
    """
    lines = tuple(line for line in map(str.strip, read_text(path).splitlines()) if line)
    for number, line in enumerate(lines, start=1):
        if reason := text_fault(line):
            raise SamecastError(f"line {number} of {str(path)!r} {reason}")
    return lines


def read_json(path: str | Path, what: str = "JSON file") -> Any:
    """The data of a JSON file.

    Args:
        path: path of the file.
        what: the expected content in messages, such as "list of subjects".

    Raises:
        SamecastError: the file cannot be read, or `parse_json` refuses its content.
    """
    return parse_json(read_text(path), f"{str(path)!r} is not a {what}")


def parse_json(text: str, complaint: str) -> Any:
    """Plain data from JSON.

    Args:
        text: the JSON.
        complaint: start of the error message.

    Raises:
        SamecastError: the text is not JSON; it nests deeper than `MOST_DEPTH`; a key is repeated; a number is not
            finite, or whole and of more than 64 bits; or a text fails `check_text`.
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
    """The data of a YAML file, all scalars as text: YAML 1.1 reads 20:51:5 as a number in base 60.

    Args:
        path: path of the file.
        what: the expected content in messages.

    Raises:
        SamecastError: the file cannot be read, nests deeper than `MOST_DEPTH`, repeats a key, or has aliases, which can
            multiply its size.
    """
    import yaml

    class Loader(yaml.BaseLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            return _unique(
                [(self.construct_object(key, deep), self.construct_object(of, deep)) for key, of in node.value]
            )

    complaint = f"{str(path)!r} is not a {what}"
    text = read_text(path, most=MOST_YAML_BYTES)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                raise SamecastError(f"{complaint}: it nests more than {MOST_DEPTH} levels deep")
            if isinstance(event, yaml.AliasEvent):
                raise SamecastError(f"{complaint}: it has the alias *{event.anchor}; write the value out")
        # Aliases and depth are checked above; this loader makes lists, dictionaries and text only.
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
    raise ValueError(f"{constant} is not a number")


def _integer(digits: str) -> int:
    count = len(digits.lstrip("-"))
    if count > MOST_DIGITS:
        raise ValueError(f"a number of {count:,} digits; at most {MOST_DIGITS} are allowed")
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
            raise ValueError(f"the key {shown(key)} is repeated")
        found[key] = value
    return found


def _fault(data: object) -> str:
    """The first fault of plain data, in words; empty for none. Walks it without recursion."""
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
