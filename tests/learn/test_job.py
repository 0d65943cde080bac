"""Whole runs: what they leave, what they do not do twice, and that a killed one ends as if it had not been."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import samecast as sc
from samecast.concepts.concept import Concept
from samecast.core.settings import RenderSettings
from samecast.errors import SamecastError
from samecast.learn.folder import STATE
from samecast.learn.job import Learned, learn
from samecast.learn.lists import ToLearn, from_folder
from samecast.learn.settings import LearnSettings, Method
from samecast.learn.state import State, pack, read_state
from samecast.learn.watch import Watching

OFTEN = Watching(show_every=0, save_seconds=0)
QUIET = Watching(show_every=0)


class Stopped(Exception):
    """Stands for what ends a process."""


def stop_after(step: int) -> Any:
    def progress(stage: str, done: int, total: int, loss: float | None) -> None:
        if stage == "learn" and done == step:
            raise Stopped

    return progress


@pytest.mark.parametrize("method", ["textual-inversion", "lora"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    method: Any, model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path
) -> None:
    settings = replace(short, method=method)
    whole = learn(model, [subject], settings, tmp_path / "whole", watching=QUIET)
    with pytest.raises(Stopped):
        learn(model, [subject], settings, tmp_path / "parts", watching=OFTEN, progress=stop_after(2))
    assert (tmp_path / "parts" / STATE).is_file()
    seen: list[int] = []
    parts = learn(
        model, [subject], settings, tmp_path / "parts", watching=OFTEN,
        progress=lambda stage, done, total, loss: seen.append(done),
    )  # fmt: skip
    assert seen == [3, 4]
    assert parts.concept.revision == whole.concept.revision
    assert parts.concept.training["losses"] == whole.concept.training["losses"]
    assert not (tmp_path / "parts" / STATE).exists()


CHILD = """
import sys
import samecast as sc
from samecast.learn.job import learn
from samecast.learn.lists import from_folder
from samecast.learn.settings import LearnSettings, Method
from samecast.learn.watch import Watching

def progress(stage, done, total, loss):
    if done == 3:
        print("three", flush=True)
        sys.stdin.read()

learn(sc.load(sys.argv[1]), [from_folder(sys.argv[2], "dog", class_folder=sys.argv[3])],
      LearnSettings(steps=4, batch=2, learning_rate=1e-3, token_rate=1e-2, class_images=2), sys.argv[4],
      watching=Watching(show_every=0, save_seconds=0), progress=progress)
