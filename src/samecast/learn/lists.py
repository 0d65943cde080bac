"""What is to be learnt: subjects with their photos and captions, from a folder or from the lists others use.

`concepts_list.json` (Custom Diffusion, diffusers) is a list of `instance_prompt`, `class_prompt`, `instance_data_dir`
and `class_data_dir`; CustomConcept101's `dataset.json` adds `prompt_filename`, and its `dataset_multiconcept.json` is a
list of such lists. As in Custom Diffusion, `class_data_dir` may also be a text file that names one picture a line, and
`class_prompt` one that holds their captions.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.disk import is_folder
from samecast.errors import SamecastError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".gif", ".bmp"}
ABOUT = "subject.json"
_RETRIEVED = "images.txt"
"""A file beside photos that says what they show: {"class_noun": "dog"}."""

_TOKEN = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class ToLearn:
    """One subject to learn.

    Args:
        token: the modifier token that will stand for it, such as `<new1>`.
        noun: its class, in words; empty where nobody says so.
        photos: of it.
        caption: of its photos; contains the token.
        class_caption: of class pictures that are generated.
        class_photos: class pictures with a caption each; empty where they are to be generated.
    """

    token: str
    noun: str
    photos: tuple[Path, ...]
    caption: str
    class_caption: str
    class_photos: tuple[tuple[Path, str], ...] = ()


def from_folder(
    folder: str | Path, noun: str = "", *, token: str = "<new1>", class_folder: str | Path | None = None
) -> ToLearn:
    """A subject from a folder of photos.

    Args:
        folder: its photos.
        noun: its class; without one, what the folder's `subject.json` says.
        token: the modifier token to use.
        class_folder: pictures of the class; without one they are generated.

    Raises:
        SamecastError: the folder has no photos, or nobody says what they show.
    """
    photos = find_photos(folder)
    noun = noun.strip() or _noun_beside(Path(folder).expanduser())
    if not _TOKEN.fullmatch(token):
        raise SamecastError(f"a modifier token is a word in angle brackets, such as <new1>; got {token!r}")
    class_caption = f"a photo of {'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}"
    class_photos = () if class_folder is None else tuple((path, class_caption) for path in find_photos(class_folder))
    return ToLearn(token, noun, photos, f"a photo of a {token} {noun}", class_caption, class_photos)


def from_list(file: str | Path, number: int | None = None) -> tuple[ToLearn, ...]:
    """The subjects of a list, to be learnt together.

    Args:
        file: `concepts_list.json`, `dataset.json` or `dataset_multiconcept.json`. Paths in it are taken from where it
            lies, or from the working folder.
        number: which entry to learn, from 1: one subject of a list of subjects, one group of a list of groups. None
            learns all of a list of subjects.

    Raises:
        SamecastError: it is no such list, or names photos that are not there.
    """
    path = Path(file).expanduser()
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SamecastError(f"{str(file)!r} is no list of subjects: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list) or not entries:
        raise SamecastError(f"{str(file)!r} is no list of subjects: expected a JSON list with at least one entry")
    grouped = isinstance(entries[0], list)
    if number is None and grouped:
        raise SamecastError(f"{str(file)!r} holds {len(entries)} groups of subjects: say which one, from 1")
    if number is not None:
        if not 1 <= number <= len(entries):
            raise SamecastError(f"{str(file)!r} has entries 1 to {len(entries)}; got {number}")
        entries = entries[number - 1] if grouped else [entries[number - 1]]
        if not isinstance(entries, list):
            raise SamecastError(f"entry {number} of {str(file)!r} is no group of subjects, as the first is")
    described = [entry for entry in entries if not (isinstance(entry, dict) and "prompt_filename_compose" in entry)]
    if not described:
        raise SamecastError(f"{str(file)!r} names no subject there: expected objects with instance_data_dir")
    taken = _tokens(described)
    return tuple(
        _read_entry(path, at, entry, token) for at, (entry, token) in enumerate(zip(described, taken, strict=True), 1)
    )


def find_photos(folder: str | Path) -> tuple[Path, ...]:
    """The photos in a folder, by name.

    Raises:
        SamecastError: there is no such folder, or no photo in it.
    """
    place = Path(folder).expanduser()
    if not is_folder(place):
        raise SamecastError(f"{str(folder)!r} is not a folder; expected one with photos of the subject")
    photos = tuple(sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()))
    if not photos:
        raise SamecastError(f"{str(folder)!r} has no photos in it (PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP)")
    return photos


def check_tokens(subjects: Sequence[ToLearn]) -> None:
    """Refuses subjects that could not be told apart.

    Raises:
        SamecastError: there is none, or two have the same token.
    """
    if not subjects:
        raise SamecastError("there is nothing to learn: give photos or a list")
    tokens = [subject.token.lower() for subject in subjects]  # CLIP's tokenizer knows no capitals
    for subject, token in zip(subjects, tokens, strict=True):
        if tokens.count(token) > 1:
            raise SamecastError(f"two subjects have the token {subject.token}, capitals apart: each needs its own")


def _noun_beside(folder: Path) -> str:
    """What `subject.json` calls the subject."""
    about = folder / ABOUT
    if not about.is_file():
        raise SamecastError(f"say what the photos in {str(folder)!r} show, in a word: --noun dog")
    try:
        noun = json.loads(about.read_text(encoding="utf-8"))["class_noun"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SamecastError(f"{str(about)!r} should hold a class_noun: {error!r}") from None
    if not isinstance(noun, str) or not noun.strip():
        raise SamecastError(f"{str(about)!r} should hold a class_noun, a word; got {noun!r}")
    return noun.strip()


def _tokens(entries: Sequence[Any]) -> list[str]:
    """The token of each entry: the one in its caption, else the next of <new1>, <new2>, ... that is free."""
    found = [
        _TOKEN.findall(str(entry.get("instance_prompt", ""))) if isinstance(entry, dict) else [] for entry in entries
    ]
    taken = {token.lower() for tokens in found for token in tokens}
    free = (f"<new{number}>" for number in range(1, len(entries) + len(taken) + 1) if f"<new{number}>" not in taken)
    return [tokens[0] if tokens else next(free) for tokens in found]


def _read_entry(file: Path, at: int, entry: Any, token: str) -> ToLearn:
    where = f"entry {at} of {str(file)!r}"
    if not isinstance(entry, dict):
        raise SamecastError(
            f"{where} should be an object with instance_data_dir and instance_prompt; got {entry!r:.60}"
        )
    values: dict[str, str] = {}
    for key in ("instance_data_dir", "instance_prompt", "class_prompt", "class_data_dir"):
        value = entry.get(key, "")
        if not isinstance(value, str):
            raise SamecastError(f"{where} has a {key} that is no text: {value!r:.60}")
        values[key] = value.strip()
    if not values["instance_data_dir"]:
        raise SamecastError(f"{where} has no instance_data_dir")
    captions = _class_captions(file, values["class_prompt"])
    noun = values["class_prompt"] if len(captions) == 1 else ""
    caption = values["instance_prompt"] or f"photo of a {noun}".strip()
    if token not in caption:
        said = re.search(rf"(?<!\w){re.escape(noun)}(?!\w)", caption, re.IGNORECASE) if noun else None
        if said is None:
            raise SamecastError(f"{where} has the caption {caption!r} with no token such as {token} in it")
        caption = f"{caption[: said.start()]}{token} {caption[said.start() :]}"
    photos = find_photos(_from(file, values["instance_data_dir"]))
    class_photos = _class_photos(file, values["class_data_dir"], captions)
    return ToLearn(token, noun, photos, caption, captions[0], class_photos)


def _class_captions(file: Path, prompt: str) -> list[str]:
    """The one caption, or the lines of the file that it names."""
    place = _from(file, prompt) if prompt.endswith(".txt") else None
    if place is None:
        return [prompt]
    return _lines(place) or [""]


def _class_photos(file: Path, given: str, captions: Sequence[str]) -> tuple[tuple[Path, str], ...]:
    """The class pictures there are. A folder that is not there (yet) has none: they are generated."""
    place = _from(file, given) if given else None
    if place is not None and place.is_file():
        photos: Sequence[Path] = [_from(place, line) for line in _lines(place)]
    elif place is not None and (place / _RETRIEVED).is_file():
        photos, captions = _retrieved(place, captions)
    elif place is not None and place.is_dir() and any(path.suffix.lower() in SUFFIXES for path in place.iterdir()):
        photos = find_photos(place)
    else:
        return ()
    missing = next((photo for photo in photos if not photo.is_file()), None)
    if missing is not None:
        raise SamecastError(f"{str(place)!r} names the class picture {str(missing)!r:.200}, which is not there")
    if len(captions) not in (1, len(photos)):
        raise SamecastError(f"{str(place)!r} has {len(photos)} pictures for {len(captions)} captions")
    spread = list(captions) * len(photos) if len(captions) == 1 else captions
    return tuple(zip(photos, spread, strict=True))


def _retrieved(folder: Path, captions: Sequence[str]) -> tuple[Sequence[Path], Sequence[str]]:
    """Real class pictures as Custom Diffusion's `retrieve.py` leaves them: lists of paths and of captions."""
    photos = [
        beside if (beside := folder / "images" / Path(line).name).is_file() else _from(folder / _RETRIEVED, line)
        for line in _lines(folder / _RETRIEVED)
    ]
    told = folder / "caption.txt"
    return photos, _lines(told) if told.is_file() else captions


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise SamecastError(f"{str(file)!r} cannot be read: {' '.join(str(error).split())}") from None


def _from(file: Path, name: str) -> Path:
    """A path in a list: from where the list lies, else from the working folder."""
    try:
        beside = file.parent / Path(name).expanduser()
        return beside if beside.exists() else Path(name).expanduser()
    except (OSError, ValueError, RuntimeError) as error:
        raise SamecastError(f"{name!r:.80} in {str(file)!r} is no path: {' '.join(str(error).split()):.80}") from None
