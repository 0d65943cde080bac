"""A study from end to end: written down, checked, run by an executor, put into tables and pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from samecast.backbones.base import Backbone
from samecast.core.settings import RenderSettings
from samecast.executors import Executor
from samecast.executors.local import LocalExecutor
from samecast.photos import fit_photo
from samecast.study.casting import Binding, orders_of
from samecast.study.folder import StudyFolder
from samecast.study.recipe import Recipe
from samecast.study.scoring import default_clip, default_dino, load_scorers
from samecast.study.subjects import StudySubject
from samecast.study.unit import Bench, Progress, Tally, Worker


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Args:
        subjects: for each, how many of its pictures are finished, and how many there are.
        in_progress: subjects whose live latents are kept.
        failures: pictures that could not be made, and why.
    """

    subjects: dict[str, tuple[int, int]]
    in_progress: tuple[str, ...]
    failures: tuple[dict[str, object], ...]

    @property
    def finished(self) -> bool:
        """Whether every picture is there."""
        return all(done == total for done, total in self.subjects.values())


def fitted(subjects: Sequence[StudySubject], settings: RenderSettings, size: int) -> tuple[StudySubject, ...]:
    """Subjects with their photos as the model will read them."""

    def fit(subject: StudySubject) -> StudySubject:
        photos = (subject.references, subject.judged)
        references, judged = (tuple(fit_photo(p, size=size, fit=settings.fit) for p in of) for of in photos)
        return replace(subject, references=references, judged=judged)

    return tuple(fit(subject) for subject in subjects)


def prepare(
    path: str | Path, recipe: Recipe, subjects: Sequence[StudySubject], backbone: Backbone
) -> tuple[StudyFolder, Recipe]:
    """Checks all that can be wrong with a study, then writes it down.

    Args:
        path: of its folder.
        recipe: what to run.
        subjects: for whom.
        backbone: the model, which settles what the recipe leaves open.

    Raises:
        SamecastError: it cannot be run, or the folder holds something else.
    """
    recipe, ready = settle(recipe, subjects, backbone)
    load_scorers(recipe.clip, recipe.dino)
    folder = StudyFolder(path)
    folder.create(recipe, ready)
    return folder, recipe


def settle(
    recipe: Recipe, subjects: Sequence[StudySubject], backbone: Backbone
) -> tuple[Recipe, tuple[StudySubject, ...]]:
    """The recipe with what it leaves to the model, and the subjects' photos fitted; errors as for `prepare`."""
    size, clip = recipe.settings.size or backbone.default_size, recipe.clip or default_clip(recipe.model)
    backbone.latent_shape(size)
    identity = backbone.identity
    recipe = replace(
        recipe,
        settings=replace(recipe.settings.settled(backbone.default_guidance), size=size),
        revision=identity.revision,
        lora=identity.lora,
        dtype=str(backbone.dtype).removeprefix("torch."),
        clip=clip,
        dino=recipe.dino or default_dino(recipe.model, clip),
    )
    ready = fitted(subjects, recipe.settings, size)
    binding = Binding(recipe, backbone)
    for subject in ready:
        binding.check(subject)
    return recipe, ready


def run_study(
    folder: StudyFolder,
    bench: Bench,
    *,
    executor: Executor | None = None,
    backbone: Backbone | None = None,
    progress: Progress | None = None,
    finished: Callable[[Tally, int], None] | None = None,
) -> list[Tally]:
    """Makes and scores every picture of a study that is not there yet.

    Args:
        folder: of the study.
        bench: how to work.
        executor: who works; None is this process.
        backbone: the model where it is loaded already, for the local executor.
        progress: told how far a subject is, by the local executor.
        finished: told of each subject that is done, and how many there are.

    Raises:
        SamecastError: somebody else works on it, or it cannot be worked on.
    """
    tallies: list[Tally] = []
    chosen: Executor = executor or LocalExecutor()
    local = isinstance(chosen, LocalExecutor)
    make = partial(Worker, bench, progress, backbone) if local else partial(Worker, bench)
    with folder.locked():
        folder.sweep()
        names = folder.subject_names()
        for _, tally in chosen.run(make, names):
            tallies.append(tally)
            if finished is not None:
                finished(tally, len(names))
        folder.sweep()
    return tallies


def status(folder: StudyFolder) -> Status:
    """How far a study is."""
    recipe = folder.recipe()
    found: dict[str, tuple[int, int]] = {}
    for name in folder.subject_names():
        keys = {order.key for order in orders_of(recipe, folder.subject(name))}
        found[name] = (sum(folder.is_finished(key) for key in keys), len(keys))
    live = tuple(name for name in found if any(folder.progress(name).glob("*/*.safetensors")))
    return Status(found, live, tuple(folder.failures()))
