"""From words to a folder of pictures, on a tiny model of the real classes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from samecast.cli import main


@pytest.fixture
def rex(tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a photo in it."""
    photo.save(tmp_path / "rex.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


AUTO = ("--method", "masactrl-auto-masked", "--noun", "red dog")


def render(model: Path, *words: str) -> int:
    return main(["render", *words, "--model", str(model), "--steps", "6"])


def pixels(folder: Path) -> list[bytes]:
    return [Image.open(path).tobytes() for path in sorted(folder.glob("[0-9]*.png"))]


def test_a_photo_and_two_prompts_make_a_folder(
    rex: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(tiny_pipeline_dir, "rex.png", "a {noun} on the beach", "a dog at night", "--noun", "dog") == 0
    folder = rex / "renders" / "rex"
    names = {path.name for path in folder.iterdir()}
    assert {"01-a-dog-on-the-beach-seed0.png", "02-a-dog-at-night-seed0.png", "grid.png", "render.json"} <= names
    captured = capsys.readouterr()
    assert re.search(r"2 pictures in \S+rex \(\d+ evaluations", captured.out)
    assert "Traceback" not in captured.err
    data = json.loads((folder / "render.json").read_text())["provenance"]
    assert data["prompts"] == ["a {noun} on the beach", "a dog at night"]
    assert {"seeds", "rules", "settings", "model", "versions", "threads", "evaluations", "batch_shapes"} <= set(data)


@pytest.mark.parametrize(
    "words",
    [
        ("rex.png", "a dog", "a cat"),
        ("rex.png", "a dog", "--init", "0.5", "--images-per-prompt", "2", "--seed", "5", "--fit", "pad"),
        ("rex.png", "a dog", "--method", "masactrl-union", "--layers", "encoder", "--start", "1", "--final", "3"),
        ("rex.png", "a dog", "--source-prompt", "a photo of a dog", "--negative-prompt", "rain"),
        ("a {noun} in the snow", "--source-prompt", "a {noun}", "--noun", "cat", "--seed", "3"),
        ("rex.png", "a dog", "--method", "dream-matcher", "--noun", "dog", "--layers", "all"),
        ("rex.png", "a red dog", *AUTO, "--map-words", "red dog", "--map-layers", "mid,@1/2", "--threshold", "otsu"),
    ],
)
def test_again_makes_the_same_pictures_bit_for_bit(
    rex: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert render(tiny_pipeline_dir, *words, "--out", "first") == 0
    (rex / "rex.png").unlink()
    assert main(["render", "--again", "first/render.json", "--out", "second"]) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert pixels(rex / "first") == pixels(rex / "second") != []


def test_found_masks_lie_beside_the_pictures(rex: Path, tiny_pipeline_dir: Path) -> None:
    assert render(tiny_pipeline_dir, "rex.png", "a red dog", *AUTO, "--threshold", "0.3") == 0
    folder = rex / "renders" / "rex"
    entries = json.loads((folder / "render.json").read_text())["found_masks"]
    assert [(entry["of"], entry["number"], entry["threshold"]) for entry in entries] == [
        ("reference", 1, 0.3),
        ("picture", 1, 0.3),
    ]
    for entry in entries:
        assert entry["file"] == f"found-mask-{entry['of']}-1-red-dog.png"
        with Image.open(folder / entry["file"]) as mask:
            assert mask.size == (72, 56)


def test_again_says_when_the_model_is_another(
    rex: Path, tiny_pipeline_dir: Path, tiny_velocity_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(tiny_pipeline_dir, "rex.png", "a dog", "--out", "first") == 0
    assert main(["render", "--again", "first", "--model", str(tiny_velocity_dir)]) == 1
    captured = capsys.readouterr()
    assert "model revision was" in captured.err
    assert "1 of 1 differ" in captured.out
    assert (rex / "first-again" / "render.json").exists()


def test_a_second_run_leaves_the_first_alone(
    rex: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert render(tiny_pipeline_dir, "rex.png", "a dog") == 0
    assert "was not changed" in capsys.readouterr().err
    assert sorted(path.name for path in (rex / "renders").iterdir()) == ["rex", "rex-2"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--layers", "up.99"), "up.99"),
        (("--layers", "basement"), "basement"),
        (("--start", "6"), "beyond the last step"),
        (("--height", "65"), "multiple"),
        (("--images-per-prompt", "2"), "init"),
        (("--lora", "none.safetensors"), "none.safetensors"),
        ((*AUTO, "--map-layers", "@5"), "'@5' match nothing"),
        ((*AUTO, "--map-words", "cat"), "the word 'cat' is not in the prompt"),
    ],
)
def test_a_mistake_that_only_the_model_knows_is_one_line(
    rex: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], part: str
) -> None:
    assert render(tiny_pipeline_dir, "rex.png", "a dog", *words) == 2
    line = capsys.readouterr().err
    assert part in line
    assert line.count("\n") == 1
    assert not (rex / "renders").exists()


def test_ten_thousand_words_are_one_line(
    rex: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(tiny_pipeline_dir, "rex.png", "dog " * 10_000) == 2
    line = capsys.readouterr().err
    assert "75" in line
    assert len(line) < 300
    assert line.count("\n") == 1


def test_an_interrupt_ends_cleanly_and_leaves_nothing(rex: Path, tiny_pipeline_dir: Path) -> None:
    """Ctrl-C while rendering: code 130, one line, no folder, no temporary rest."""
    words = ["render", "rex.png", "a dog", "--model", str(tiny_pipeline_dir), "--steps", "900", "-v"]
    with subprocess.Popen(
        [sys.executable, "-m", "samecast", *words],
        cwd=rex,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    ) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 120
        while "settings" not in process.stderr.readline():  # logged just before the work begins
            assert time.monotonic() < deadline
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing is half-written" in error
    assert "Traceback" not in error
    assert output == ""
    assert [path.name for path in rex.iterdir()] == ["rex.png"]


def test_a_record_works_wherever_its_folder_goes(rex: Path, tiny_pipeline_dir: Path) -> None:
    assert render(tiny_pipeline_dir, "rex.png", "a dog", "--out", "first") == 0
    shutil.move(rex / "first", rex / "elsewhere")
    assert main(["render", "--again", str(rex / "elsewhere")]) == 0
