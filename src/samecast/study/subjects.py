"""The subjects of a study: an annotation file, a folder of subjects, or the bundled ones of the embedded world.

    [{"name": "corgi", "description": "a running corgi", "image_path": "corgi.png"}]

is the AIKU study's `annotation.json`; paths are relative to the file. `description` and `image_path` may be lists;
`class_noun` and `source_prompt` are optional. A folder of subjects has one folder of photos for each subject, with its
name, and prompts, one per line, in `prompts.txt` in that folder or beside it; `{noun}` in these is the text of the
subject's `class_noun.txt`, or its name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samecast.checked import build, check_fields, check_text, read_json, read_lines, read_text, shown
from samecast.diorama.benchmark import case, find_case
from samecast.disk import expanded, is_file, is_folder
from samecast.engine.targets import expand
from samecast.errors import SamecastError
from samecast.photos import Fit, fit_photo, listed_path, open_photo, photos_in
from samecast.study.photos import LazyPhotos, Photos

BUNDLED = 8


@dataclass(frozen=True)
class StudySubject:
    """One subject with its prompts and photos.

    Args:
        name: its name as given, unique within the study, so that the table can be joined with other data.
        prompts: one scene each, in full.
        references: photos that are read; the first gives the layout if all are read together.
        class_noun: its class; empty if unknown.
        source_prompt: caption of the photos.
        judged: photos that pictures are compared with; by default the references.
        case: its number in the Diorama benchmark, or `demo`, if it is one of those, whose truth is known.
        hidden: whether the references show it 30-60% hidden; `judged` shows it whole.
    """

    name: str
    prompts: tuple[str, ...]
    references: Photos
    class_noun: str = ""
    source_prompt: str = ""
    judged: Photos = ()
    case: int | Literal["demo"] | None = None
    hidden: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def subject(self) -> str:
        """Its identity, the same for its whole and its hidden photos."""
        return self.name.removesuffix("-hidden") if self.hidden else self.name


def bundled(
    size: int, *, subjects: int = BUNDLED, prompts: int = 1, photos: int = 1, hidden: bool = False
) -> tuple[StudySubject, ...]:
    """Subjects of the Diorama benchmark, which no model was trained on; the first eight replace the AIKU study's.

    Args:
        size: side of the photos in pixels.
        subjects: number of subjects, up to 32.
        prompts: number of scenes for each, up to 20.
        photos: number of photos of each, up to 4.
        hidden: add a copy of each subject, read from photos that hide 30-60% of it.
    """
    for name, value, most in (("subjects", subjects, 32), ("prompts", prompts, 20), ("photos", photos, 4)):
        if not 1 <= value <= most:
            raise SamecastError(f"{name} must be from 1 to {most} for the bundled subjects; got {value}")
    found: list[StudySubject] = []
    for number in range(subjects):
        data = case(number)
        whole = tuple(Image.fromarray(photo.image) for photo in data.photos(size))[:photos]
        scenes = tuple(task.prompt for task in data.tasks[:prompts])
        found.append(StudySubject(data.name, scenes, whole, data.noun, "", whole, number))
        if hidden:
            partly = tuple(Image.fromarray(photo.image) for photo in data.hidden_photos(size))[:photos]
            name = f"{data.name}-hidden"
            found.append(StudySubject(name, scenes, partly, data.noun, "", whole, number, hidden=True))
    return tuple(found)


def true_masks(subject: StudySubject, fit: Fit) -> tuple[NDArray[np.bool_], ...]:
    """The true mask of the subject in each of its references, in the embedded world; empty for other subjects.

    Args:
        subject: the subject with fitted photos, which were drawn as squares.
        fit: how the photos were fitted.
    """
    if subject.case is None:
        return ()
    data, (width, height) = find_case(subject.case), subject.references[0].size
    side = max(width, height)
    drawn = data.hidden_photos(side) if subject.hidden else data.photos(side)
    masks = [Image.fromarray(~photo.mask) for photo in drawn[: len(subject.references)]]  # padding is white
    return tuple(np.asarray(fit_photo(mask, height=height, width=width, fit=fit))[..., 0] < 128 for mask in masks)


def read_subjects(path: str | Path) -> tuple[StudySubject, ...]:
    """The subjects of an annotation file or a folder, sorted by name.

    Raises:
        SamecastError: a file cannot be read, or an entry is incomplete.
    """
    place = expanded(path)
    if not is_folder(place) and not is_file(place):
        raise SamecastError(f"{str(path)!r} does not exist; give an annotation.json or a folder of subjects")
    found = _read_folder(place) if is_folder(place) else _read_annotation(place)
    if not found:
        raise SamecastError(f"{str(path)!r} contains no subject")
    names = [subject.name for subject in found]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        which = " and ".join(str(number) for number, name in enumerate(names, start=1) if name == doubled)
        raise SamecastError(f"entries {which} of {str(path)!r} are both called {doubled!r}: give each its own name")
    return tuple(sorted(found, key=lambda subject: subject.name))


@dataclass(frozen=True)
class _Entry:
    """One entry of an annotation file."""

    name: str
    description: str | tuple[str, ...]
    image_path: str | tuple[str, ...]
    class_noun: str | None = None
    source_prompt: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("name", "description", "image_path"):
            texts = _several(getattr(self, name))
            if not texts or not all(text.strip() for text in texts):
                raise SamecastError(f"{name} must not be empty; got {shown(getattr(self, name))}")


def _several(texts: str | tuple[str, ...]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else texts


def _read_annotation(path: Path) -> list[StudySubject]:
    entries = read_json(path, "annotation file")
    if not isinstance(entries, list):
        raise SamecastError(f"{str(path)!r} must hold a list of objects with name, description and image_path")
    return [
        _subject(build(_Entry, entry, where, spare=True), path, where)
        for entry, where in ((entry, f"entry {number} of {str(path)!r}") for number, entry in enumerate(entries, 1))
    ]


def _subject(entry: _Entry, file: Path, where: str) -> StudySubject:
    noun, caption = entry.class_noun or "", entry.source_prompt or ""
    photos = [listed_path(file, where, "image_path", name) for name in _several(entry.image_path)]
    try:
        prompts = [expand(prompt, noun) for prompt in _several(entry.description)]
        return _make(entry.name, prompts, photos, noun, expand(caption, noun))
    except SamecastError as error:
        raise SamecastError(f"{where}: {error}") from None


def _read_folder(folder: Path) -> list[StudySubject]:
    found: list[StudySubject] = []
    for place in _folders(folder):
        photos = photos_in(place)
        noun_file = place / "class_noun.txt"
        noun = read_text(noun_file).strip() if is_file(noun_file) else place.name.replace("_", " ")
        texts = next((file for file in (place / "prompts.txt", folder / "prompts.txt") if is_file(file)), None)
        prompts = [expand(line, check_text(noun, "the noun")) for line in (() if texts is None else read_lines(texts))]
        if not prompts:
            raise SamecastError(
                f"{str(place)!r} has no prompts: write them into prompts.txt there or beside it, one per line"
            )
        found.append(_make(place.name, prompts, photos, noun, ""))
    return found


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise SamecastError(f"cannot read {str(folder)!r}: {error.strerror or error}") from None


def _make(name: str, prompts: Sequence[str], photos: Sequence[Path], noun: str, caption: str) -> StudySubject:
    ordered = tuple(dict.fromkeys(prompts))
    return StudySubject(name, ordered, LazyPhotos([partial(open_photo, photo) for photo in photos]), noun, caption)
