"""The contact sheet from the command line."""

from pathlib import Path

import pytest
from PIL import Image

from samecast.cli import main

SMALL = ("--size", "32", "--columns", "3", "--rows", "2")


def sheet(*words: str) -> int:
    return main(["diorama", "sheet", *SMALL, *words])


def test_a_sheet_has_its_size_and_depends_on_its_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, seed in zip(paths, ("1", "1", "2"), strict=True):
        assert sheet("--out", str(path), "--seed", seed) == 0
    first, again, other = (Image.open(path).convert("RGB") for path in paths)
    assert first.size == (96, 64)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
    assert str(paths[0]) in capsys.readouterr().out


def test_an_existing_picture_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("mine")
    assert sheet("--out", str(tmp_path / "a.png")) == 0
    assert (tmp_path / "a.png").read_text() == "mine"
    assert (tmp_path / "a-2.png").exists()


@pytest.mark.parametrize(
    "words", [("--rows", "0"), ("--size", "2"), ("--seed", "-1"), ("--out", "sheet.txt"), ("--columns", "x")]
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert sheet(*words) == 2
    assert capsys.readouterr().err.count("\n") == 1
