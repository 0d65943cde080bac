"""A training run: photos -> class images -> training, resumed where it stopped -> a concept and its record."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from samecast.checked import as_text
from samecast.concepts.concept import Base, Concept
from samecast.concepts.places import find_pipeline
from samecast.disk import all_below, check_writable, expanded, is_file, locked, sweep, write_text
from samecast.errors import SamecastError
from samecast.learn.classes import class_pictures
from samecast.learn.devices import Devices
from samecast.learn.folder import RECORD, STATE, find_place, read_finished
from samecast.learn.lists import ToLearn, check_tokens
from samecast.learn.loop import Loop, find_optimizer
from samecast.learn.material import Material
from samecast.learn.objective import Objective
from samecast.learn.settings import LearnSettings
from samecast.learn.trained import Trained, training
from samecast.learn.watch import Watch, Watching
from samecast.models.fingerprint import file_revision
from samecast.render import Model

Progress = Callable[[str, int, int, float | None], None]
"""Called with the stage (`class`, `learn`), the units done, the total, and the loss, where there is one."""


@dataclass(frozen=True)
class Learned:
    """The result of a training run.

    Args:
        concept: the concept of the subject or subjects.
        file: its path.
        steps: number of steps in all.
        seconds: training time, without class images and samples.
        loss: mean loss of the last steps.
        found: whether a finished run was found, so that nothing was trained.
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
    """Trains a concept of one or several subjects, resuming an interrupted run.

    Args:
        model: the model to train; it is restored afterwards.
        subjects: subjects with their photos, each with its own token.
        settings: training settings.
        out: folder of the run. An unfinished run there is resumed, a finished one of the same settings returned; a run
            of other settings is kept, and the next free name is used.
        watching: samples and logs during the run.
        devices: processes that share the work.
        class_folder: folder of generated class images, shared among runs; None is the run's own folder.
        progress: called with progress.

    Raises:
        SamecastError: a setting cannot be met, or the folder holds an unfinished run of other settings.
    """
    find_pipeline(model)  # refuses models that take no concepts
    check_tokens(subjects)
    devices, watching = devices or Devices(), watching or Watching()
    data: Progress = progress or (lambda stage, done, total, loss: None)
    _check_precision(model, settings)
    settings = replace(settings, size=settings.size or model.backbone.default_size)
    facts = _facts(model, subjects, settings, devices)
    key = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    check_writable(out, "folder")
    folder = find_place(expanded(out), key)
    run = _Run(model, settings, folder, watching, devices, data, facts, key)
    check_writable(run.file, "file")
    if not run.is_finished:
        find_optimizer(settings.optimizer)  # before class images are generated
        with locked(folder) if devices.is_main else nullcontext():
            # Another process may have finished the run before this one got the lock.
            return run.finished() if run.is_finished else run.learn(subjects, class_folder or folder / "class")
    with suppress(SamecastError), locked(folder):  # a lock left by a run that was killed after it finished
        run.clear()
    return run.finished()


@dataclass(frozen=True)
class _Run:
    """A training run in its folder; arguments as for `learn`."""

    model: Model
    settings: LearnSettings
    folder: Path
    watching: Watching
    devices: Devices
    data: Progress
    facts: dict[str, Any]
    key: str

    @property
    def file(self) -> Path:
        """The path of the concept."""
        return self.folder / f"{self.folder.name}.safetensors"

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished."""
        return is_file(self.folder / RECORD)

    def clear(self) -> None:
        """Removes the state and the unfinished files of killed processes."""
        sweep(all_below(self.folder))
        (self.folder / STATE).unlink(missing_ok=True)

    def finished(self) -> Learned:
        """The result of an earlier call."""
        data = read_finished(self.folder)
        return Learned(Concept.load(self.file), self.file, data.steps, data.seconds, data.losses[-1][1], found=True)

    def learn(self, subjects: Sequence[ToLearn], class_folder: Path) -> Learned:
        """Trains, resuming an interrupted run."""
        model, settings, devices = self.model, self.settings, self.devices
        if devices.is_main:
            sweep(all_below(self.folder))
        if settings.preserves:
            subjects = _with_class_pictures(
                model,
                subjects,
                settings,
                class_folder,
                devices,
                lambda stage, done, total: self.data(stage, done, total, None),
            )
        material = Material(model.backbone, settings, subjects)
        with training(model.backbone, settings, subjects) as trained:
            loop = self._loop(trained, material, subjects)
            family = "xl" if len(trained.rows) > 1 else "sd"
            identity = model.backbone.identity
            record = {**self.facts, "steps": loop.steps, "seconds": round(loop.seconds, 1), "losses": loop.losses}
            concept = Concept(trained.tokens(), trained.changes(), Base(identity.id, identity.revision, family), record)
        if devices.is_main:
            concept.save(self.file)
            text = json.dumps({"key": self.key, **record}, indent=1, ensure_ascii=False)
            write_text(self.folder / RECORD, text + "\n")
            self.clear()
        devices.wait()
        return Learned(concept, self.file, loop.steps, loop.seconds, loop.losses[-1][1])

    def _loop(self, trained: Trained, material: Material, subjects: Sequence[ToLearn]) -> Loop:
        """Runs the remaining steps and draws the samples."""
        settings, watching = self.settings, self.watching
        objective = Objective(self.model.backbone, material, settings)
        loop = Loop(
            trained,
            objective,
            material.draws(len(objective.alphas)),
            settings,
            self.devices,
            self.folder / STATE,
            self.key,
            save_seconds=watching.save_seconds,
        )
        if not self.devices.is_main:
            loop.run(lambda step, steps, loss: None)
            return loop
        watch = Watch(self.folder, self.model, subjects, watching, int(settings.size or 0))

        def after(step: int, steps: int, loss: float) -> None:
            self.data("learn", step, steps, loss)
            watch.loss(step, loss)
            watch.pictures(step, steps, material.computing())

        try:
            if loop.step:  # a killed run may have written its state before its samples
                watch.pictures(loop.step, loop.steps, material.computing(), again=False)
            loop.run(after)
        finally:
            watch.close()
        return loop


def _check_precision(model: Model, settings: LearnSettings) -> None:
    loaded = str(model.backbone.dtype).removeprefix("torch.")
    if loaded != settings.precision:
        raise SamecastError(
            f"the model was loaded in {loaded}, but training needs {settings.precision}: load it with"
            f" dtype={settings.precision!r}, or set precision={loaded!r}"
        )


def _facts(model: Model, subjects: Sequence[ToLearn], settings: LearnSettings, devices: Devices) -> dict[str, Any]:
    """All that the result depends on, on one machine; JSON-serialisable."""
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
                "photos": {as_text(path.name): file_revision(path) for path in subject.photos},
                "class_photos": [
                    [as_text(path.name), file_revision(path), words] for path, words in subject.class_photos
                ],
            }
            for subject in subjects
        ],
    }


def _with_class_pictures(
    model: Model,
    subjects: Sequence[ToLearn],
    settings: LearnSettings,
    folder: Path,
    devices: Devices,
    progress: Callable[[str, int, int], None],
) -> list[ToLearn]:
    """The subjects with class images; missing ones are generated."""
    complete: list[ToLearn] = []
    for subject in subjects:
        if not subject.class_photos:
            if not subject.class_caption:
                raise SamecastError(
                    f"prior preservation needs the class of {subject.token}: give --noun, or --prior-weight 0"
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
