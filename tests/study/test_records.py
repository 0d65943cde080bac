"""A study's folder: nothing lost, nothing made twice, nothing mixed up; whatever is killed, full, or not a number."""

import csv
import json
import math
import os
import random
import resource
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import samecast as sc
from samecast.attention.modes import Separate
from samecast.attention.rule import Rule, Rules
from samecast.disk import LOCK, locked
from samecast.errors import SamecastError
from samecast.experiments.executors import Watch
from samecast.metrics import Metric
from samecast.metrics.clip_text import ClipText
from samecast.metrics.truth import BaseError, Both
from samecast.models.unet import UNetBackbone
from samecast.study import recipe as study_recipe
from samecast.study.axes import parse_axis
from samecast.study.binding import orders_of
from samecast.study.folder import BEGUN, STUDY, StudyFolder
from samecast.study.grid import Grid, factorial
from samecast.study.job import run_study, status
from samecast.study.kept_subjects import Unreadable
from samecast.study.lockstep import Lockstep, Node
from samecast.study.presets import aiku
from samecast.study.publish import publish
from samecast.study.recipe import Cast, picture_facts, picture_key
from samecast.study.scoring import metrics_of
from samecast.study.subjects import StudySubject, read_subjects
from samecast.study.table import CSV, PARQUET, Rows, load_table, write_table
from samecast.study.unit import ExecutionConfig
from tests.study.conftest import STEPS, Counted, Create, assert_same_picture, recipe_of, subject_of, subjects_of

KILLS = 10


@pytest.fixture
def small() -> Grid:
    return factorial([parse_axis("final=4,7,10"), parse_axis("layers=encoder,decoder")], {"start": 1}, STEPS)


def run(folder: StudyFolder, backbone: UNetBackbone, checkpoint: float = 60.0) -> None:
    run_study(folder, ExecutionConfig(folder.path, checkpoint=checkpoint), backbone=backbone)


def keys(folder: StudyFolder) -> set[str]:
    recipe = folder.recipe()
    return {o.key for subject in subjects_of(folder) for o in orders_of(recipe, subject)}


def stamps(folder: StudyFolder) -> dict[str, int]:
    return {file.stem: file.stat().st_mtime_ns for file in folder.path.glob("runs/*/*.png")}


def check_whole(folder: StudyFolder) -> None:
    """Every file that has its name is readable to its end."""
    for file in folder.path.rglob("*"):
        if any(part.startswith(".") for part in file.relative_to(folder.path).parts) or file.is_dir():
            continue
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".png":
            Image.open(file).load()
        elif file.suffix == ".safetensors":
            load_file(file)


