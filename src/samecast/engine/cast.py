"""The cast of a run: named subjects, and where prompts name them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from samecast.errors import SamecastError
from samecast.subject import Subject

NOUN = "{noun}"
CONCEPT_WORD = re.compile(r"<[\w-]+>")
"""Words of concepts, such as `<new1>`, which may be names too; prompts say them with braces or without."""
_PLACEHOLDER = re.compile(rf"(?<!\{{)\{{([^\W\d]\w*|{CONCEPT_WORD.pattern})\}}(?!\}})|({CONCEPT_WORD.pattern})")
"""A name in braces; in doubled braces it is text like any other."""


@dataclass(frozen=True)
class Member:
    """One named subject of a run.

    Args:
        name: by which prompts and rules call it.
        words: what `{name}` becomes in prompts, and what is looked for in cross-attention maps.
        caption: of its photos where they have none.
        masked_photos: whether masks of its photos are given.
        masked_pictures: whether masks of it in the pictures are given.
    """

    name: str
    words: str
    caption: str = ""
    masked_photos: bool = False
    masked_pictures: bool = False

    @property
    def is_sought(self) -> bool:
        """Whether a mode that takes masks has to look for it anywhere."""
        return not (self.masked_photos and self.masked_pictures)


def members_of(subjects: Sequence[Subject], masked: Collection[str] = ()) -> tuple[Member, ...]:
    """The members of a cast; a subject without a name is none.

    Args:
        subjects: of the run.
        masked: the names of those of whom masks in the pictures are given.
    """
    return tuple(
        Member(each.name, each.words, each.caption, bool(each.masks), each.name in masked)
        for each in subjects
        if each.name
    )


@dataclass(frozen=True)
class Naming:
    """A text with its names filled in.

    Args:
        text: for the model.
        named: for each name, the offset in characters at which its words begin.
    """

    text: str
    named: tuple[tuple[str, int], ...] = ()


def fill_in(text: str, noun: str, members: Sequence[Member] = ()) -> Naming:
    """The text with `{noun}` and the names of subjects filled in.

    Raises:
        SamecastError: it asks for a noun and there is none, or for a subject and there is none of that name.
    """
    words = {member.name: member.words for member in members}
    named: list[tuple[str, int]] = []
    parts: list[str] = []
    end = length = 0
    for found in _PLACEHOLDER.finditer(text):
        if found[2] and found[2] not in words:  # the word of a concept that is no name here
            continue
        name = found[1] or found[2]
        value = noun if found[0] == NOUN else words.get(name)
        if not value:
            raise SamecastError(_lacking(text, name, words))
        parts += [text[end : found.start()], value]
        length += len(parts[-2])
        if name in words:
            named.append((name, length))
        length, end = length + len(value), found.end()
    return Naming("".join((*parts, text[end:])), tuple(named))


def _lacking(text: str, name: str, words: dict[str, str]) -> str:
    if name != "noun":
        known = f"there are {', '.join(words)}" if words else "no subject of this run has a name"
        return f"{text[:40]!r} names {{{name}}}, and there is no subject {name}: {known}"
    if len(words) > 1:
        return f"{text[:40]!r} speaks of {NOUN}, and there are several subjects: write {{{'} or {'.join(words)}}}"
    return f"{text[:40]!r} speaks of {NOUN}, but the subject has no class_noun"
