"""kill -9: a bounded share of the whole run, and that the run would notice what it looks for."""

import time
from pathlib import Path
from random import Random

import pytest

from benchmarks.kills import Kills, Work, kill, main, read_whole
from samecast.disk import write_new_bytes

WORKS = ("learn", "benchmark")  # tests/study kills studies; comparisons and benchmarks are one machine


def test_kill_9_leaves_every_file_whole_and_nothing_over(capsys: pytest.CaptureFixture[str]) -> None:
    found = main(Kills(count=2, only=WORKS))
    assert {name: of.wrong for name, of in found.items()} == {name: [] for name in WORKS}
    assert [of.kills for of in found.values()] == [1] * 2
    assert all(of.runs for of in found.values())
    assert "2 kills" in capsys.readouterr().out


def half(folder: Path) -> int:
    """Writes a file slowly, in place."""
    with (folder / "a.json").open("w") as file:
        for _ in range(50):
            file.write("[1, 2, 3")
            file.flush()
            time.sleep(0.01)  # long beside the fork, so that kills fall within
        file.seek(0)
        file.truncate()
        file.write("[]")
    return 0


def again(folder: Path) -> int:
    """Writes what is finished once more."""
    (folder / "a.json").unlink(missing_ok=True)
    (folder / "a.json").write_text("[]")
    time.sleep(0.05)
    return 0


def untidy(folder: Path) -> int:
    """Leaves what it was making."""
    (folder / ".half").write_text("half")
    time.sleep(0.05)
    return 0


def fails_when_done_again(folder: Path) -> int:
    code = int((folder / "a.json").exists())
    (folder / "a.json").write_text("[]")
    time.sleep(0.05)
    return code


def sound(folder: Path) -> int:
    if not (folder / "a.json").exists():
        time.sleep(0.02)
        write_new_bytes(folder / "a.json", b"[]")
    time.sleep(0.03)
    return 0


@pytest.mark.parametrize(
    ("do", "wrong"),
    [(half, "broken"), (again, "repeated"), (untidy, "left"), (fails_when_done_again, "failed"), (sound, "")],
)
def test_what_is_looked_for_is_noticed(tmp_path: Path, do: object, wrong: str) -> None:
    found = kill(Work(do, ("*.json",)), tmp_path / "work", 6, Random(0))  # type: ignore[arg-type]
    assert found.kills == 6
    noticed = [name for name in ("broken", "repeated", "left", "failed") if getattr(found, name)]
    assert wrong in noticed if wrong else not noticed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.safetensors", b"\x08\0\0\0\0\0\0\0{"),
        ("a.parquet", b"PAR1"),
        ("a.csv", b"a,b\n1"),
        ("a.html", b"<html><body"),
    ],
)
def test_half_a_file_is_not_whole(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each reader raises its own
        read_whole(tmp_path / name)
