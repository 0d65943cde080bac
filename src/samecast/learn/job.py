"""One learning: photos -> class pictures -> training, from where it stopped -> a concept and its record.

concepts/rex/
  rex.safetensors     the concept
  learn.json          settings, photos, losses, seconds; there once the run is finished
  samples/            fixed prompts, every so often
  class/              class pictures, where none were given
  state.safetensors   where an unfinished run goes on
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from samecast.backbones.fingerprint import file_revision
from samecast.concepts.concept import Base, Concept
from samecast.disk import check_writable, write_text
from samecast.errors import SamecastError
from samecast.learn.classes import class_pictures
from samecast.learn.devices import Devices
from samecast.learn.lists import ToLearn, check_tokens
from samecast.learn.loop import Loop, find_optimizer
from samecast.learn.material import Material
from samecast.learn.objective import Objective
from samecast.learn.settings import LearnSettings
from samecast.learn.trained import training
from samecast.learn.watch import Watch, Watching
from samecast.render import Model

RECORD, STATE = "learn.json", "state.safetensors"
Progress = Callable[[str, int, int, float | None], None]
"""Told a stage (`class`, `learn`), how much is done, how much there is, and the loss where there is one."""


@dataclass(frozen=True)
class Learned:
    """What a learning gave.

    Args:
        concept: the subject, or the subjects.
        file: where it is kept.
        steps: how many were taken in all.
        seconds: that they took, class pictures and samples apart.
        loss: of the last steps.
        found: whether it was there already, so that nothing was done.
    """

    concept: Concept
    file: Path
    steps: int
    seconds: float
    loss: float
    found: bool = False


def learn(
    model: Model,
    subjects: Sequence[ToLearn],
    settings: LearnSettings,
    out: str | Path,
    *,
    watching: Watching | None = None,
    devices: Devices | None = None,
    class_folder: Path | None = None,
    progress: Progress | None = None,
) -> Learned:
    """Learns subjects together, or goes on learning them where an earlier call was stopped.

    Args:
        model: learns; afterwards it is as it was.
        subjects: with their photos, each with a token of its own.
        settings: how to learn.
        out: folder of the run. An unfinished run there goes on; a finished one of the same settings is returned, and of
            others left alone, the next free name being taken.
        watching: what to see on the way.
        devices: who takes part.
        class_folder: where generated class pictures lie, to be shared among runs; None is the run's own folder.
        progress: told how far the work is.

    Raises:
        SamecastError: something asked for cannot be done, or the folder holds an unfinished run of other settings.
    """
    check_tokens(subjects)
    devices, watching = devices or Devices(), watching or Watching()
    told: Progress = progress or (lambda stage, done, total, loss: None)
    _check_precision(model, settings)
    settings = replace(settings, size=settings.size or model.backbone.default_size)
    facts = _facts(model, subjects, settings, devices)
    key = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = _place(Path(out).expanduser(), key)
    file = folder / f"{folder.name}.safetensors"
    if (folder / RECORD).is_file():
        return _finished(folder, file)
    check_writable(file)
    find_optimizer(settings.optimizer)  # before class pictures are made
    for leftover in folder.glob(f".{STATE}-*"):  # of a save that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    if settings.preserves:
        subjects = _with_class_pictures(
            model,
            subjects,
            settings,
            class_folder or folder / "class",
            devices,
            lambda stage, done, total: told(stage, done, total, None),
        )
    material = Material(model.backbone, settings, subjects)
    with training(model.backbone, settings, subjects) as trained:
        objective = Objective(model.backbone, material, settings)
        draws = material.draws(len(objective.alphas))
        loop = Loop(
            trained, objective, draws, settings, devices, folder / STATE, key, save_seconds=watching.save_seconds
        )
        watch = Watch(folder, model, subjects, watching, int(settings.size or 0)) if devices.is_main else None

        def after(step: int, steps: int, loss: float) -> None:
            told("learn", step, steps, loss)
            if watch is not None:
                watch.loss(step, loss)
                watch.pictures(step, steps, material.computing())

        try:
            loop.run(after)
        finally:
            if watch is not None:
                watch.close()
        family = "xl" if len(trained.rows) > 1 else "sd"
        identity = model.backbone.identity
        training_record = {**facts, "steps": loop.steps, "seconds": round(loop.seconds, 1), "losses": loop.losses}
        concept = Concept(
            trained.tokens(), trained.changes(), Base(identity.id, identity.revision, family), training_record
        )
    if devices.is_main:
        concept.save(file)
        write_text(folder / RECORD, json.dumps({"key": key, **training_record}, indent=1, ensure_ascii=False) + "\n")
        (folder / STATE).unlink(missing_ok=True)
    devices.wait()
    return Learned(concept, file, loop.steps, loop.seconds, loop.losses[-1][1])


def _check_precision(model: Model, settings: LearnSettings) -> None:
    loaded = str(model.backbone.dtype).removeprefix("torch.")
    if loaded != settings.precision:
        raise SamecastError(
            f"the model was loaded in {loaded}, and is to learn in {settings.precision}: load it with"
            f" dtype={settings.precision!r}, or set precision={loaded!r}"
        )


def _facts(model: Model, subjects: Sequence[ToLearn], settings: LearnSettings, devices: Devices) -> dict[str, Any]:
    """All that the outcome depends on, on one machine; JSON-able."""
    return {
        "settings": asdict(settings),
        "devices": devices.count,
        "model": asdict(model.backbone.identity),
        "dtype": str(model.backbone.dtype),
        "subjects": [
            {
                "token": subject.token,
                "class_noun": subject.noun,
                "caption": subject.caption,
                "class_caption": subject.class_caption,
                "photos": {path.name: file_revision(path) for path in subject.photos},
                "class_photos": [[path.name, file_revision(path), words] for path, words in subject.class_photos],
            }
            for subject in subjects
        ],
    }


def _place(wanted: Path, key: str) -> Path:
    """The folder to work in: the first of `name`, `name-2`, ... that holds this very run, or is free for it."""
    if wanted.name in ("", ".."):
        raise SamecastError(f"a concept is called as its folder, and {str(wanted)!r} has no name: give another --out")
    folder, number = wanted, 2
    while folder.is_dir() and not _is_ours(folder, key):
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def _is_ours(folder: Path, key: str) -> bool:
    """Whether a folder is a run's of this key, or an unfinished one's that is to say so itself, or empty."""
    if (folder / RECORD).is_file():
        return _record(folder).get("key") == key
    # What begins with a dot was being written when a run was killed.
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return not names or bool(names & {STATE, "class", "samples", "log"})


def _record(folder: Path) -> dict[str, Any]:
    try:
        record: Any = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return dict(record)
    except (OSError, ValueError, TypeError) as error:
        raise SamecastError(
            f"{folder / RECORD} is damaged ({error!r:.60}): delete it, or choose another --out"
        ) from None


def _finished(folder: Path, file: Path) -> Learned:
    record = _record(folder)
    loss = float(record["losses"][-1][1])
    return Learned(Concept.load(file), file, int(record["steps"]), float(record["seconds"]), loss, found=True)


def _with_class_pictures(
    model: Model,
    subjects: Sequence[ToLearn],
    settings: LearnSettings,
    folder: Path,
    devices: Devices,
    progress: Callable[[str, int, int], None],
) -> list[ToLearn]:
    """The subjects with class pictures, those made that are not given."""
    complete: list[ToLearn] = []
    for subject in subjects:
        if not subject.class_photos:
            if not subject.class_caption:
                raise SamecastError(
                    f"prior preservation needs to know the class of {subject.token}: give --noun, or --prior-weight 0"
                )
            made = class_pictures(
                model,
                subject.class_caption,
                settings.class_images,
                folder,
                size=int(settings.size or 0),
                devices=devices,
                progress=progress,
            )
            subject = replace(subject, class_photos=made)
        complete.append(subject)
    return complete
