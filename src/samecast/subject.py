"""The subject, given by reference photos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from samecast.checked import as_text, check_text, shown
from samecast.errors import SamecastError
from samecast.notebook import figures_html


@dataclass(frozen=True, repr=False)
class Subject:
    """A subject.

    Args:
        references: photos of the subject, as paths or PIL images; any format and size.
        class_noun: its class ("dog"); replaces `{noun}` in prompts.
        masks: one mask per photo, white on black, with the photo's proportions, for methods with
            given masks; empty for none.

    Raises:
        SamecastError: no reference is given, one is not an image, the number of masks differs, or the noun is not text.
    """

    references: tuple[str | Path | Image.Image, ...]
    class_noun: str = ""
    masks: tuple[str | Path | Image.Image, ...] = ()

    def __post_init__(self) -> None:
        # tuple() would split a single path into characters; a list would not be frozen.
        for name in ("references", "masks"):
            given: Any = getattr(self, name)
            try:
                several = (given,) if isinstance(given, (str, Path, Image.Image)) else tuple(given)
            except TypeError:
                raise SamecastError(f"{name} must be images, as paths or PIL images; got {shown(given)}") from None
            object.__setattr__(self, name, several)
        references: tuple[Any, ...] = self.references
        for photo in references:
            if not isinstance(photo, (str, Path, Image.Image)):
                raise SamecastError(f"references must be paths or PIL images; got {shown(photo)}")
        check_text(self.class_noun, "class_noun")
        if not self.references:
            raise SamecastError("a subject needs at least one reference photo; got none")
        if self.masks and len(self.masks) != len(self.references):
            raise SamecastError(f"{len(self.references)} references need one mask each; got {len(self.masks)} masks")

    def __repr__(self) -> str:
        count = len(self.references)
        noun = f"{self.class_noun!r}, " if self.class_noun else ""
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
