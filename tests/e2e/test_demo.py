"""The demo from end to end, on a tiny random model and an untrained judge: all parts are the real classes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.demo import SCENES, SUBJECT_SEED, prompt_of, run_demo, settings_of
from samecast.diorama.album import SCENES as PHOTOS
from samecast.diorama.probe import Probe, ProbeNetwork, judge, load_probe
from samecast.diorama.renderer import render
from samecast.diorama.scenes import HELD_OUT, Spec, sample_spec

IDENTITY = sample_spec(SUBJECT_SEED).identity
TOLD_BY_WORDS = (IDENTITY.pattern, "blue", "yellow")


@pytest.fixture(scope="module")
def untrained() -> Probe:
    torch.manual_seed(0)
    return Probe(ProbeNetwork())


def test_a_demo_is_complete_and_replaces_its_predecessor(
    tiny_pipeline_dir: Path, untrained: Probe, tmp_path: Path
) -> None:
    model = sc.load(tiny_pipeline_dir)
    seen: list[str] = []
    for _ in range(2):
        demo = run_demo(
            model, tmp_path / "demo", steps=4, probe=untrained, progress=lambda title, done, total: seen.append(title)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert sorted(path.name for path in demo.folder.iterdir()) == ["demo.json", "grid.png", "index.html"]
    assert list(dict.fromkeys(seen)) == [setting.title for setting in settings_of(4)]
    html = (demo.folder / "index.html").read_text()
    assert html.count("<img") == len(PHOTOS) + 4 * len(SCENES)
    data = json.loads((demo.folder / "demo.json").read_text())
    assert [len(setting["same"]) for setting in data["settings"]] == [len(SCENES)] * 4
    with Image.open(demo.folder / "grid.png") as grid:
        assert grid.width > 1000
    assert len(demo.table().rows) == 4


def test_a_folder_that_is_no_demo_is_left_alone(tiny_pipeline_dir: Path, untrained: Probe, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("mine")
    demo = run_demo(sc.load(tiny_pipeline_dir), tmp_path / "demo", steps=2, probe=untrained)
    assert demo.folder.name == "demo-2"
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["thesis.txt"]


def test_the_subject_is_held_out() -> None:
    assert SUBJECT_SEED >= HELD_OUT


def test_the_prompts_tell_the_class_and_nothing_else_of_the_subject() -> None:
    prompts = [prompt_of(IDENTITY.kind, scene) for scene in SCENES]
    assert len(set(prompts)) == len(SCENES) == 6
    for prompt, scene in zip(prompts, SCENES, strict=True):
        assert IDENTITY.kind in prompt
        assert scene.pose in prompt
        assert not any(word in prompt for word in TOLD_BY_WORDS)


def test_the_settings_are_those_of_the_study_at_fifty_steps() -> None:
    none, decoder, encoder, early = (setting.rules for setting in settings_of(50))
    assert none == ()
    assert (decoder[0].layers, decoder[0].steps) == ("10-15", sc.Steps(4))
    assert (encoder[0].layers, encoder[0].steps) == ("0-7", sc.Steps(4))
    assert (early[0].layers, early[0].steps) == ("10-15", sc.Steps(4, 25))


def test_the_judge_knows_the_photos() -> None:
    """The shipped probe must be right on true pictures of the subject, or its verdicts on others mean nothing.

    Identity needs six things right at once, so one slip in ten pictures is allowed.
    """
    photos = [Image.fromarray(render(Spec(IDENTITY, scene), 128).image) for scene in (*PHOTOS, *SCENES)]
    readings = load_probe().read(photos)
    verdicts = [judge(reading, IDENTITY, scene) for reading, scene in zip(readings, (*PHOTOS, *SCENES), strict=True)]
    assert sum(verdict.identity for verdict in verdicts) >= 9
    assert sum(verdict.scene for verdict in verdicts) >= len(photos) - 1
