"""The demo from end to end, on a tiny random model: all parts are the real classes."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

import samecast as sc
from samecast.demo import run_demo, settings_of
from samecast.diorama.album import SCENES as PHOTOS
from samecast.diorama.benchmark import demo_case
from samecast.diorama.probe import judge, load_probe
from samecast.diorama.renderer import render
from samecast.diorama.scenes import HELD_OUT, Spec
from samecast.study.binding import orders_of
from samecast.study.folder import StudyFolder
from samecast.study.subjects import StudySubject

CASE = demo_case()
IDENTITY, SCENES = CASE.identity, [task.scene for task in CASE.tasks]
TOLD_BY_WORDS = (IDENTITY.pattern, "blue", "yellow")


def test_a_demo_is_complete_and_replaces_its_predecessor(tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    model = sc.load(tiny_pipeline_dir)
    seen: list[str] = []
    for _ in range(2):
        demo = run_demo(model, tmp_path / "demo", steps=4, progress=lambda title, done, total: seen.append(title))
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert sorted(path.name for path in demo.folder.iterdir()) == ["demo.json", "grid.png", "index.html", "study"]
    assert any(CASE.name in title for title in seen)
    html = (demo.folder / "index.html").read_text()
    assert html.count("<img") == len(PHOTOS) + 4 * len(SCENES)
    data = json.loads((demo.folder / "demo.json").read_text())
    assert [setting["title"] for setting in data["settings"]] == [setting.title for setting in settings_of(4)]
    for setting in data["settings"]:
        assert len(setting["scores"]) == len(SCENES)
        assert all(isinstance(of["identity"], bool) and of["base_error"] >= 0 for of in setting["scores"])
    with Image.open(demo.folder / "grid.png") as grid:
        assert grid.width > 1000
    assert len(demo.table().rows) == 4


def test_its_pictures_are_those_that_render_makes_in_the_order_of_the_prompts(
    tiny_pipeline_dir: Path, tmp_path: Path
) -> None:
    model = sc.load(tiny_pipeline_dir)
    demo = run_demo(model, tmp_path / "demo", steps=4)
    study, settings = StudyFolder(demo.folder / "study"), sc.RenderSettings(num_inference_steps=4)
    (subject,) = study.subjects()
    assert isinstance(subject, StudySubject)
    prompts = [task.prompt for task in CASE.tasks]
    assert list(subject.prompts) == prompts
    for setting in settings_of(4):
        out = model.render(
            sc.Subject(tuple(subject.references[:1]), class_noun=CASE.noun),
            prompts,
            rules=setting.rules,
            settings=settings,
        )
        for prompt, made in zip(prompts, out.renders, strict=True):
            (order,) = (
                order
                for order in orders_of(study.recipe(), subject)
                if (order.variant.name, order.cast.prompt) == (setting.title, prompt)
            )
            one, two = (np.asarray(image, dtype=int) for image in (study.picture(order.key), made.image))
            assert np.abs(one - two).max() <= 1  # batches round differently


def test_a_folder_that_is_no_demo_is_left_alone(tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("mine")
    demo = run_demo(sc.load(tiny_pipeline_dir), tmp_path / "demo", steps=2)
    assert demo.folder.name == "demo-2"
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["thesis.txt"]


def test_the_subject_is_held_out() -> None:
    assert CASE.seed >= HELD_OUT


def test_the_prompts_tell_the_class_and_nothing_else_of_the_subject() -> None:
    prompts = [task.prompt for task in CASE.tasks]
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
