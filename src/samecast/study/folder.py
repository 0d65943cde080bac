"""A study on disk: self-describing, safe against kills, and never in doubt about what is finished.

    study.json               the recipe: all that determines the pictures but the subjects
    subjects/corgi/          the photos as the model reads them, prompts and class noun
    runs/KEY/                one finished picture: picture.png, latent.safetensors, run.json with all that made it
    scores/KEY.json          one picture's scores by one set of scorers
    failures/KEY.json        why a picture could not be made; tried again when the study goes on
    masks/KEY/               where maps showed the subject in a photo: map.png, mask.png, mask.json
    progress/corgi/          the subject in progress: trajectory and live latents
    scores.parquet, scores.csv, figures/, index.html    what came out; made anew whenever the study has run

Everything is written under another name and renamed; a key is made of all that determines its content.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from samecast.checked import Within, build, check_fields, one_line, read_json
from samecast.disk import (
    LOCK,
    absolute,
    all_below,
    inside,
    is_file,
    locked,
    save_tensors,
    sweep,
    write_text,
    writing_folder,
)
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.records import pixel_hash
from samecast.study.recipe import Recipe, recipe_from_data, recipe_to_data
from samecast.study.subjects import StudySubject

STUDY = "study.json"
PICTURE, LATENT, RUN = "picture.png", "latent.safetensors", "run.json"


class StudyFolder:
    """One study's folder.

    Args:
        path: where it is, or is to be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = absolute(path)

    def create(self, recipe: Recipe, subjects: Sequence[StudySubject]) -> None:
        """Writes down what is to be run; a folder that holds this very study already is left as it is.

        Raises:
            SamecastError: it holds another study, or anything else.
        """
        with self.locked():
            self._create(recipe, subjects)

    def _create(self, recipe: Recipe, subjects: Sequence[StudySubject]) -> None:
        self.sweep()
        if (self.path / STUDY).is_file():
            told = json.loads(json.dumps(recipe_to_data(recipe)))
            same = self._read_json(self.path / STUDY) == told and self._same_subjects(subjects)
            if not same:
                raise SamecastError(
                    f"{str(self.path)!r} holds another study: give another folder, or --resume this one"
                )
            return
        self._clear_begun()
        if any(entry.name != LOCK for entry in self.path.iterdir()):
            raise SamecastError(f"{str(self.path)!r} holds something else: give a folder that is new or empty")
        for subject in subjects:
            self._write_subject(subject)
        # Last: a folder that has it is whole.
        write_text(self.path / STUDY, json.dumps(recipe_to_data(recipe), indent=1) + "\n")

    def _clear_begun(self) -> None:
        """Removes what a creation left that was stopped before `study.json`: subjects, and nothing else."""
        place = self.path / "subjects"
        if not place.is_dir() or any(entry != place for entry in self.path.iterdir() if entry.name[0] != "."):
            return
        entries = [entry for entry in place.iterdir() if entry.name[0] != "."]
        if all((entry / "subject.json").is_file() for entry in entries):
            shutil.rmtree(place)

    def recipe(self) -> Recipe:
        """What is run.

        Raises:
            SamecastError: the folder holds no study.
        """
        file = self.path / STUDY
        if not is_file(file):
            raise SamecastError(f"{str(self.path)!r} holds no study: it has no {STUDY}")
        return recipe_from_data(self._read_json(file), file)

    def subject_names(self) -> tuple[str, ...]:
        """All subjects, in order of their names."""
        return tuple(sorted(file.parent.name for file in self.path.glob("subjects/*/subject.json")))

    def subject(self, name: str) -> StudySubject:
        """One of them.

        Raises:
            SamecastError: it is damaged.
        """
        folder = self.path / "subjects" / name
        told = build(_Subject, self._read_json(folder / "subject.json"), f"{str(folder / 'subject.json')!r}")
        return StudySubject(
            name,
            told.prompts,
            tuple(open_photo(inside(folder, file)) for file in told.references),
            told.class_noun,
            told.source_prompt,
            tuple(open_photo(inside(folder, file)) for file in told.judged),
            told.case,
            told.hidden,
        )

    def is_finished(self, key: str) -> bool:
        """Whether a picture is there."""
        return (self.path / "runs" / key / RUN).is_file()

    def write_run(self, key: str, picture: Image.Image, latent: Tensor, told: Mapping[str, Any]) -> None:
        """One finished picture, whole or not at all."""
        with writing_folder(self.path / "runs" / key, replaces=lambda old: True) as place:
            picture.save(place.path / PICTURE)
            save_tensors({"latent": latent.clone()}, place.path / LATENT, {"key": key})
            (place.path / RUN).write_text(json.dumps({"key": key, **told}, indent=1) + "\n", encoding="utf-8")
        self.clear_failure(key)

    def picture(self, key: str) -> Image.Image:
        """A finished picture."""
        return open_photo(self.path / "runs" / key / PICTURE)

    def latent(self, key: str) -> Tensor:
        """Its latent, before it was decoded and quantised."""
        file = self.path / "runs" / key / LATENT
        try:
            return load_file(file)["latent"]
        except (SafetensorError, OSError, KeyError) as error:
            raise SamecastError(f"{str(file)!r} is damaged: {one_line(error)}") from None

    def run_facts(self, key: str) -> dict[str, Any]:
        """What made it."""
        return self._read_json(self.path / "runs" / key / RUN)

    def write_score(self, key: str, scores: Mapping[str, Any]) -> None:
        """One picture's scores."""
        write_text(self.path / "scores" / f"{key}.json", json.dumps(scores) + "\n")

    def score(self, key: str) -> dict[str, Any] | None:
        """One picture's scores, where they are known."""
        file = self.path / "scores" / f"{key}.json"
        return self._read_json(file) if file.is_file() else None

    def write_failure(self, key: str, told: Mapping[str, Any]) -> None:
        """Why a picture could not be made."""
        write_text(self.path / "failures" / f"{key}.json", json.dumps({"key": key, **told}, indent=1) + "\n")

    def clear_failure(self, key: str) -> None:
        """Forgets a failure, for the picture is there now."""
        (self.path / "failures" / f"{key}.json").unlink(missing_ok=True)

    def failures(self) -> list[dict[str, Any]]:
        """All failures, in order of their keys."""
        return [self._read_json(file) for file in sorted(self.path.glob("failures/*.json"))]

    def write_mask(self, key: str, seen: Image.Image, mask: Image.Image, told: Mapping[str, Any]) -> None:
        """Where maps showed the subject in a photo."""
        with writing_folder(self.path / "masks" / key, replaces=lambda old: True) as place:
            seen.save(place.path / "map.png")
            mask.save(place.path / "mask.png")
            (place.path / "mask.json").write_text(json.dumps(dict(told), indent=1) + "\n", encoding="utf-8")

    def masks(self) -> list[tuple[dict[str, Any], Image.Image]]:
        """All masks, with what is told of them."""
        files = sorted(self.path.glob("masks/*/mask.json"))
        return [(self._read_json(file), open_photo(file.with_name("mask.png")).convert("L")) for file in files]

    def progress(self, name: str) -> Path:
        """Where a subject's work in progress lies."""
        return self.path / "progress" / name

    def share(self, place: Path) -> None:
        """Has pictures and scores lie in a place that several studies share: keys tell whose is whose."""
        for name in ("runs", "scores"):
            (place / name).mkdir(parents=True, exist_ok=True)
            if not (self.path / name).exists():
                (self.path / name).symlink_to(os.path.relpath(place / name, self.path))

    def forget_progress(self, name: str) -> None:
        """Once a subject is finished."""
        shutil.rmtree(self.progress(name), ignore_errors=True)

    def sweep(self) -> None:
        """Removes what killed processes left half-written; only while nobody else writes."""
        kept = ("runs", "scores", "failures", "masks", "subjects", "figures")  # which hold many folders each
        sweep([self.path, *(self.path / name for name in kept), *all_below(self.path / "progress")])

    def locked(self) -> AbstractContextManager[Path]:
        """Nobody else runs this study meanwhile; the lock goes with the process, however that ends.

        Raises:
            SamecastError: somebody does.
        """
        return locked(self.path)

    def _write_subject(self, subject: StudySubject) -> None:
        place = self.path / "subjects" / subject.name
        with writing_folder(place) as pending:
            files: dict[str, list[str]] = {"references": [], "judged": []}
            for kind, photos in (("references", subject.references), ("judged", subject.judged)):
                for number, photo in enumerate(photos, start=1):
                    name = f"{kind.removesuffix('s')}-{number}.png"
                    photo.save(pending.path / name)
                    files[kind].append(name)
            told = {**_described(subject), **files}
            text = json.dumps(told, indent=1, ensure_ascii=False)
            (pending.path / "subject.json").write_text(text + "\n", encoding="utf-8")

    def _same_subjects(self, subjects: Sequence[StudySubject]) -> bool:
        names = sorted(subject.name for subject in subjects)
        return names == list(self.subject_names()) and all(
            identity_of(self.subject(subject.name)) == identity_of(subject) for subject in subjects
        )

    def _read_json(self, file: Path) -> dict[str, Any]:
        told = read_json(file, "part of a study any more: it is damaged")
        if not isinstance(told, dict):
            raise SamecastError(f"{str(file)!r} is damaged: expected an object")
        return told


@dataclass(frozen=True)
class _Subject:
    """What `subject.json` says; its pictures are named as they lie beside it."""

    prompts: tuple[str, ...]
    class_noun: str
    source_prompt: str
    case: Annotated[int, Within(0, 31)] | None
    hidden: bool
    references: tuple[str, ...]
    judged: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.references or not self.prompts:
            raise SamecastError("it has no photo, or no prompt")


def identity_of(subject: StudySubject) -> tuple[Any, ...]:
    """A subject with its photos by their pixels, so that two can be compared."""
    photos = [pixel_hash(photo) for photo in (*subject.references, *subject.judged)]
    return subject.name, photos, len(subject.references), _described(subject)


def _described(subject: StudySubject) -> dict[str, Any]:
    return {
        "prompts": list(subject.prompts),
        "class_noun": subject.class_noun,
        "source_prompt": subject.source_prompt,
        "case": subject.case,
        "hidden": subject.hidden,
    }


def shared_everywhere(path: Path) -> bool:
    """Whether this process sees the study at all: on a cluster the folder must be on storage that all share."""
    return os.access(path / STUDY, os.R_OK)
