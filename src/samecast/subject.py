"""Subjects, given by reference photos."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image

from samecast.checked import as_text, check_text, shown
from samecast.errors import SamecastError
from samecast.notebook import figures_html

RESERVED = ("source", "self", "targets", "noun")
"""Words that mean something else in rules and prompts."""
_CONCEPT_WORD = re.compile(r"<[\w-]+>")


def check_name(name: object) -> str:
    """Returns the name of a subject; empty is none.

    Raises:
        SamecastError: it is neither an identifier nor a concept's word, or has a meaning of its own.
    """
    if check_text(name, "a subject's name") in RESERVED:
        raise SamecastError(f"a subject cannot be called {name!r}, which means something else in prompts and rules")
    if name and not str(name).isidentifier() and not _CONCEPT_WORD.fullmatch(str(name)):
        raise SamecastError(
            f"a subject's name must be letters, digits and underscores, and begin with no digit, or a concept's word"
            f" such as <new1>; got {shown(name)}"
        )
    return str(name)


def several_subjects(given: object) -> tuple["Subject", ...]:
    """One subject, several or none, as several; several have names of their own.

    Raises:
        SamecastError: something else was given, or a name is missing or there twice.
    """
    subjects: tuple[Any, ...] = (given,) if isinstance(given, Subject) else () if given is None else _members(given)
    for number, subject in enumerate(subjects, start=1):
        if not isinstance(subject, Subject):
            raise SamecastError(f"subjects must be Subject objects; got {shown(subject)}")
        if len(subjects) > 1 and not subject.name:
            raise SamecastError(f"subject {number} of {len(subjects)} has no name: give each one, such as name='rex'")
    names = [subject.name for subject in subjects]
    for name in names:
        if names.count(name) > 1:
            raise SamecastError(f"two subjects are called {name}: give each a name of its own")
    return subjects


def _members(given: object) -> tuple[Any, ...]:
    try:
        return tuple(cast(Iterable[Any], given))
    except TypeError:
        raise SamecastError(f"expected a Subject, several or None; got {shown(given)}") from None


def _is_array(mask: object) -> bool:
    return hasattr(mask, "__array__") and not isinstance(mask, Image.Image)


@dataclass(frozen=True, repr=False)
class Subject:
    """A subject.

    Args:
        references: photos of the subject, as paths or PIL images; any format and size.
        class_noun: its class, in a word ("dog"); replaces `{noun}` in prompts.
        masks: one mask per photo, white on black, with the photo's proportions, as paths, PIL images, or arrays
             (height, width) of 0 to 1; for methods with given masks. Empty for none.
        name: of one subject of several: an identifier, which prompts write in braces ("a {rex} on the beach") and rules
             as a source; or the word of a concept (`<new1>`). Prompts then say the class noun in its place, or the name
             itself where there is no noun, or where it is the word of a concept.

    Raises:
        SamecastError: no reference is given, one is not an image, the number of masks differs, the noun is not text, or
            the name is neither an identifier nor a concept's word, or has a meaning of its own.
    """

    references: tuple[str | Path | Image.Image, ...]
    class_noun: str = ""
    masks: tuple[Any, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        # tuple() would split a single path into characters; a list would not be frozen.
        for name in ("references", "masks"):
            given: Any = getattr(self, name)
            one = isinstance(given, (str, Path, Image.Image)) or getattr(given, "ndim", 0) == 2
            try:
                several = (given,) if one else tuple(cast(Iterable[Any], given))
            except TypeError:
                raise SamecastError(f"{name} must be images, as paths or PIL images; got {shown(given)}") from None
            object.__setattr__(self, name, several)
        if any(_is_array(mask) for mask in self.masks):
            from samecast.photos import mask_from_array

            masks = (mask_from_array(mask, "a reference") if _is_array(mask) else mask for mask in self.masks)
            object.__setattr__(self, "masks", tuple(masks))
        references: tuple[Any, ...] = self.references
        for photo in references:
            if not isinstance(photo, (str, Path, Image.Image)):
                raise SamecastError(f"references must be paths or PIL images; got {shown(photo)}")
        check_text(self.class_noun, "class_noun")
        check_name(self.name)
        if not self.references:
            raise SamecastError("a subject needs at least one reference photo; got none")
        if self.masks and len(self.masks) != len(self.references):
            raise SamecastError(f"{len(self.references)} references need one mask each; got {len(self.masks)} masks")

    @property
    def words(self) -> str:
        """What prompts say of it in place of its name, and what is looked for in cross-attention maps."""
        return self.name if self.name.startswith("<") else self.class_noun or self.name

    @property
    def caption(self) -> str:
        """What is said of its photos where they have no caption."""
        noun = f" {self.class_noun}" if self.class_noun and self.words != self.class_noun else ""
        return f"a photo of a {self.words}{noun}"

    def __repr__(self) -> str:
        count = len(self.references)
        known = (self.name, self.words) if self.name else (self.class_noun,)
        noun = "".join(f"{word!r}, " for word in known if word)
        return f"Subject({noun}{count} reference{'s' * (count != 1)}{', with masks' * bool(self.masks)})"

    def _repr_html_(self) -> str:
        from samecast.photos import open_photo

        figures: list[tuple[Image.Image, str]] = []
        for photo in self.references:
            name = "" if isinstance(photo, Image.Image) else as_text(photo)
            try:
                figures.append((photo if isinstance(photo, Image.Image) else open_photo(photo), name))
            except SamecastError as error:  # shown instead of raised
                return figures_html(figures, below=(repr(self), str(error)))
        return figures_html(figures, below=(repr(self),))
