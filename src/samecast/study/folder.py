"""A study on disk: self-describing, safe against kills, and never in doubt about what is finished.

    study.json               the recipe: all that determines the pictures but the subjects
    subjects.jsonl           a subject in each line: its name, prompts, and the hashes of its photos
    photos/ab/HASH.png       the photos as the model reads them
    runs/ab/KEY.png          one finished picture; what made it stands in its text field `samecast`
    latents/ab/KEY.safetensors   the same before it was decoded
    scores/ab/KEY.json       what each metric says of the pictures of one photo, prompt and seed
    failures/ab/KEY.json     why a picture, or all of a subject's, could not be made; tried again when the study goes on
    masks/ab/KEY.json        where maps showed the subject in a photo, with KEY.png, the mask, and KEY-map.png
    progress/ab/KEY/         a unit in progress: trajectory and live latents
    scores.parquet, scores.csv, figures/, index.html    what came out; made anew whenever the study has run

Everything is written under another name and renamed; a key is made of all that determines its content, and its first
two digits name the folder that it lies in. Subjects are read one at a time, and photos when they are needed.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file
from torch import Tensor

from samecast.checked import read_json
from samecast.disk import LOCK, absolute, check_writable, locked, replace_file, save_tensors, write_text
from samecast.errors import SamecastError
from samecast.experiments.runner import failures
from samecast.experiments.store import WRITING, Store
from samecast.metrics.base import Metric
from samecast.photos import open_photo
from samecast.study.kept_subjects import Unreadable, parse_line, to_line
from samecast.study.photos import PHOTOS, hashes_of, keep
from samecast.study.recipe import SCORING, Recipe, recipe_from_data, recipe_to_data
from samecast.study.subjects import StudySubject

STUDY, SUBJECTS, BEGUN = "study.json", "subjects.jsonl", ".being-created"
RUNS, LATENTS, SCORES, MASKS, PROGRESS = "runs", "latents", "scores", "masks", "progress"
FACTS = "samecast"
"""The text field of a picture that says what made it."""


class StudyFolder:
    """One study's folder.

    Args:
        path: where it is, or is to be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = absolute(path)
        self.store = Store(self.path)

    def create(self, recipe: Recipe, subjects: Iterable[StudySubject]) -> None:
        """Writes down what is to be run; a folder that holds this very study already is left as it is, but for the
        metrics.

        Args:
            recipe: what.
            subjects: for whom; read one at a time.

        Raises:
            SamecastError: it holds another study, or anything else; or a photo cannot be read.
        """
        new = not check_writable(self.path, "folder").exists()
        with locked(self.path):
            self._create(recipe, subjects, new=new)

    def rescore(self, recipe: Recipe) -> None:
        """Writes down other metrics for the study that is here; scores are kept by metrics' own identities.

        Args:
            recipe: the study's, but for what scores it.

        Raises:
            SamecastError: somebody works on it.
        """
        with locked(self.path):
            self._write_recipe(recipe)

    def _create(self, recipe: Recipe, subjects: Iterable[StudySubject], *, new: bool) -> None:
        if (self.path / STUDY).is_file():
            data, there = json.loads(json.dumps(recipe_to_data(recipe))), self._read_json(self.path / STUDY)
            if _pictured(there) != _pictured(data) or not self._same_subjects(subjects):
                raise SamecastError(
                    f"{str(self.path)!r} holds another study: give another folder, or --resume this one"
                )
            if there != data:
                self._write_recipe(recipe)
            return
        self._claim()
        try:
            replace_file(self.path / SUBJECTS, lambda part: self._write_subjects(part, subjects))
            # Last: a folder that has it is whole.
            self._write_recipe(recipe)
        except BaseException:
            self._unclaim()
            if new:
                shutil.rmtree(self.path, ignore_errors=True)
            raise
        shutil.rmtree(self.path / WRITING, ignore_errors=True)
        (self.path / BEGUN).unlink(missing_ok=True)

    def _write_recipe(self, recipe: Recipe) -> None:
        write_text(self.path / STUDY, json.dumps(recipe_to_data(recipe), indent=1) + "\n")

    def _claim(self) -> None:
        """Marks the folder as one in which a study is being written down.

        Raises:
            SamecastError: it holds anything but what such a study left when it was stopped.
        """
        if (self.path / BEGUN).is_file():
            self._unclaim()
        if any(entry.name != LOCK for entry in self.path.iterdir()):
            raise SamecastError(f"{str(self.path)!r} holds something else: give a folder that is new or empty")
        (self.path / BEGUN).touch()

    def _unclaim(self) -> None:
        """Removes what a creation left: photos and subjects, and nothing else."""
        shutil.rmtree(self.path / PHOTOS, ignore_errors=True)
        (self.path / SUBJECTS).unlink(missing_ok=True)
        for left in (self.path / WRITING, *self.path.glob(f".{SUBJECTS}-*"), *self.path.glob(f".{STUDY}-*")):
            shutil.rmtree(left, ignore_errors=True)
        (self.path / BEGUN).unlink(missing_ok=True)

    def _write_subjects(self, part: Path, subjects: Iterable[StudySubject]) -> None:
        with part.open("w", encoding="utf-8") as file:
            for subject in subjects:
                file.write(to_line(subject, keep(subject.references, self.store), keep(subject.judged, self.store)))

    def _same_subjects(self, subjects: Iterable[StudySubject]) -> bool:
        lines = (to_line(subject, hashes_of(subject.references), hashes_of(subject.judged)) for subject in subjects)
        try:
            with (self.path / SUBJECTS).open(encoding="utf-8") as file:
                return all(line == next(file, None) for line in lines) and next(file, None) is None
        except (OSError, UnicodeDecodeError):
            return False

    def recipe(self) -> Recipe:
        """What is run.

        Raises:
            SamecastError: the folder holds no study.
        """
        file = self.path / STUDY
        if not file.is_file():
            raise SamecastError(f"{str(self.path)!r} holds no study: it has no {STUDY}")
        return recipe_from_data(self._read_json(file), file)

    def subjects(self) -> Iterator[StudySubject | Unreadable]:
        """All subjects, in the order in which they were given; their photos are opened when they are asked for.

        Raises:
            SamecastError: there is no file of subjects.
        """
        file = self.path / SUBJECTS
        try:
            with file.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    yield parse_line(line, self.path, f"line {number} of {SUBJECTS}")
        except OSError as error:
            raise SamecastError(f"{str(file)!r} cannot be read: {error.strerror or error}") from None

    def is_finished(self, key: str) -> bool:
        """Whether a picture is there."""
        return self.store.has(RUNS, key, ".png")

    def write_run(self, key: str, picture: Image.Image, latent: Tensor, data: Mapping[str, Any]) -> None:
        """One finished picture, whole or not at all."""
        self.store.put(
            LATENTS, key, lambda part: save_tensors({"latent": latent.clone()}, part, {"key": key}), ".safetensors"
        )
        facts = PngInfo()
        facts.add_text(FACTS, json.dumps({"key": key, **data}))
        self.store.put(RUNS, key, lambda part: picture.save(part, pnginfo=facts), ".png")
        self.clear_failure(key)

    def picture_name(self, key: str) -> str:
        """The name of a finished picture within the folder."""
        return f"{RUNS}/{key[:2]}/{key}.png"

    def picture(self, key: str) -> Image.Image:
        """A finished picture.

        Raises:
            SamecastError: it cannot be read.
        """
        return open_photo(self.path / self.picture_name(key))

    def discard(self, key: str) -> None:
        """Removes a picture that cannot be read, so that it is made again."""
        self.store.remove(RUNS, key, ".png")

    def latent(self, key: str) -> Tensor:
        """Its latent, before it was decoded and quantised."""
        return load_file(self.store.file(LATENTS, key, ".safetensors"))["latent"]

    def run_facts(self, key: str) -> dict[str, Any]:
        """What made it."""
        with Image.open(self.path / self.picture_name(key)) as image:
            return json.loads(str(image.info[FACTS]))

    def scores(self, key: str, metrics: Sequence[Metric]) -> dict[str, dict[str, Any]]:
        """The known scores of pictures, by the keys of pictures and of metrics.

        Args:
            key: one photo, prompt and seed.
            metrics: damaged values of these are left out.
        """
        data = (self.store.read(SCORES, key) or {}).get("pictures")
        accepts = {metric.key: metric.accepts for metric in metrics}
        return {
            name: {of: value for of, value in scores.items() if of not in accepts or accepts[of](value)}
            for name, scores in (data.items() if isinstance(data, dict) else ())
            if isinstance(scores, dict)
        }

    def write_scores(self, key: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """All scores of one photo, prompt and seed, in place of those that were there."""
        self.store.write(SCORES, key, {"pictures": dict(scores)})

    def write_failure(self, key: str, data: Mapping[str, Any]) -> None:
        """Why a picture could not be made."""
        self.store.write("failures", key, {"unit": f"{data['subject']}, {data['variant']}", **data})

    def clear_failure(self, key: str) -> None:
        """Forgets a failure, for the picture is there now."""
        self.store.remove("failures", key)

    def failures(self) -> list[dict[str, Any]]:
        """All failures, in order of their keys: of pictures, with subject and variant, and of all of a unit."""
        return list(failures(self.store))

    def write_mask(self, key: str, seen: Image.Image, mask: Image.Image, data: Mapping[str, Any]) -> None:
        """Where maps showed the subject in a photo."""
        self.store.put(MASKS, key, seen.save, "-map.png")
        self.store.put(MASKS, key, mask.save, ".png")
        self.store.write(MASKS, key, data)

    def masks(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is told of each mask, by its key."""
        return self.store.every(MASKS)

    def mask(self, key: str) -> Image.Image:
        """One of them, white on black.

        Raises:
            SamecastError: it cannot be read.
        """
        return open_photo(self.store.file(MASKS, key, ".png")).convert("L")

    def share(self, place: Path) -> None:
        """Has pictures and scores lie in a place that several studies share: keys tell whose is whose."""
        for name in (RUNS, LATENTS, SCORES):
            (place / name).mkdir(parents=True, exist_ok=True)
            if not (self.path / name).exists():
                (self.path / name).symlink_to(os.path.relpath(place / name, self.path))

    def _read_json(self, file: Path) -> dict[str, Any]:
        data = read_json(file, "part of a study any more: it is damaged")
        if not isinstance(data, dict):
            raise SamecastError(f"{str(file)!r} is damaged: expected an object")
        return data


def _pictured(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What determines pictures in a recipe as it is written down."""
    return {name: value for name, value in recipe.items() if name not in SCORING}


def shared_everywhere(path: Path) -> bool:
    """Whether this process sees the study at all: on a cluster the folder must be on storage that all share."""
    return os.access(path / STUDY, os.R_OK)
