"""Records that somebody changed: held to their types before anything is loaded or set."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from samecast.cli import main


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline_dir: Path, photo: Image.Image) -> Path:
    folder = tmp_path_factory.mktemp("record")
    photo.save(folder / "rex.png")
    words = ("--model", str(tiny_pipeline_dir), "--steps", "2", "--start", "1", "--out", str(folder / "run"))
    assert main(("render", str(folder / "rex.png"), "a {noun}", "--noun", "dog", *words)) == 0
    return folder / "run"


def changed(record: Path, folder: Path, **provenance: Any) -> Path:
    for file in record.iterdir():
        if file.name != "render.json":
            os.link(file, folder / file.name)
    data = json.loads((record / "render.json").read_text())
    data["provenance"] |= provenance
    (folder / "render.json").write_text(json.dumps(data))
    return folder


SETTINGS = {"num_inference_steps": 2, "guidance_scale": 7.5, "seed": 0, "init": "inverted"}


@pytest.mark.parametrize(
    ("provenance", "part"),
    [
        ({"threads": 1_000_000}, "the record: threads must be a whole number from 1 to 1,024; got 1000000"),
        ({"threads": 0}, "threads must be"),
        ({"threads": 1.0}, "threads must be"),
        ({"threads": "2"}, "threads must be"),
        ({"settings": SETTINGS | {"seed": 1.5}}, "the record: settings: seed must be a whole number"),
        ({"settings": SETTINGS | {"height": 64.0}}, "settings: height must be"),
        ({"settings": SETTINGS | {"num_inference_steps": 2.0}}, "settings: num_inference_steps must be"),
        ({"settings": SETTINGS | {"init": True}}, "settings: init must be"),
        ({"settings": SETTINGS | {"source_memory": "all"}}, "settings: source_memory must be"),
        ({"settings": SETTINGS | {"sides": 3}}, "settings has no 'sides'"),
        ({"settings": [SETTINGS]}, "settings must be RenderSettings"),
        ({"prompts": "a dog"}, "prompts must be a list, each member text; got 'a dog'"),
        ({"prompts": [3]}, "prompts must be a list"),
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": ["\ud800"]}, "a text is not UTF-8 text"),
        ({"class_noun": None}, "class_noun must be text"),
        ({"model": None}, "model must be"),
        ({"model": {"id": 3, "revision": "", "lora": []}}, "the record's model: id must be text"),
        ({"model": {"id": "x", "revision": "", "lora": [["a"]]}}, "lora must be"),
        ({"model": {"id": "x", "revision": "", "lora": [], "concepts": [3]}}, "the record's concept must be an object"),
        (
            {"model": {"id": "x", "revision": "", "lora": [], "concepts": [{"path": "a", "strength": "1"}]}},
            "strength must be a number",
        ),
        (
            {"model": {"id": "x", "revision": "", "lora": [], "concepts": [{"path": "", "strength": 1}]}},
            "was not loaded from a file",
        ),
        ({"rules": {}}, "the record: rules must be a list"),
        ({"rules": [{"sources": ["source"], "layers": "15", "steps": {"start": "x"}}]}, "rule 1: steps: start must be"),
        ({"device": 3}, "device must be text"),
        ({"dtype": []}, "dtype must be text"),
        ({"prediction_type": 1}, "prediction_type must be text"),
    ],
)
def test_a_record_that_was_changed_by_hand_is_held_to_its_types(
    capsys: pytest.CaptureFixture[str], record: Path, tmp_path: Path, provenance: dict[str, Any], part: str
) -> None:
    threads = torch.get_num_threads()
    assert main(["render", "--again", str(changed(record, tmp_path, **provenance))]) == 2
    err = capsys.readouterr().err
    assert part in err
    assert err.count("\n") == 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("entries", [None, {}, [3], [{}], [{"file": 3, "pixels": "x"}], [{"file": "grid.png"}]])
@pytest.mark.parametrize("kind", ["references", "reference_masks", "target_masks", "pictures"])
def test_the_pictures_of_a_record_are_entries(
    capsys: pytest.CaptureFixture[str], record: Path, tmp_path: Path, kind: str, entries: object
) -> None:
    folder = changed(record, tmp_path)
    data = json.loads((folder / "render.json").read_text())
    (folder / "render.json").write_text(json.dumps(data | {kind: entries}))
    assert main(["render", "--again", str(folder), "--model", "no/such/model"]) == 2
    err = capsys.readouterr().err
    assert "render.json" in err
    assert err.count("\n") == 1


def test_an_untouched_record_is_repeated_bit_for_bit(
    capsys: pytest.CaptureFixture[str], record: Path, tmp_path: Path
) -> None:
    assert main(["render", "--again", str(changed(record, tmp_path)), "--out", str(tmp_path / "again")]) == 0
    assert "bit for bit" in capsys.readouterr().out
