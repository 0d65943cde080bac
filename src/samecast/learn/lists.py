"""Training subjects with their photos and captions, from a folder or from other tools' lists.

`concepts_list.json` (Custom Diffusion, diffusers) is a list of `instance_prompt`, `class_prompt`, `instance_data_dir`
and `class_data_dir`; CustomConcept101's `dataset.json` adds `prompt_filename`, and its `dataset_multiconcept.json` is a
list of such lists. As in Custom Diffusion, `class_data_dir` may also be a text file with one image path per line, and
`class_prompt` a text file of their captions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samecast.checked import build, check_fields, check_text, read_json, read_lines
from samecast.disk import expanded, is_file, is_folder
from samecast.errors import SamecastError
from samecast.photos import beside_list, listed_path, photos_in

ABOUT = "subject.json"
_RETRIEVED = "images.txt"
"""A file next to the photos with the subject's class: {"class_noun": "dog"}."""

_PHOTO_OF = re.compile(
    r"^(?:(?:an?|the|my)\s+)?(?:[\w-]+\s+)?(?:photo|photograph|picture|image|rendering|painting|drawing|shot)s?\s+of\s+"
    r"(?:(?:an?|the|my|one)\s+)?|^(?:an?|the)\s+",
    re.IGNORECASE,
)
"""The words before the class in a caption, such as "a close-up photo of the"."""
_TOKEN = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class ToLearn:
    """A subject to train.

    Args:
        token: its modifier token, such as `<new1>`.
        noun: its class, in words; empty where unknown.
        photos: paths of its photos.
        caption: caption of its photos; contains the token.
        class_caption: prompt for generated class images.
        class_photos: class images, each with a caption; empty to generate them.
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
        folder: the folder of its photos.
        noun: its class; empty takes it from the folder's `subject.json`.
        token: its modifier token.
        class_folder: folder of class images; None generates them.

    Raises:
        SamecastError: the folder has no photos, or the class is unknown.
    """
    photos = photos_in(folder)
    noun = check_text(noun, "the noun").strip() or _noun_beside(expanded(folder))
    if not _TOKEN.fullmatch(check_text(token, "the token")):
        raise SamecastError(f"a modifier token is a word in angle brackets, such as <new1>; got {token!r}")
    class_caption = f"a photo of {'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}"
    class_photos = () if class_folder is None else tuple((path, class_caption) for path in photos_in(class_folder))
    return ToLearn(token, noun, photos, f"a photo of a {token} {noun}", class_caption, class_photos)


@dataclass(frozen=True)
class _Entry:
    """The fields of a list entry that are read."""

    instance_data_dir: str = ""
    instance_prompt: str = ""
    class_prompt: str = ""
    class_data_dir: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("instance_data_dir", "instance_prompt", "class_prompt", "class_data_dir"):
            object.__setattr__(self, name, getattr(self, name).strip())
        if not self.instance_data_dir:
            raise SamecastError("it has no instance_data_dir, the folder of the photos")


def from_list(file: str | Path, number: int | None = None) -> tuple[ToLearn, ...]:
    """The subjects of a list, to be trained together.

    Args:
        file: `concepts_list.json`, `dataset.json` or `dataset_multiconcept.json`. Relative paths start at the list's
            folder, or else at the working folder.
        number: entry to use, from 1: one subject of a list of subjects, or one group of a list of groups. None is all
            of a list of subjects.

    Raises:
        SamecastError: the file is not such a list, or names missing photos.
    """
    path = expanded(file)
    entries = read_json(path, "list of subjects")
    if not isinstance(entries, list) or not entries:
        raise SamecastError(f"{str(file)!r} is not a list of subjects; expected a JSON list with at least one entry")
    grouped = isinstance(entries[0], list)
    if number is None and grouped:
        raise SamecastError(f"{str(file)!r} holds {len(entries)} groups of subjects: choose one, from 1")
    if number is not None and not 1 <= number <= len(entries):
        raise SamecastError(f"{str(file)!r} has entries 1 to {len(entries)}; got {number}")
    if grouped and number is not None:
        where, entries = f" in group {number}", entries[number - 1]
        if not isinstance(entries, list):
            raise SamecastError(
                f"entry {number} of {str(file)!r} is not a group of subjects; expected one, like the first entry"
            )
    else:
        where = ""
    data = list(enumerate(entries, start=1))
    if number is not None and not grouped:
        data = [data[number - 1]]
    described = {
        f"entry {at}{where} of {str(file)!r}": build(_Entry, entry, f"entry {at}{where} of {str(file)!r}", spare=True)
        for at, entry in data
        if not (isinstance(entry, dict) and "prompt_filename_compose" in entry)
    }
    if not described:
        raise SamecastError(f"{str(file)!r} has no subject{where}; expected objects with instance_data_dir")
    tokens = _tokens(list(described.values()))
    return tuple(
        _read_entry(path, at, entry, token) for (at, entry), token in zip(described.items(), tokens, strict=True)
    )


