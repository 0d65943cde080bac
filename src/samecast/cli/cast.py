"""`--subject NAME=PHOTO[,PHOTO...][:NOUN]`, and masks by a subject's name: words to subjects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import samecast as sc
from samecast.errors import SamecastError
from samecast.photos import photos_in
from samecast.subject import check_name, several_subjects

SYNTAX = "NAME=PHOTO:NOUN, such as rex=rex.png:dog"


def read_subjects(given: Sequence[str], masks: Sequence[Path]) -> tuple[sc.Subject, ...]:
    """Subjects from options.

    Args:
        given: of `--subject`, each `NAME=PHOTO[,PHOTO...][:NOUN]`; a folder stands for the photos in it. Names of files
            may hold colons, commas and equals signs.
        masks: of `--mask`, each `NAME=FILE`; one for each photo of its subject.

    Raises:
        SamecastError: one is written otherwise, has no file, or could be read in two ways; or names do not go together.
    """
    parts = [_parts(text) for text in given]
    by_name = named_masks(masks, "--mask", [name for name, _, _ in parts])
    subjects = (sc.Subject(photos, noun, by_name.get(name, ()), name=name) for name, photos, noun in parts)
    return several_subjects(tuple(subjects))


def named_masks(given: Sequence[Path], flag: str, names: Sequence[str]) -> Mapping[str, tuple[Path, ...]]:
    """Masks by the name of their subject, each given as `NAME=FILE`.

    Raises:
        SamecastError: one has no name, or one that no subject has.
    """
    found: dict[str, list[Path]] = {}
    for mask in given:
        name, equals, file = str(mask).partition("=")
        if not equals or not file:
            raise SamecastError(f"{flag} with --subject is NAME=FILE, such as rex=mask.png; got {str(mask)!r}")
        if name not in names:
            raise SamecastError(f"{flag} names {name!r}, and no --subject is called that: there are {', '.join(names)}")
        found.setdefault(name, []).append(Path(file))
    return {name: tuple(files) for name, files in found.items()}


def _parts(text: str) -> tuple[str, tuple[str, ...], str]:
    """Name, photos and noun."""
    name, equals, rest = text.partition("=")
    if not equals or not rest or not name:
        raise SamecastError(f"--subject is {SYNTAX}; got {text!r}")
    check_name(name)
    # A colon may be part of a file's name: what is before the noun's must be there.
    ends = [len(rest), *(at for at in reversed(range(len(rest))) if rest[at] == ":")]
    readings = [(photos, rest[end + 1 :].strip()) for end in ends if (photos := _files(rest[:end]))]
    if len(readings) > 1:
        one, two = (f"{','.join(photos)} with noun {noun!r}" for photos, noun in readings[:2])
        raise SamecastError(f"--subject {text!r} may be {one} or {two}, and both are there: rename a file")
    if not readings:
        file = rest.rpartition(":")[0] or rest
        raise SamecastError(f"--subject {text!r}: there is no file {file!r}; expected {SYNTAX}")
    photos, noun = readings[0]
    if rest.endswith(":"):
        raise SamecastError(f"--subject {text!r} has an empty noun; expected {SYNTAX}")
    return name, photos, noun


def _files(text: str) -> tuple[str, ...]:
    """Files joined by commas, which may be in their names too, or the photos of a folder; none where one is missing."""
    if _exists(text):
        return tuple(map(str, photos_in(text))) if Path(text).expanduser().is_dir() else (text,)
    for at, letter in enumerate(text):
        if letter == "," and _exists(text[:at]) and (rest := _files(text[at + 1 :])):
            return (*_files(text[:at]), *rest)
    return ()


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
