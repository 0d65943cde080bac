"""A study survives what is damaged: each failure is kept with its unit, hides nothing else, and goes when mended."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samecast.cli import main
from samecast.errors import SamecastError
from samecast.experiments.executors.ray import RayExecutor
from samecast.experiments.work import code_version
from samecast.models.unet import UNetBackbone
from samecast.study.axes import parse_axis
from samecast.study.folder import StudyFolder
from samecast.study.grid import factorial
from samecast.study.job import run_study, settled_dtype, status
from samecast.study.photos import KeptPhotos
from samecast.study.presets import aiku
from samecast.study.publish import publish
from samecast.study.scoring import metrics_of
from samecast.study.subjects import StudySubject
from samecast.study.table import CSV, Rows, load_table
from samecast.study.unit import ExecutionConfig
from samecast.study.write_up import write_up
from tests.study.conftest import STEPS, Create, subject_of

GRID = factorial([parse_axis("final=4,10"), parse_axis("layers=encoder,decoder")], {"start": 1}, STEPS)


@pytest.fixture
def pets(rex: StudySubject) -> list[StudySubject]:
    turned = (rex.references[0].rotate(90), rex.references[0].rotate(180))
    return [rex, replace(rex, name="My Tom_1", references=turned[:1]), replace(rex, name="ada", references=turned[1:])]


def photo_file(folder: StudyFolder, name: str) -> Path:
    photos = subject_of(folder, name).references
    assert isinstance(photos, KeptPhotos)
    (found,) = folder.path.glob(f"photos/*/{photos.hashes[0].removeprefix('sha256:')}.png")
    return found


def counted(folder: StudyFolder) -> tuple[int, int]:
    """How many rows there are, and how many are missing."""
    rows = Rows(folder, metrics_of(folder.recipe()))
    return len(list(rows)), rows.missing


def states(folder: StudyFolder) -> dict[str, str]:
    return {data.name: data.state for data in status(folder)}


def overwrite(file: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(file)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b""), overwrite])
def test_an_unreadable_photo_fails_its_subject_and_no_other(
    create: Create, pets: list[StudySubject], backbone: UNetBackbone, damage: Callable[[Path], Any]
) -> None:
    folder = create(GRID, pets)
    file = photo_file(folder, "rex")
    whole = file.read_bytes()
    damage(file)
    for _ in range(2):  # on the first run, and when it goes on
        ran = run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
        assert ran.failed == 1
        assert states(folder) == {"My Tom_1": "finished", "ada": "finished", "rex": "failed"}
        (failure,) = folder.failures()
        assert (failure["unit"], failure["kind"]) == ("rex", "SamecastError")
        assert str(file) in failure["reason"]
        assert counted(folder) == (16, 8)
    file.write_bytes(whole)
    assert run_study(folder, ExecutionConfig(folder.path), backbone=backbone).failed == 0
    assert set(states(folder).values()) == {"finished"}
    assert not folder.failures()
    assert counted(folder) == (24, 0)


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"\xff", b'{"name": 1}', b"[" * 50_000],
)
def test_a_damaged_line_hides_no_other_subject(
    create: Create, pets: list[StudySubject], backbone: UNetBackbone, line: bytes
) -> None:
    folder = create(GRID, pets)
    file = folder.path / "subjects.jsonl"
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], line, lines[2]]) + b"\n")
    assert states(folder) == {"My Tom_1": "to do", "line 2 of subjects.jsonl": "damaged", "rex": "to do"}
    assert run_study(folder, ExecutionConfig(folder.path), backbone=backbone).failed == 1
    assert counted(folder) == (16, 4)
    (failure,) = folder.failures()
    assert "line 2 of subjects.jsonl is damaged" in failure["reason"]


def test_a_line_that_names_a_file_elsewhere_is_damaged(create: Create, pets: list[StudySubject]) -> None:
    folder = create(GRID, pets)
    file = folder.path / "subjects.jsonl"
    data = [json.loads(line) for line in file.read_text().splitlines()]
    data[0]["references"] = ["../../../secret"]
    file.write_text("".join(json.dumps(line) + "\n" for line in data))
    assert list(states(folder).values()) == ["damaged", "to do", "to do"]


def test_a_damaged_picture_is_made_again(create: Create, rex: StudySubject, backbone: UNetBackbone) -> None:
    folder = create(GRID, [rex])
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    file = sorted(folder.path.glob("runs/*/*.png"))[0]
    whole = np.asarray(Image.open(file).convert("RGB"), dtype=int)
    for score in folder.path.glob("scores/*/*.json"):
        score.write_text("{")  # as good as not there: all is scored again
    file.write_bytes(b"cut off")
    ran = run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    assert (ran.tallies[0].made, ran.tallies[0].failed, ran.failed) == (0, 1, 0)
    (failure,) = folder.failures()
    assert "made again" in failure["reason"]
    assert counted(folder) == (7, 1)
    ran = run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    assert (ran.tallies[0].made, ran.tallies[0].failed) == (1, 0)
    again = np.asarray(Image.open(file).convert("RGB"), dtype=int)
    assert np.abs(again - whole).max() <= 1  # made in another batch, which rounds otherwise
    assert counted(folder) == (8, 0)
    assert not folder.failures()


def test_a_damaged_picture_is_left_out_of_strips(create: Create, rex: StudySubject, backbone: UNetBackbone) -> None:
    folder = create(GRID, [rex])
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    for file in folder.path.glob("runs/*/*.png"):
        file.write_bytes(b"cut off")
    photo_file(folder, "rex").write_bytes(b"cut off")
    assert publish(folder).count == 8  # their scores are known


def test_names_join_with_the_annotation_and_make_file_names(
    create: Create, rex: StudySubject, backbone: UNetBackbone
) -> None:
    names = ["flower_1", "flower-1", "Flower_1", "../up", "a/b", "너구리", "[/red]", "x" * 300, "_hidden", "$5 and $x^"]
    given = [
        replace(rex, name=name, prompts=rex.prompts[:1], references=(rex.references[0].rotate(at),))
        for at, name in enumerate(names)
    ]
    folder = create(factorial([parse_axis("final=4,10")], {"start": 1}, STEPS), given)
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    publish(folder)
    with (folder.path / CSV).open(newline="") as file:
        assert {row["subject"] for row in csv.DictReader(file)} == set(names)
    assert {row["subject"] for row in load_table(folder.path / "scores.parquet")} == set(names)
    strips = sorted(file.name for file in (folder.path / "figures").glob("strip-final-*.png"))
    assert len({name.casefold() for name in strips}) == len(names)
    assert "strip-final-flower_1.png" in strips
    assert all(len(name) < 120 for name in strips)


def test_of_one_subject_no_interval_is_claimed(create: Create, rex: StudySubject, backbone: UNetBackbone) -> None:
    folder = create(aiku(STEPS, beyond=False), [replace(rex, prompts=rex.prompts[:1])])
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    found = publish(folder)
    write_up(folder, found, folder.path / "page.md")
    for page in (folder.path / "index.html", folder.path / "page.md"):
        text = page.read_text()
        assert "A claim needs at least 6 subjects; there is 1." in text
        assert "95%" not in text
        assert "one subject" in text.lower()
    with pytest.raises(SamecastError, match="holds no study"):
        run_study(StudyFolder(folder.path / "nowhere"), ExecutionConfig(folder.path), backbone=backbone)
    assert not (folder.path / "nowhere").exists()


def test_units_are_photos_and_each_is_told(create: Create, rex: StudySubject, backbone: UNetBackbone) -> None:
    photos = tuple(rex.references[0].rotate(turn) for turn in (0, 90, 180))
    folder = create(GRID, [replace(rex, references=photos)], photos="each")
    begun: list[str] = []
    run_study(
        folder,
        ExecutionConfig(folder.path),
        backbone=backbone,
        finished=lambda outcome, count, total: begun.append(f"{outcome.unit.name} {count} of {total}"),
    )
    assert begun == ["rex, photo 1 1 of 3", "rex, photo 2 2 of 3", "rex, photo 3 3 of 3"]
    assert [data.total for data in status(folder)] == [24]
    assert counted(folder) == (24, 0)


def test_the_command_tells_what_failed_and_exits_with_1_until_it_is_mended(
    tiny_pipeline_dir: Path, photo: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("one", "two")):
        photo.rotate(90 * number).save(tmp_path / f"{name}.png")
    entries = [{"name": name, "description": "a dog", "image_path": f"{name}.png"} for name in ("one", "two")]
    (tmp_path / "annotation.json").write_text(json.dumps(entries))
    out = tmp_path / "study"
    words = ["--axis", "final=5,6", "--steps", "6", "--model", str(tiny_pipeline_dir), "--clip", "diorama"]
    assert main(["study", str(tmp_path / "annotation.json"), *words, "--out", str(out)]) == 0
    file = photo_file(StudyFolder(out), "two")
    whole = file.read_bytes()
    for run in out.glob("runs/*/*.png"):
        run.unlink()
    file.write_bytes(b"damaged")
    capsys.readouterr()
    assert main(["study", "--resume", str(out)]) == 1
    data = capsys.readouterr()
    assert "2 pictures made, 0 kept, 1 units failed" in data.out
    assert "not made: two: " in " ".join(data.err.split())
    assert main(["study", "status", str(out)]) == 0
    data = capsys.readouterr()
    assert "1 finished, 1 failed; 2 of 4 pictures" in data.out
    assert "not made: two: " in " ".join(data.err.split())
    file.write_bytes(whole)
    assert main(["study", "--resume", str(out)]) == 0


def test_the_precision_is_settled_where_pictures_are_made(tmp_path: Path) -> None:
    """Asked of a worker: a driver without a GPU must not settle what `auto` is on one."""
    assert settled_dtype("cpu", "auto") == "float32"
    assert settled_dtype("cpu", "bfloat16") == "bfloat16"
    assert code_version()
    pytest.importorskip("ray")
    with pytest.raises(Exception, match="must be"):
        RayExecutor(0)