def killed_at(folder: StudyFolder, backbone: UNetBackbone, seconds: float) -> bool:
    """Runs the study in a child and kills it after so long; whether it had finished by then."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # threads do not survive a fork
        code = 1
        try:
            run(folder, backbone, checkpoint=0.0)
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, data = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(data) == 0
            return True
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def test_kill_9_at_random_moments_loses_nothing_that_was_finished(
    create: Create, small: Grid, backbone: UNetBackbone
) -> None:
    whole = create(small, name="whole")
    began = time.monotonic()
    run(whole, backbone, checkpoint=0.0)
    lasted = time.monotonic() - began
    draw, kills, number, resumed = random.Random(0), 0, 0, 0
    while kills < KILLS:
        folder = create(small, name=f"killed-{number}")
        number += 1
        finished: dict[str, int] = {}
        rounds = 0
        while not killed_at(folder, backbone, draw.uniform(0, lasted / 4 * (1 + rounds / 10))) and kills < KILLS:
            kills += 1
            rounds += 1
            check_whole(folder)
            now = stamps(folder)
            assert finished.items() <= now.items()  # nothing finished was made again
            finished = now
            resumed += any(data.state == "in progress" for data in status(folder))
        run(folder, backbone, checkpoint=0.0)
        assert finished.items() <= stamps(folder).items()
        assert keys(folder) == keys(whole) == set(stamps(folder))
        for key in keys(whole):
            assert_same_picture(backbone, folder.latent(key), whole.latent(key))
        assert {file.name for file in folder.path.rglob(".*")} <= {LOCK}
        assert not any((folder.path / place).exists() for place in ("progress", "begun", "failures"))
    assert resumed


@pytest.mark.parametrize("rows", [None, 4])
def test_a_subject_in_progress_goes_on_from_its_checkpoint(
    create: Create, small: Grid, backbone: UNetBackbone, rows: int | None
) -> None:
    """Also in the middle of a step, where a step takes several batches."""
    whole, stopped = create(small, name="whole"), create(small, name="stopped")
    with Counted(backbone) as all_rows:
        run_study(whole, ExecutionConfig(whole.path, rows=rows), backbone=backbone)

    class Stop(KeyboardInterrupt):
        pass

    def stop(name: str, done: int, total: int) -> None:
        if name == "rex" and done > total * 0.7:
            raise Stop

    with Counted(backbone) as first, pytest.raises(Stop):
        run_study(
            stopped,
            ExecutionConfig(stopped.path, rows=rows, checkpoint=0.0),
            backbone=backbone,
            watch=Watch(progress=stop),
        )
    assert [data.state for data in status(stopped)] == ["in progress"]
    with Counted(backbone) as second:
        run_study(stopped, ExecutionConfig(stopped.path, rows=rows, checkpoint=0.0), backbone=backbone)
    assert first.total + second.total - all_rows.total <= max(all_rows.calls)  # one batch was done twice at most
    for key in keys(whole):
        assert_same_picture(backbone, stopped.latent(key), whole.latent(key))


def test_an_inversion_goes_on_where_it_was_interrupted(create: Create, small: Grid, backbone: UNetBackbone) -> None:
    whole, stopped = create(small, name="whole"), create(small, name="stopped")
    with Counted(backbone) as all_rows:
        run(whole, backbone)

    class Stop(KeyboardInterrupt):
        pass

    def stop(name: str, done: int, total: int) -> None:
        if name != "rex" and done == 6:
            raise Stop

    with Counted(backbone) as first, pytest.raises(Stop):
        run_study(stopped, ExecutionConfig(stopped.path, checkpoint=0.0), backbone=backbone, watch=Watch(progress=stop))
    assert first.total == 6
    check_whole(stopped)
    with Counted(backbone) as second:
        run(stopped, backbone, checkpoint=0.0)
    assert first.total + second.total == all_rows.total
    for key in keys(whole):
        assert torch.equal(stopped.latent(key), whole.latent(key))


def test_maps_seen_so_far_are_part_of_a_checkpoint(create: Create, backbone: UNetBackbone) -> None:
    axes = (parse_axis("maps=encoder,decoder"), parse_axis("final=8,10"))
    grid = factorial(axes, {"start": 5, "layers": "all", "threshold": "otsu"}, STEPS)
    whole, stopped = create(grid, name="whole"), create(grid, name="stopped")
    run(whole, backbone)

    class Stop(KeyboardInterrupt):
        pass

    def stop(name: str, done: int, total: int) -> None:
        if name == "rex" and done > total * 0.6:
            raise Stop

    with pytest.raises(Stop):
        run_study(stopped, ExecutionConfig(stopped.path, checkpoint=0.0), backbone=backbone, watch=Watch(progress=stop))
    run(stopped, backbone)
    for key in keys(whole):
        assert_same_picture(backbone, stopped.latent(key), whole.latent(key))


def test_what_is_finished_is_not_made_again(create: Create, small: Grid, backbone: UNetBackbone) -> None:
    folder = create(small)
    run(folder, backbone)
    before = stamps(folder)
    gone = sorted(before)[0]
    folder.discard(gone)
    with Counted(backbone) as rows:
        run(folder, backbone)
    assert rows.total == STEPS + 2 * STEPS  # the one that was missing, and its inversion
    after = stamps(folder)
    assert {key: at for key, at in after.items() if key != gone} == {k: at for k, at in before.items() if k != gone}
    with Counted(backbone) as rows:
        run(folder, backbone)
    assert rows.total == 0


def test_one_run_that_is_not_finite_leaves_the_others_finished(create: Create, backbone: UNetBackbone) -> None:
    base = {"start": 2, "layers": "all", "sources": "source,self", "mode": "weigh", "maps": "encoder", "threshold": 0.3}
    folder = create(factorial([parse_axis("weight=1,2,1e39")], base, STEPS))  # beyond float32: infinite
    ran = run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    assert [(tally.made, tally.failed) for tally in ran.tallies] == [(4, 2)]
    assert {(f["variant"], "not finite" in f["reason"]) for f in folder.failures()} == {("weight 1e+39", True)}
    rows = Rows(folder, metrics_of(folder.recipe()))
    assert (len(list(rows)), rows.missing) == (4, 2)


def test_what_failed_is_tried_again_when_the_study_goes_on(
    create: Create, small: Grid, backbone: UNetBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(small)

    def broken(lockstep: Lockstep, nodes: object, step: int) -> list[Node]:
        moved = advance(lockstep, nodes, step)
        return [
            replace(one, latent=one.latent * (float("nan") if step == 8 and not at else 1))
            for at, one in enumerate(moved)
        ]

    advance = Lockstep._advance
    with monkeypatch.context() as patch:
        patch.setattr(Lockstep, "_advance", broken)
        failed = run_study(folder, ExecutionConfig(folder.path, checkpoint=0.0), backbone=backbone).tallies[0].failed
    assert failed == len(folder.failures()) > 0
    run(folder, backbone)
    assert not folder.failures()
    assert set(stamps(folder)) == keys(folder)


def test_what_memory_does_not_hold_of_the_photos_is_computed_again(
    create: Create, small: Grid, backbone: UNetBackbone
) -> None:
    kept, again = (create(small, name=str(limit), source_memory=limit) for limit in (1.0, 0.0))
    with Counted(backbone) as few:
        run_study(kept, ExecutionConfig(kept.path, rows=6), backbone=backbone)
    with Counted(backbone) as many:
        run_study(again, ExecutionConfig(again.path, rows=6), backbone=backbone)
    assert few.total < many.total
    assert max(few.calls) == 6
    assert max(many.calls) == 5  # of which one is the photo's
    for order in orders_of(kept.recipe(), subject_of(kept)):
        assert_same_picture(backbone, again.latent(order.key), kept.latent(order.key))


def test_a_full_disk_leaves_what_fits_finished_and_the_failure_recorded(
    create: Create, small: Grid, backbone: UNetBackbone
) -> None:
    whole, cramped = create(small, name="whole"), create(small, name="cramped")
    run(whole, backbone)
    sizes = {key: (whole.path / whole.picture_name(key)).stat().st_size for key in keys(whole)}
    most = sorted(sizes.values())[len(sizes) // 2]
    assert min(sizes.values()) <= most < max(sizes.values())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))  # the kernel refuses what is longer, as a full disk does
    try:
        run(cramped, backbone)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    fitting = {key for key, size in sizes.items() if size <= most}
    assert set(stamps(cramped)) == fitting
    assert {failure["key"] for failure in cramped.failures()} == set(sizes) - fitting
    assert all("cannot write" in failure["reason"] for failure in cramped.failures())
    run(cramped, backbone)
    assert set(stamps(cramped)) == set(sizes)
    assert not cramped.failures()


def test_shuffled_listings_give_the_same_table(
    create: Create, small: Grid, backbone: UNetBackbone, rex: StudySubject
) -> None:
    fido = replace(rex, name="fido", references=(rex.references[0].rotate(90),))
    tables: list[str] = []
    for name, given in (("one", [rex, fido]), ("two", [replace(fido, prompts=fido.prompts[::-1]), rex])):
        folder = create(small, given, name)
        run(folder, backbone)
        write_table(Rows(folder, metrics_of(folder.recipe())), lambda row: None)
        tables.append((folder.path / CSV).read_text())
        rows = load_table(folder.path / PARQUET)
        data = list(csv.DictReader(tables[-1].splitlines()))
        assert [row["key"] for row in rows] == [row["key"] for row in data]
        assert [row["text_alignment"] for row in rows] == [float(row["text_alignment"]) for row in data]
        assert len(rows) == 24
    assert tables[0] == tables[1]


def test_what_killed_processes_left_half_written_goes(create: Create, backbone: UNetBackbone) -> None:
    folder = create(factorial([parse_axis("final=4,5")], {}, STEPS))
    leftover = folder.path / ".writing" / "x1.png"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    assert not leftover.parent.exists()


def test_random_configurations_have_keys_of_their_own(backbone: UNetBackbone) -> None:
    draw, base = random.Random(0), recipe_of(backbone)
    recipes = [
        replace(base, settings=replace(base.settings, num_inference_steps=steps, **others), dtype=dtype)
        for steps in range(51, 56)
        for others in ({"guidance_scale": 1.5}, {"guidance_rescale": 0.7}, {"init": 0.5}, {"negative_prompt": "dog"})
        for dtype in ("float32", "float16")
    ]
    data, found = set[tuple[int, Cast, Rules]](), set[str]()
    while len(data) < 20_000:
        number = draw.randrange(len(recipes))
        recipe = recipes[number]
        photos = tuple(f"sha256:{draw.randrange(4)}" for _ in range(draw.randrange(1, 3)))
        # Without noise a seed changes nothing, and without maps a noun.
        seed = draw.randrange(50) if recipe.settings.noise_share else 0
        cast = Cast(photos, draw.choice(("a dog", "a dog ", "a cat", "a,dog")), seed, "", draw.choice(("", "dog")))
        steps = sc.Steps(draw.randrange(50), draw.choice((None, 50, 0.5)), draw.choice((None, 2)))
        layer = draw.randrange(16)
        layers = draw.choice((str(layer), f"0,{layer}", f"decoder,{layer}"))
        sources = draw.choice((("source",), ("self", "source"), ("source", "self")))
        data.add((number, cast, (Rule("targets", sources, layers, steps),) * draw.randrange(1, 3)))
    for number, cast, rules in data:
        found.add(picture_key(recipes[number], cast, rules))
    assert len(found) == len(data)


def test_all_that_changes_a_picture_changes_its_key(backbone: UNetBackbone) -> None:
    recipe, cast = recipe_of(backbone), Cast(("sha256:0",), "a dog", 0)
    settings = recipe.settings
    changed = [
        (recipe, cast, (Rule(),)),
        (recipe, replace(cast, photos=("sha256:1",)), (Rule(),)),
        (recipe, replace(cast, prompt="a cat"), (Rule(),)),
        (recipe, replace(cast, caption="a photo"), (Rule(),)),
        (recipe, cast, (Rule(layers="encoder"),)),
        (recipe, cast, (Rule(steps=sc.Steps(4, 8)),)),
        (recipe, cast, ()),
        (recipe, cast, (Rule(mode=Separate(sc.SubjectTokens())),)),
        (recipe, replace(cast, noun="cat"), (Rule(mode=Separate(sc.SubjectTokens())),)),
        *(
            (replace(recipe, settings=replace(settings, **{name: value})), cast, (Rule(),))
            for name, value in {
                "num_inference_steps": 11,
                "guidance_scale": 2.0,
                "init": "noise",
                "negative_prompt": "rain",
                "height": 128,
                "width": 128,
                "pairing": "masactrl",
                "fixed_point": 1,
            }.items()
        ),
        (replace(recipe, revision="sha256:1"), cast, (Rule(),)),
        (replace(recipe, dtype="float16"), cast, (Rule(),)),
        (replace(recipe, lora=(("a", "sha256:2"),)), cast, (Rule(),)),
    ]
    assert len({picture_key(*data) for data in changed}) == len(changed)
    # The seed counts only where anything is random, the noun only where somebody looks for it, the path never.
    assert picture_facts(recipe, replace(cast, seed=1), ()) == picture_facts(recipe, cast, ())
    assert picture_facts(recipe, replace(cast, noun="cat"), ()) == picture_facts(recipe, cast, ())
    assert picture_facts(replace(recipe, model="elsewhere"), cast, ()) == picture_facts(recipe, cast, ())
    noisy = replace(recipe, settings=replace(settings, init="noise"))
    assert picture_facts(noisy, replace(cast, seed=1), ()) != picture_facts(noisy, cast, ())


def test_the_recipe_survives_its_file(create: Create) -> None:
    folder = create(aiku(STEPS))
    data = folder.recipe()
    assert asdict(data) == asdict(StudyFolder(folder.path).recipe())
    assert [v.rules for v in data.grid.variants] == [v.rules for v in aiku(STEPS).variants]
    create(aiku(STEPS))  # the very same study again: it goes on


def test_another_study_does_not_get_into_the_folder(create: Create, small: Grid, tmp_path: Path) -> None:
    create(small)
    with pytest.raises(SamecastError, match="holds another study"):
        create(aiku(STEPS))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(SamecastError, match="holds something else"):
        create(small, name="other")
    with pytest.raises(SamecastError, match="holds no study"):
        StudyFolder(tmp_path / "nowhere").recipe()


def test_a_creation_that_was_stopped_is_begun_again(create: Create, small: Grid, tmp_path: Path) -> None:
    path = create(small).path
    for left in ((STUDY,), (STUDY, "subjects.jsonl")):
        for name in left:
            (path / name).unlink()
        (path / BEGUN).touch()
        assert create(small).recipe().grid == small
        assert not (path / BEGUN).exists()
    (path / STUDY).unlink()
    (path / BEGUN).touch()
    (path / "mine.txt").write_text("mine")
    with pytest.raises(SamecastError, match="holds something else"):
        create(small)
    assert (path / "mine.txt").is_file()


def test_a_photo_that_cannot_be_read_leaves_no_study_behind(
    create: Create, small: Grid, rex: StudySubject, photo: Image.Image, tmp_path: Path
) -> None:
    (tmp_path / "tom").mkdir()
    photo.save(tmp_path / "tom" / "1.png")
    (tmp_path / "tom" / "2.png").write_bytes(b"no picture")
    (tmp_path / "prompts.txt").write_text("a cat")
    with pytest.raises(SamecastError, match="not a photo"):
        create(small, [rex, *read_subjects(tmp_path)])
    assert not (tmp_path / "study").exists()


def test_a_table_is_not_emptied_by_another_version(
    create: Create, small: Grid, backbone: UNetBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(small)
    run(folder, backbone)
    assert publish(folder).count
    before = (folder.path / CSV).read_bytes()
    monkeypatch.setattr(study_recipe, "code_version", lambda: "9.9")
    with pytest.raises(SamecastError, match="is kept: this version"):
        publish(folder)
    assert (folder.path / CSV).read_bytes() == before


def test_two_processes_do_not_work_on_one_study(create: Create, small: Grid, backbone: UNetBackbone) -> None:
    folder = create(small)
    with folder.store.locked(), pytest.raises(SamecastError, match="in use by another process"):
        run(folder, backbone)


def test_two_processes_do_not_write_one_study_down(create: Create, small: Grid, tmp_path: Path) -> None:
    with locked(tmp_path / "study"), pytest.raises(SamecastError, match="in use by another process"):
        create(small)
    assert list(create(small).path.rglob(".*")) == []


@pytest.mark.parametrize("kind", ["file", "dangling", "x" * 256])
def test_a_study_that_cannot_be_written_is_refused_before_any_work(
    create: Create, small: Grid, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SamecastError, match="cannot write") as caught:
        create(small, name=kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "sha256:..", "", 3, ["sha256:1"]])
@pytest.mark.parametrize("field", ["references", "judged"])
def test_photos_of_a_subject_are_named_by_their_content_alone(
    create: Create, small: Grid, field: str, name: object
) -> None:
    folder = create(small)
    file = folder.path / "subjects.jsonl"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: [name]}) + "\n")
    (found,) = folder.subjects()
    assert isinstance(found, Unreadable)
    assert "line 1 of subjects.jsonl is damaged" in found.reason
    assert "\n" not in found.reason


HOSTILE = ["", "[]", "null", "{", "[" * 50_000, '{"format": 1}', '{"format": 1e400}', '{"format": 1, "format": 1}']


def test_damaged_scores_are_left_out_and_made_anew(create: Create, small: Grid, backbone: UNetBackbone) -> None:
    folder = create(small)
    run(folder, backbone)
    rows = Rows(folder, metrics_of(folder.recipe()))
    file = next((folder.path / "scores").glob("*/*.json"))
    whole = file.read_text()
    damaged: list[object] = [{"a": math.nan}, [], "0.5", True, 1e300, 10**400, {}]
    for value in damaged:
        data = json.loads(whole)
        scores = next(iter(data["pictures"].values()))
        scores[next(key for key in scores if key.startswith("clip-text"))] = value
        file.write_text(json.dumps(data))
        write_table(rows, lambda row: None)
        assert rows.missing == 1, value
    run(folder, backbone)
    write_table(rows, lambda row: None)
    assert not rows.missing


@pytest.mark.parametrize(
    ("metric", "value", "accepted"),
    [
        (Both, True, True),
        (Both, None, True),
        (Both, 1, False),
        (Both, 0.5, False),
        (ClipText, 1.0005, True),
        (ClipText, 1.1, False),
        (ClipText, math.nan, True),
        (ClipText, False, False),
        (BaseError, 90, True),
        (BaseError, -1, False),
        (BaseError, "3", False),
    ],
)
def test_a_score_from_a_file_is_held_to_its_metric(metric: type[Metric], value: object, accepted: bool) -> None:
    assert metric.accepts(value) is accepted


@pytest.mark.parametrize("text", HOSTILE)
def test_a_damaged_study_is_one_line(create: Create, small: Grid, text: str) -> None:
    folder = create(small)
    (folder.path / STUDY).write_text(text)
    with pytest.raises(SamecastError) as caught:
        list(status(StudyFolder(folder.path)))
    assert "\n" not in str(caught.value)
    assert STUDY in str(caught.value)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_a_damaged_subject_is_told_as_damaged(create: Create, small: Grid, text: str) -> None:
    folder = create(small)
    (folder.path / "subjects.jsonl").write_text(text + "\n")
    (found,) = folder.subjects()
    assert isinstance(found, Unreadable)
    assert "\n" not in found.reason
    assert [data.state for data in status(StudyFolder(folder.path))] == ["damaged"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("settings", {"num_inference_steps": "10"}),
        ("settings", {"num_inference_steps": 2.0}),
        ("settings", []),
        ("seeds", 1.5),
        ("seeds", 10**18),
        ("photos", "all"),
        ("lora", [["a"]]),
        ("lora", "ab"),
        ("variants", {}),
        ("variants", [{"name": "a"}]),
        ("variants", [{"name": "a", "fields": {}, "rules": [{}]}]),
        ("variants", [{"name": 3, "fields": {}, "rules": []}]),
        ("views", [{"axis": "a", "series": "b", "points": [1]}]),
        ("model", None),
        ("more", 1),
    ],
)
def test_a_recipe_that_was_changed_by_hand_is_held_to_its_types(
    create: Create, small: Grid, field: str, value: object
) -> None:
    folder = create(small)
    data = json.loads((folder.path / STUDY).read_text())
    (folder.path / STUDY).write_text(json.dumps(data | {field: value}))
    with pytest.raises(SamecastError) as caught:
        folder.recipe()
    assert "\n" not in str(caught.value)
    assert STUDY in str(caught.value)


def test_another_model_is_refused(create: Create, small: Grid, backbone: UNetBackbone) -> None:
    folder = create(small)
    text = (folder.path / "study.json").read_text().replace(backbone.identity.revision, "sha256:" + "0" * 64)
    (folder.path / "study.json").write_text(text)
    with pytest.raises(SamecastError, match="does not match the study"):
        run(folder, backbone)