"""


def gone_on(model: sc.Model, subject: ToLearn, settings: LearnSettings, place: Path) -> tuple[Learned, list[int]]:
    """A run taken up again, and the steps that it still took."""
    seen: list[int] = []
    done = learn(
        model, [subject], settings, place, watching=QUIET,
        progress=lambda stage, done, total, loss: seen.append(done),
    )  # fmt: skip
    return done, seen


def test_a_killed_run_ends_with_the_same_bits(
    model: sc.Model,
    tiny_pipeline_dir: Path,
    photos_dir: Path,
    class_dir: Path,
    subject: ToLearn,
    short: LearnSettings,
    tmp_path: Path,
) -> None:
    words = [str(path) for path in (tiny_pipeline_dir, photos_dir, class_dir, tmp_path / "killed")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "three\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not list((tmp_path / "killed").glob("killed*"))
    killed, seen = gone_on(model, subject, short, tmp_path / "killed")
    assert seen == [4]
    whole = learn(model, [subject], short, tmp_path / "whole", watching=QUIET)
    assert killed.concept.revision == whole.concept.revision


def test_a_finished_run_is_not_done_twice_and_others_are_left_alone(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path
) -> None:
    settings = replace(short, method="textual-inversion", steps=1)
    first = learn(model, [subject], settings, tmp_path / "rex", watching=QUIET)
    again = learn(model, [subject], settings, tmp_path / "rex", progress=stop_after(1))
    assert again.found
    assert again.file == first.file == tmp_path / "rex" / "rex.safetensors"
    assert again.concept.revision == first.concept.revision
    other = learn(model, [subject], replace(settings, seed=1), tmp_path / "rex", watching=QUIET)
    assert other.file == tmp_path / "rex-2" / "rex-2.safetensors"
    assert learn(model, [subject], replace(settings, seed=1), tmp_path / "rex").found
    data = json.loads((tmp_path / "rex" / "learn.json").read_text())
    assert data["settings"]["method"] == "textual-inversion"
    assert list(data["subjects"][0]["photos"]) == ["0.png", "1.png", "2.png"]
    assert Concept.load(first.file).tokens["<new1>"].class_noun == "dog"


def test_an_interrupt_waits_for_its_step_and_leaves_a_state(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path
) -> None:
    settings = replace(short, method="textual-inversion", steps=8)

    def interrupt(stage: str, done: int, total: int, loss: float | None) -> None:
        if stage == "learn" and done == 4:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        learn(model, [subject], settings, tmp_path / "rex", watching=QUIET, progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    rest, seen = gone_on(model, subject, settings, tmp_path / "rex")
    assert seen == [5, 6, 7, 8]
    whole = learn(model, [subject], settings, tmp_path / "whole", watching=QUIET)
    assert rest.concept.revision == whole.concept.revision


def test_losses_since_the_last_entry_are_in_the_state(tmp_path: Path) -> None:
    tensors, words = pack(State(5, "key", {}, {}, {}, 1.0, ((3, 0.5),), (0.25, 0.75)))
    save_file({"weights/a": torch.ones(1), **tensors}, tmp_path / "state", words)
    assert read_state(tmp_path / "state", "key").recent == (0.25, 0.75)


def test_a_run_goes_on_beside_a_folder_of_somebody_elses(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path
) -> None:
    settings = replace(short, method="textual-inversion")
    (tmp_path / "rex").mkdir()
    (tmp_path / "rex" / "letter.txt").write_text("mine")
    with pytest.raises(Stopped):
        learn(model, [subject], settings, tmp_path / "rex", watching=OFTEN, progress=stop_after(3))
    done, seen = gone_on(model, subject, settings, tmp_path / "rex")
    assert seen == [4]
    assert done.file == tmp_path / "rex-2" / "rex-2.safetensors"
    assert learn(model, [subject], settings, tmp_path / "rex").found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rex", "rex-2"]


def test_what_a_killed_first_save_leaves_is_not_somebody_elses(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path
) -> None:
    (tmp_path / "rex").mkdir()
    (tmp_path / "rex" / ".samecast-1a2b").mkdir()
    done = learn(
        model, [subject], replace(short, method="textual-inversion", steps=1), tmp_path / "rex", watching=QUIET
    )
    assert done.file == tmp_path / "rex" / "rex.safetensors"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_model_of_another_precision_is_refused(
    tiny_pipeline_dir: Path, subject: ToLearn, short: LearnSettings, tmp_path: Path, dtype: Any
) -> None:
    half = sc.load(tiny_pipeline_dir, dtype=dtype, device="cpu")
    with pytest.raises(SamecastError, match=f"loaded in {dtype}, but training needs float32"):
        learn(half, [subject], short, tmp_path / "rex")
    assert not (tmp_path / "rex").exists()


def test_an_unfinished_run_of_other_settings_is_refused(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path
) -> None:
    settings = replace(short, method="textual-inversion")
    with pytest.raises(Stopped):
        learn(model, [subject], settings, tmp_path / "rex", watching=OFTEN, progress=stop_after(1))
    with pytest.raises(SamecastError, match="belongs to another run"):
        learn(model, [subject], replace(settings, steps=5), tmp_path / "rex")
    (tmp_path / "rex" / STATE).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(SamecastError, match="damaged") as error:
        learn(model, [subject], settings, tmp_path / "rex")
    assert "\n" not in str(error.value)


def test_class_pictures_are_made_once_and_by_their_seeds(
    model: sc.Model, photos_dir: Path, short: LearnSettings, tmp_path: Path
) -> None:
    settings = replace(short, steps=1, class_images=3)
    subject = from_folder(photos_dir, "dog")
    learn(model, [subject], settings, tmp_path / "one", watching=QUIET, class_folder=tmp_path / "class")
    (folder,) = (tmp_path / "class").iterdir()
    made = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert len(made) == 3
    assert len(set(made.values())) == 3
    stamps = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    learn(
        model, [subject], replace(settings, seed=1), tmp_path / "two", watching=QUIET, class_folder=tmp_path / "class"
    )
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == stamps
    with pytest.raises(SamecastError, match="--prior-weight 0"):
        learn(model, [replace(subject, class_caption="")], settings, tmp_path / "three")


def test_pictures_and_losses_can_be_watched(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    settings = replace(short, method="textual-inversion")
    watching = Watching(show_every=2, prompts=("a <new1> dog",), tensorboard=True)
    seen: list[tuple[int, float | None]] = []
    learn(
        model, [subject], settings, tmp_path / "rex", watching=watching,
        progress=lambda stage, done, total, loss: seen.append((done, loss)),
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "rex" / "samples").iterdir()) == [
        "step-00002.png",
        "step-00004.png",
    ]
    assert list((tmp_path / "rex" / "log").iterdir())
    assert [done for done, _ in seen] == [1, 2, 3, 4]
    assert all(loss is not None and loss > 0 for _, loss in seen)


def test_xl_learns_several_subjects_on_both_text_encoders(
    tiny_xl_dir: Path, three: list[ToLearn], short: LearnSettings, tmp_path: Path
) -> None:
    model = sc.load(tiny_xl_dir)
    settings = replace(short, steps=1, batch=3, prior_weight=0.0)
    done = learn(model, three, settings, tmp_path / "three", watching=QUIET)
    assert done.concept.base.family == "xl"
    assert len(done.concept.changes) == 2 * 70
    pipeline: Any = model.backbone.pipeline  # pyright: ignore[reportAttributeAccessIssue]
    for number, word in enumerate(("<new1>", "<new2>", "<new3>")):
        vectors = done.concept.tokens[word].vectors
        assert set(vectors) == {"text_encoder", "text_encoder_2"}
        for encoder, vector in vectors.items():
            tokenizer = getattr(pipeline, encoder.replace("text_encoder", "tokenizer"))
            ids = tokenizer(three[number].noun, add_special_tokens=False).input_ids
            begin = getattr(pipeline, encoder).get_input_embeddings().weight[ids].mean(0)
            assert (vector[0] - begin).norm() > 1e-3, (word, encoder)
    loaded = sc.load(tiny_xl_dir, concepts=[done.file])
    prompt, plain = RenderSettings(num_inference_steps=2, init="noise"), "a <new3> mug"
    learnt = loaded.render(None, [plain], rules=(), settings=prompt).renders[0].image
    before = model.render(None, ["a mug"], rules=(), settings=prompt).renders[0].image
    assert learnt.tobytes() != before.tobytes()


@pytest.mark.parametrize("method", ["custom-diffusion", "textual-inversion", "lora", "dreambooth"])
def test_xl_goes_on_learning_by_every_method(
    tiny_xl_dir: Path, subject: ToLearn, short: LearnSettings, method: Method, tmp_path: Path
) -> None:
    model = sc.load(tiny_xl_dir)
    settings = replace(short, method=method, steps=2, prior_weight=0.0, augment="none")
    whole = learn(model, [subject], settings, tmp_path / "whole", watching=QUIET)

    def stop(stage: str, done: int, total: int, loss: float | None) -> None:
        if done == 1:
            raise KeyboardInterrupt

    at_once = replace(QUIET, save_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        learn(model, [subject], settings, tmp_path / "parts", watching=at_once, progress=stop)
    parts = learn(model, [subject], settings, tmp_path / "parts", watching=at_once)
    assert whole.concept.base.family == "xl"
    assert whole.concept.tensors().keys() == parts.concept.tensors().keys()
    for name, value in whole.concept.tensors().items():
        assert torch.equal(value, parts.concept.tensors()[name]), name


def test_what_killed_saves_left_is_swept_away(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path
) -> None:
    leftover = tmp_path / "rex" / ".samecast-abc"
    leftover.mkdir(parents=True)
    (leftover / "state.safetensors").write_bytes(b"half")
    learn(model, [subject], replace(short, steps=1, prior_weight=0.0), tmp_path / "rex", watching=QUIET)
    assert not leftover.exists()


def test_a_folder_without_a_name_is_refused(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SamecastError, match="has no name"):
        learn(model, [subject], short, ".", watching=QUIET)


def test_several_devices_take_the_steps_that_one_would(
    model: sc.Model,
    tiny_pipeline_dir: Path,
    photos_dir: Path,
    class_dir: Path,
    subject: ToLearn,
    tmp_path: Path,
) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        CHILD.replace("if done == 3:", "if False:")
        .replace("batch=2", "batch=1")
        .replace("progress=progress", "progress=progress, devices=find_devices('cpu')")
        .replace("import sys\n", "import sys\nfrom samecast.learn.devices import find_devices\n", 1)
    )
    words = [str(path) for path in (tiny_pipeline_dir, photos_dir, class_dir, tmp_path / "two")]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *words], check=True, env=environment, capture_output=True, timeout=300)
    settings = LearnSettings(steps=4, batch=2, learning_rate=1e-3, token_rate=1e-2, class_images=2)
    one = learn(model, [subject], settings, tmp_path / "one", watching=QUIET)
    two = json.loads((tmp_path / "two" / "learn.json").read_text())
    assert two["devices"] == 2
    for (step, mine), (other, theirs) in zip(one.concept.training["losses"], two["losses"], strict=True):
        assert step == other
        assert theirs == pytest.approx(mine, rel=1e-3)  # Adam amplifies rounding
    tensors = load_file(tmp_path / "two" / "two.safetensors")
    assert tensors.keys() == one.concept.tensors().keys()