def check_tokens(subjects: Sequence[ToLearn]) -> None:
    """Refuses subjects with the same token.

    Raises:
        SamecastError: `subjects` is empty, or two have the same token.
    """
    if not subjects:
        raise SamecastError("no subject is given: give photos or a list")
    tokens = [subject.token.lower() for subject in subjects]  # CLIP's tokenizer ignores case
    for subject, token in zip(subjects, tokens, strict=True):
        if tokens.count(token) > 1:
            raise SamecastError(f"two subjects have the token {subject.token} (case is ignored): give each its own")


@dataclass(frozen=True)
class _About:
    """The contents of `subject.json`."""

    class_noun: str

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.class_noun.strip():
            raise SamecastError("class_noun is empty; expected a word, such as dog")


def _noun_beside(folder: Path) -> str:
    """The class noun in `subject.json`."""
    about = folder / ABOUT
    if not is_file(about):
        raise SamecastError(
            f"the class of the photos in {str(folder)!r} is unknown: give it in a word, such as --noun dog"
        )
    data = read_json(about, "description of a subject")
    return build(_About, data, repr(str(about)), spare=True).class_noun.strip()


def _tokens(entries: Sequence[_Entry]) -> list[str]:
    """The token of each entry: from its caption, else the next free one of <new1>, <new2>, ..."""
    found = [_TOKEN.findall(entry.instance_prompt) for entry in entries]
    taken = {token.lower() for tokens in found for token in tokens}
    free = (f"<new{number}>" for number in range(1, len(entries) + len(taken) + 1) if f"<new{number}>" not in taken)
    return [tokens[0] if tokens else next(free) for tokens in found]


def _read_entry(file: Path, where: str, entry: _Entry, token: str) -> ToLearn:
    captions = _class_captions(file, where, entry.class_prompt)
    noun = _noun(entry, token) if len(captions) == 1 else ""
    caption = entry.instance_prompt or f"photo of a {noun}".strip()
    if token not in caption:
        found = re.search(rf"(?<!\w){re.escape(noun)}(?!\w)", caption, re.IGNORECASE) if noun else None
        if found is None:
            raise SamecastError(f"{where} has the caption {caption!r}, which contains no token such as {token}")
        caption = f"{caption[: found.start()]}{token} {caption[found.start() :]}"
    photos = photos_in(listed_path(file, where, "instance_data_dir", entry.instance_data_dir))
    class_photos = _class_photos(file, where, entry.class_data_dir, captions)
    return ToLearn(token, noun, photos, caption, captions[0], class_photos)


def _noun(entry: _Entry, token: str) -> str:
    """The noun: the class caption without "a photo of a", as far as it also follows the token in the caption."""
    noun = _PHOTO_OF.sub("", entry.class_prompt).strip()
    after = entry.instance_prompt.partition(token)[2].strip()
    return after if after and re.match(rf"{re.escape(after)}\b", noun) else noun


def _class_captions(file: Path, where: str, prompt: str) -> Sequence[str]:
    """The caption itself, or the lines of the file that it names."""
    if not prompt.endswith(".txt"):
        return [prompt]
    return read_lines(listed_path(file, where, "class_prompt", prompt)) or [""]


def _class_photos(file: Path, where: str, given: str, captions: Sequence[str]) -> tuple[tuple[Path, str], ...]:
    """The existing class images; for a missing folder there are none, and they are generated."""
    place = beside_list(file, where, "class_data_dir", given)[0] if given else None
    if place is not None and is_file(place):
        photos: Sequence[Path] = [
            listed_path(place, f"line {number} of {str(place)!r}", "image", line)
            for number, line in enumerate(read_lines(place), start=1)
        ]
    elif place is not None and is_file(place / _RETRIEVED):
        photos, captions = _retrieved(place, captions)
    elif place is not None and is_folder(place):
        photos = photos_in(place, needed=False)
    else:
        return ()
    if photos and len(captions) not in (1, len(photos)):
        raise SamecastError(f"{where}: {str(place)!r} has {len(photos)} images for {len(captions)} captions")
    spread = list(captions) * len(photos) if len(captions) == 1 else captions
    return tuple(zip(photos, spread, strict=True))


def _retrieved(folder: Path, captions: Sequence[str]) -> tuple[Sequence[Path], Sequence[str]]:
    """Real class images in the layout of Custom Diffusion's `retrieve.py`: lists of paths and of captions."""
    listed = folder / _RETRIEVED
    photos = [
        beside
        if is_file(beside := folder / "images" / Path(line).name)
        else listed_path(listed, f"line {number} of {str(listed)!r}", "image", line)
        for number, line in enumerate(read_lines(listed), start=1)
    ]
    data = folder / "caption.txt"
    return photos, read_lines(data) if is_file(data) else captions
