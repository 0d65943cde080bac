"""Learning on disk: a live run is left alone, a killed one leaves nothing behind, and no sample is lost."""

import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import samecast as sc
from samecast.disk import PENDING, locked
from samecast.disk.locks import LOCK
from samecast.errors import SamecastError
from samecast.learn.folder import RECORD, STATE
from samecast.learn.job import learn
from samecast.learn.lists import ToLearn, from_folder
from samecast.learn.settings import LearnSettings
from samecast.learn.watch import Watch, Watching

QUIET = Watching(show_every=0)


class Stopped(Exception):
    """Stands for what ends a process."""


@pytest.fixture
def quick(short: LearnSettings) -> LearnSettings:
    return replace(short, method="textual-inversion", prior_weight=0.0)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_live_run_is_left_alone(model: sc.Model, subject: ToLearn, quick: LearnSettings, tmp_path: Path) -> None:
    """Whatever its settings: what it saves, and what it is saving."""
    tried: list[int] = []

    def meanwhile(stage: str, done: int, total: int, loss: float | None) -> None:
        half = tmp_path / "rex" / f"{PENDING}other"
        for seed in (0, 1):
            with pytest.raises(SamecastError, match="in use by another process"):
                learn(model, [subject], replace(quick, seed=seed), tmp_path / "rex", watching=QUIET)
        assert (tmp_path / "rex" / STATE).is_file()
        tried.append(done)
        half.mkdir(exist_ok=True)

    done = learn(model, [subject], quick, tmp_path / "rex", watching=replace(QUIET, save_seconds=0), progress=meanwhile)
    assert tried == [1, 2, 3, 4]
    assert names(done.file.parent) == {"rex.safetensors", RECORD}
    assert not list(done.file.parent.glob(".*"))


def test_a_kill_between_the_record_and_the_state_leaves_nothing(
    model: sc.Model, subject: ToLearn, quick: LearnSettings, tmp_path: Path
) -> None:
    done = learn(model, [subject], quick, tmp_path / "rex", watching=QUIET)
    folder = done.file.parent
    (folder / STATE).write_bytes(b"gigabytes")
    (folder / LOCK).write_text("")
    (folder / f"{PENDING}abc").mkdir()
    (folder / "samples" / f"{PENDING}abc").mkdir(parents=True)
    before = (folder / RECORD).stat().st_mtime_ns
    again = learn(model, [subject], quick, tmp_path / "rex", watching=QUIET)
    assert again.found
    assert names(folder) == {"rex.safetensors", RECORD}
    assert not list(folder.rglob(".*"))
    assert (folder / RECORD).stat().st_mtime_ns == before


def test_what_is_finished_is_read_while_another_process_has_it(
    model: sc.Model, subject: ToLearn, quick: LearnSettings, tmp_path: Path
) -> None:
    done = learn(model, [subject], quick, tmp_path / "rex", watching=QUIET)
    with locked(done.file.parent):
        assert learn(model, [subject], quick, tmp_path / "rex", watching=QUIET).found


@pytest.mark.parametrize("stop_at", [2, 4])
def test_a_sample_whose_step_was_saved_before_it_was_drawn_is_drawn(
    model: sc.Model,
    subject: ToLearn,
    quick: LearnSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:
    watching = Watching(show_every=2, prompts=("a <new1> dog",), save_seconds=0)
    whole = learn(model, [subject], quick, tmp_path / "whole", watching=watching)

    drawn = Watch.pictures

    def killed(watch: Watch, step: int, *data: Any, **more: Any) -> None:
        if step == stop_at:
            raise Stopped
        drawn(watch, step, *data, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "pictures", killed)
        with pytest.raises(Stopped):
            learn(model, [subject], quick, tmp_path / "parts", watching=watching)
    parts = learn(model, [subject], quick, tmp_path / "parts", watching=watching)
    for name in ("step-00002.png", "step-00004.png"):
        one, other = (folder / "samples" / name for folder in (whole.file.parent, parts.file.parent))
        assert one.read_bytes() == other.read_bytes()


def test_a_sample_that_is_there_is_not_drawn_again(
    model: sc.Model, subject: ToLearn, quick: LearnSettings, tmp_path: Path
) -> None:
    watching = Watching(show_every=2, prompts=("a <new1> dog",), save_seconds=0)

    def stop(stage: str, done: int, total: int, loss: float | None) -> None:
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        learn(model, [subject], quick, tmp_path / "rex", watching=watching, progress=stop)
    sample = tmp_path / "rex" / "samples" / "step-00002.png"
    before = sample.stat().st_mtime_ns
    learn(model, [subject], quick, tmp_path / "rex", watching=watching)
    assert sample.stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", ["file", "dangling", "long", "~nosuchuser/rex"])
def test_a_folder_that_cannot_be_is_refused_before_the_work(
    model: sc.Model, subject: ToLearn, quick: LearnSettings, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    out = {"long": tmp_path / ("x" * 246)}.get(kind, kind if kind.startswith("~") else tmp_path / kind)
    with pytest.raises(SamecastError) as caught:
        learn(model, [subject], quick, out, watching=QUIET)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    model: sc.Model, subject: ToLearn, quick: LearnSettings, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, hard))  # the kernel refuses what is longer, as a full disk does
    try:
        with pytest.raises(SamecastError, match="cannot write") as caught:
            learn(model, [subject], quick, tmp_path / "rex", watching=replace(QUIET, save_seconds=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    learn(model, [subject], quick, tmp_path / "rex", watching=QUIET)


def test_photos_of_any_name_are_learnt_and_written_down(
    model: sc.Model, photos_dir: Path, quick: LearnSettings, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    os.link(photos_dir / "0.png", tmp_path / "photos" / os.fsdecode(b"r\xe9x.png"))
    done = learn(model, [from_folder(tmp_path / "photos", "dog")], quick, tmp_path / "rex", watching=QUIET)
    assert "r\\udce9x.png" in done.concept.training["subjects"][0]["photos"]
    assert learn(model, [from_folder(tmp_path / "photos", "dog")], quick, tmp_path / "rex").found


@pytest.mark.parametrize("content", ["", "[]", "{", '{"key": 3}', '{"key": KEY, "losses": []}', "[" * 50_000])
def test_a_damaged_record_is_one_line(
    model: sc.Model, subject: ToLearn, quick: LearnSettings, tmp_path: Path, content: str
) -> None:
    done = learn(model, [subject], quick, tmp_path / "rex", watching=QUIET)
    record = done.file.parent / RECORD
    key = record.read_text().split('"key": ')[1].split(",")[0]
    record.write_text(content.replace("KEY", key))
    if content == '{"key": 3}':  # another run's: the next free name is taken
        assert learn(model, [subject], quick, tmp_path / "rex", watching=QUIET).file.parent.name == "rex-2"
        return
    with pytest.raises(SamecastError) as caught:
        learn(model, [subject], quick, tmp_path / "rex", watching=QUIET)
    assert "\n" not in str(caught.value)
    assert str(record) in str(caught.value)
