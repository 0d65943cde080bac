"""Whom a study is about: an annotation file, a folder of subjects, or the bundled eight of the embedded world.

    [{"name": "corgi", "description": "a running corgi", "image_path": "corgi.png"}]

is the AIKU study's `annotation.json`; paths are relative to the file. `description` and `image_path` may be lists, and
`class_noun` and `source_prompt` may say more. A folder of subjects has one folder of photos for each, named after it,
and prompts, a line each, in `prompts.txt` there or beside them; `{noun}` in these is the text of the subject's
`class_noun.txt`, or its name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samecast.control.targets import expand
from samecast.diorama.benchmark import case
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.study.photos import LazyPhotos, Photos

BUNDLED = 8
_PHOTOS = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True)
class StudySubject:
    """One subject, and what is to be made of it.

    Args:
        name: of its own within the study, as it was given: the table can be joined with what it came from.
        prompts: one scene each, in full.
        references: photos that are read, when they are needed; the first gives the layout where all are read together.
        class_noun: what it is, where somebody says so.
        source_prompt: caption of the photos.
        judged: photos that pictures are compared with; the references themselves where there are no others.
        case: its number in the Diorama benchmark, where it is one of those, so that there is a truth.
        hidden: whether the references show it 30-60% hidden; `judged` shows it whole.
    """

    name: str
    prompts: tuple[str, ...]
    references: Photos
    class_noun: str = ""
    source_prompt: str = ""
    judged: Photos = ()
    case: int | None = None
    hidden: bool = False

    @property
    def subject(self) -> str:
        """Who it is: the same for its whole and its hidden photos."""
        return self.name.removesuffix("-hidden") if self.hidden else self.name


def bundled(
    size: int, *, subjects: int = BUNDLED, prompts: int = 1, photos: int = 1, hidden: bool = False
) -> tuple[StudySubject, ...]:
    """Subjects of the Diorama benchmark, which no model was trained on; the first eight stand in for the AIKU study's.

    Args:
        size: side of the photos in pixels.
        subjects: how many, of 32.
        prompts: how many scenes for each, of 20.
        photos: how many photos of each, of 4.
        hidden: add each subject once more, read from photos that hide 30-60% of it.
    """
    for name, value, most in (("subjects", subjects, 32), ("prompts", prompts, 20), ("photos", photos, 4)):
        if not 1 <= value <= most:
            raise SamecastError(f"{name} must be 1 to {most} of the bundled ones; got {value}")
    found: list[StudySubject] = []
    for number in range(subjects):
        told = case(number)
        whole = tuple(Image.fromarray(photo.image) for photo in told.photos(size))[:photos]
        scenes = tuple(task.prompt for task in told.tasks[:prompts])
        found.append(StudySubject(told.name, scenes, whole, told.noun, "", whole, number))
        if hidden:
            partly = tuple(Image.fromarray(photo.image) for photo in told.hidden_photos(size))[:photos]
            name = f"{told.name}-hidden"
            found.append(StudySubject(name, scenes, partly, told.noun, "", whole, number, hidden=True))
    return tuple(found)


def true_masks(subject: StudySubject) -> tuple[NDArray[np.bool_], ...]:
    """Where the subject is in each of its references, in the embedded world; nothing is known elsewhere."""
    if subject.case is None:
        return ()
    told, size = case(subject.case), subject.references[0].width
    drawn = told.hidden_photos(size) if subject.hidden else told.photos(size)
    return tuple(photo.mask for photo in drawn[: len(subject.references)])


def read_subjects(path: str | Path) -> tuple[StudySubject, ...]:
    """The subjects of an annotation file or of a folder, in order of their names, however they are listed.

    Raises:
        SamecastError: it cannot be read, or an entry lacks something.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise SamecastError(f"{str(path)!r} does not exist; give an annotation.json or a folder of subjects")
    found = _read_folder(place) if place.is_dir() else _read_annotation(place)
    if not found:
        raise SamecastError(f"{str(path)!r} has no subject in it")
    names = [subject.name for subject in found]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise SamecastError(f"{str(path)!r} has two subjects called {doubled[0]!r}; each needs a name of its own")
    return tuple(sorted(found, key=lambda subject: subject.name))


def _read_annotation(path: Path) -> list[StudySubject]:
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SamecastError(f"{str(path)!r} is no annotation file: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SamecastError(f"{str(path)!r} must hold a list of objects with name, description and image_path")
    return [
        _read_entry(entry, path.parent, f"entry {number} of {path.name}") for number, entry in enumerate(entries, 1)
    ]


def _read_entry(entry: Mapping[str, Any], folder: Path, where: str) -> StudySubject:
    noun, caption = (_text(entry, field, where) for field in ("class_noun", "source_prompt"))
    photos = [folder / name for name in _texts(entry, "image_path", where)]
    prompts = [expand(prompt, noun) for prompt in _texts(entry, "description", where)]
    name = _texts(entry, "name", where)[0]
    return _make(name, prompts, photos, noun, expand(caption, noun))


def _text(entry: Mapping[str, Any], field: str, where: str) -> str:
    told = entry.get(field)
    if not isinstance(told, str | None):
        raise SamecastError(f"{where} has {field!r} that is no text: {told!r:.60}")
    return told or ""


def _texts(entry: Mapping[str, Any], field: str, where: str) -> list[str]:
    told: Any = entry.get(field)
    texts: list[Any] = told if isinstance(told, list) else [told]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise SamecastError(f"{where} needs {field!r}, a text or a list of texts; got {told!r:.60}")
    return [str(text) for text in texts]


def _read_folder(folder: Path) -> list[StudySubject]:
    found: list[StudySubject] = []
    for place in sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")):
        photos = sorted(file for file in place.iterdir() if file.suffix.lower() in _PHOTOS)
        if not photos:
            raise SamecastError(f"{str(place)!r} has no photo in it")
        noun_file = place / "class_noun.txt"
        noun = _read(noun_file).strip() if noun_file.is_file() else place.name.replace("_", " ")
        texts = next((file for file in (place / "prompts.txt", folder / "prompts.txt") if file.is_file()), None)
        lines = [] if texts is None else [line.strip() for line in _read(texts).splitlines()]
        prompts = [expand(line, noun) for line in lines if line]
        if not prompts:
            raise SamecastError(f"{str(place)!r} has no prompts: write a line each into prompts.txt there or beside it")
        found.append(_make(place.name, prompts, photos, noun, ""))
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise SamecastError(f"{str(file)!r} cannot be read as UTF-8 text: {error}") from None


def _make(name: str, prompts: Sequence[str], photos: Sequence[Path], noun: str, caption: str) -> StudySubject:
    ordered = tuple(dict.fromkeys(prompts))
    for photo in photos:
        if not photo.exists():
            raise SamecastError(f"{str(photo)!r} does not exist")
    return StudySubject(name, ordered, LazyPhotos([partial(open_photo, photo) for photo in photos]), noun, caption)
