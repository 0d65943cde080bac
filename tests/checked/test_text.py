"""Files of text, JSON and YAML: what can be read is read, and the rest is one line, however hostile it is."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samecast.checked import MOST_DEPTH, read_json, read_lines, read_text, read_yaml
from samecast.errors import SamecastError

DATA = {"noun": "é dog 강아지", "steps": [1, 2.5, None, True], "seed": 2**63 - 1}


def refused(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(SamecastError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_any_encoding_that_says_which_it_is(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(DATA, ensure_ascii=False), encoding=encoding)
    assert read_json(file) == DATA


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_as_windows_writes_it_is_text(tmp_path: Path, mark: bytes) -> None:
    encoding = "utf-16-le" if mark == b"\xff\xfe" else "utf-16-be"
    (tmp_path / "a.txt").write_bytes(mark + "a dog\r\n\r\n  a cat\r\n".encode(encoding))
    assert read_lines(tmp_path / "a.txt") == ("a dog", "a cat")


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[1, 2,]", "Illegal trailing comma|Expecting value"),
        (b'{"a": 1, "a": 2}', "the key 'a' is repeated"),
        (b"[" * 50_000, "more than 64 levels"),
        (b"[" * 50_000 + b"]" * 50_000, "more than 64 levels"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "more than 64 levels"),
        (b"[" * 65 + b"]" * 65, "more than 64 levels"),
        (b"9" * 5000, "a number of 5,000 digits"),
        (b'{"seed": -' + b"1" * 21 + b"}", "a number of 21 digits"),
        (b"1e400", "'1e400' is too large"),
        (b"[-1e999]", "too large"),
        (b"[Infinity]", "Infinity is not a number"),
        (b"[-Infinity]", "Infinity is not a number"),
        (b"[NaN]", "NaN is not a number"),
        (b'["\\ud800"]', "not UTF-8 text"),
        (b'{"\\udfff": 1}', "not UTF-8 text"),
        (b'["a\\u0000b"]', "null character"),
        (b'["' + b"x" * 100_001 + b'"]', "100,001 characters"),
        (b'["caf\xe9"]', "not UTF-8 text: invalid continuation byte at byte 5"),
        (b"\xff\xfe{\x00}", "not UTF-16-LE text"),
        (b"\x80", "not UTF-8 text"),
    ],
)
def test_what_is_no_sound_json_is_one_line(tmp_path: Path, content: bytes, data: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    message = refused(read_json, file)
    assert any(part in message for part in data.split("|")), message
    assert repr(str(file)) in message


def test_as_deep_as_is_allowed_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    read_json(tmp_path / "a.json")
    (tmp_path / "a.yaml").write_text("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    read_yaml(tmp_path / "a.yaml")


def test_half_letters_that_make_a_whole_one_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["\\ud83d\\udc36"]')
    assert read_json(tmp_path / "a.json") == ["\U0001f436"]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b"[" * 50_000, "more than 64 levels"),
        (b"{a: " * 50_000, "more than 64 levels"),
        (b"\n".join(b" " * n + b"a:" for n in range(70)), "more than 64 levels"),
        (b"- " * 20_000 + b"x", "more than 64 levels"),
        (BOMB.encode(), "the alias *a"),
        (b"a: &a [*a]", "the alias *a"),
        (b"axes: {final: 1, final: 2}", "'final' is repeated"),
        (b"axes: [", "expected"),
        (b"a: b: c", "not allowed here"),
        (b"? [a]\n: b", "unhashable"),
        (b"{[a]: b}", "unhashable"),
        (b"a: \x01", "special characters are not allowed"),
        (b"a: caf\xe9", "not UTF-8 text"),
        (b"%YAML 9.9\n---\na", "incompatible"),
        (b'a: "\\ud800"', "not UTF-8 text"),
        (b"a: " + b"x" * 2**20, "more than 1,048,576 bytes"),
    ],
)
def test_what_is_no_sound_yaml_is_one_line(tmp_path: Path, content: bytes, data: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    began = time.process_time()
    assert data in refused(read_yaml, tmp_path / "a.yaml")
    assert time.process_time() - began < 5


def test_yaml_scalars_are_text_with_a_byte_order_mark_or_without(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "a.yaml").write_text("axes: {final: [20:51:5, 1e400, ~]}\n", encoding=encoding)
        assert read_yaml(tmp_path / "a.yaml") == {"axes": {"final": ["20:51:5", "1e400", "~"]}}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("gone.json", "does not exist"),
        (".", "is a folder"),
        ("~nosuchuser/a.json", "the home of a user that does not exist on this machine"),
        ("x" * 300, "name too long|File name too long"),
        ("a\0b", "null"),
        ("pipe", "not a regular file"),
        ("link", "not a regular file"),
    ],
)
def test_what_is_no_file_is_one_line(tmp_path: Path, name: str, data: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    path = Path(name) if name.startswith("~") else tmp_path / name
    assert any(part in refused(read_text, path) for part in data.split("|"))


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "sparse.json").open("wb") as file:
        file.truncate(10 * 2**30)
    assert "more than 67,108,864 bytes" in refused(read_json, tmp_path / "sparse.json")
