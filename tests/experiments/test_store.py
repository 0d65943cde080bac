"""A store: whole files or none, keys that say what is in them, nobody else meanwhile."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from samecast.errors import SamecastError
from samecast.experiments.store import Store, content_key, joined_key


def test_what_is_written_lies_under_its_key_and_is_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = content_key({"a": 1})
    assert not store.has("runs", key)
    assert store.read("runs", key) is None
    store.write("runs", key, {"value": "ü"})
    assert (tmp_path / "runs" / key[:2] / f"{key}.json").is_file()
    assert store.has("runs", key)
    assert store.read("runs", key) == {"value": "ü"}
    assert list(store.every("runs")) == [(key, {"value": "ü"})]
    store.remove("runs", key)
    store.remove("runs", key)
    assert not store.has("runs", key)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_what_cannot_be_read_is_as_good_as_not_made(tmp_path: Path, damage: bytes) -> None:
    store, key = Store(tmp_path), content_key({})
    store.write("runs", key, {})
    store.file("runs", key).write_bytes(damage)
    assert store.read("runs", key) is None
    assert list(store.every("runs")) == []


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    store, key = Store(tmp_path), content_key({})
    store.write("runs", key, {"old": 1})

    def half(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SamecastError, match="No space left"):
        store.put("runs", key, half)
    assert store.read("runs", key) == {"old": 1}
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file != store.file("runs", key)]


def test_keys_are_of_content_not_of_order() -> None:
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": [1, 2], "a": 1})
    assert len({content_key({"a": value}) for value in (1, 1.5, "1", None, True, [1], {"a": 1})}) == 7
    assert joined_key("a", "b") != joined_key("b", "a") != joined_key("a b")
    with pytest.raises(SamecastError, match="cannot be part of a key"):
        content_key({"a": {1, 2}})


def test_two_do_not_work_in_one_store_and_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    child = os.fork()
    if child == 0:
        with Store(tmp_path).locked():
            Store(tmp_path).put("runs", "ab", lambda part: (part.write_text("half"), time.sleep(600)))
        os._exit(0)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".writing/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(SamecastError, match="in use by another process"), store.locked():
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with store.locked():
        assert not (tmp_path / ".writing").exists()  # what it left half-written
    assert not list(tmp_path.rglob("*"))


def test_a_folder_of_work_in_progress_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, two = content_key({"n": 1}), content_key({"n": 2})
    for key in (one, two):
        store.folder("progress", key).mkdir(parents=True)
        (store.folder("progress", key) / "live").write_text(json.dumps(key))
    store.clear("progress", one)
    assert (store.folder("progress", two) / "live").is_file()
    store.clear("progress", two)
    store.clear("progress", two)
    assert not (tmp_path / "progress").exists()
