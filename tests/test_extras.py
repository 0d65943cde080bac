"""What needs an extra says so in one line before any work, and a render needs none."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from samecast.errors import lacking

ROOT = Path(__file__).parents[1]
BLOCKED = """
import json, sys
for name in {blocked}:
    sys.modules[name] = None  # as if it were not installed
import contextlib, io
from samecast.cli import main
told = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(words)
    told.append(code)
print("CODES", json.dumps(told))
"""
EXTRAS = {"study": ("matplotlib", "pyarrow"), "diorama": ("numba",)}


def run(blocked: tuple[str, ...], words: list[list[str]], where: Path) -> tuple[list[int], list[str]]:
    """The exit codes of some commands in one process in which modules cannot be imported, and what they complain of."""
    script = BLOCKED.format(blocked=blocked)
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(words)], capture_output=True, text=True, check=False, cwd=where
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.rpartition("CODES ")[2])
    return codes, [line for line in done.stderr.splitlines() if line.startswith("samecast: ")]


@pytest.fixture
def work(tmp_path: Path, photo: Image.Image) -> Path:
    photo.save(tmp_path / "rex.png")
    entry = {"name": "rex", "description": "a dog", "image_path": "rex.png"}
    (tmp_path / "annotation.json").write_text(json.dumps([entry]))
    return tmp_path


def test_a_render_and_a_study_of_ones_own_photos_need_no_numba_and_a_render_nothing_else(
    work: Path, tiny_pipeline_dir: Path
) -> None:
    model = ["--model", str(tiny_pipeline_dir), "--device", "cpu"]
    render = ["render", "rex.png", "a dog", *model, "--steps", "2", "--out", "out", "--method", "masactrl"]
    codes, _ = run((*EXTRAS["study"], *EXTRAS["diorama"]), [render, ["layers", *model[:2]]], work)
    assert codes == [0, 0]
    assert list((work / "out").glob("*.png"))
    study = ["study", "annotation.json", *model, "--clip", "diorama", "--axis", "final=1,2", "--steps", "2"]
    codes, data = run(EXTRAS["diorama"], [[*study, "--height", "32", "--width", "32", "--out", "study"]], work)
    assert (codes, data) == ([0], [])


def test_what_needs_an_extra_says_which_and_does_nothing(work: Path, tiny_pipeline_dir: Path) -> None:
    model, axis = ["--model", str(tiny_pipeline_dir)], ["--axis", "final=1,2", "--steps", "2", "--clip", "diorama"]
    before = sorted(work.rglob("*"))
    for extra, library, commands in (
        ("study", "matplotlib", [["study", *axis, *model]]),
        (
            "study",
            "pyarrow",
            [["study", "annotation.json", *axis, *model], ["tune", "rex.png", "a dog", *axis, *model]],
        ),
        (
            "diorama",
            "numba",
            [
                ["study", *axis, *model],
                ["diorama", "benchmark", *model],
                ["compare", *model],
                ["demo", *model],
                ["diorama", "sheet"],
                ["diorama", "photos"],
            ],
        ),
    ):
        codes, data = run((library,), commands, work)
        assert codes == [2] * len(commands)
        assert data == [f"samecast: {library} is not installed: pip install 'samecast[{extra}]'"] * len(commands)
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize("library", ["gradio", "uvicorn"])
def test_the_page_without_its_extra_is_one_line(library: str, tmp_path: Path) -> None:
    codes, lines = run((library,), [["ui", "--port", "0"]], tmp_path)
    assert (codes, lines) == ([2], [f"samecast: {library} is not installed: pip install 'samecast[ui]'"])


def test_the_extras_bring_what_is_asked_for_and_setup_installs_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for extra, libraries in EXTRAS.items():
        assert sorted(each.partition(">")[0] for each in extras[extra]) == sorted(libraries)
        assert not [each for each in project["dependencies"] if each.startswith(libraries)]
    installed = (ROOT / "Makefile").read_text().partition("--editable '.[")[2].partition("]")[0].split(",")
    assert {*EXTRAS, "ray", "train", "dev", "ui"} == set(installed)


def test_a_library_that_is_there_and_does_not_load_is_told_with_its_reason() -> None:
    error = ImportError("Numba needs\nNumPy 2", name="numba")
    assert str(lacking("diorama", error)) == (
        "numba cannot be imported (Numba needs NumPy 2): pip install 'samecast[diorama]'"
    )
