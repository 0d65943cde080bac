"""The thing that stays the same, given by photos of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from samecast.checked import as_text, check_text, shown
from samecast.errors import SamecastError
from samecast.notebook import figures_html


@dataclass(frozen=True, repr=False)
class Subject:
    """A subject, cast once.

    Args:
        references: photos of it, as paths or PIL images; any format and size.
        class_noun: what it is, in a word ("dog"); stands in for `{noun}` in prompts.
        masks: where it is in each of the photos, white on black and of the photo's proportions, for methods that take
            given masks; or none.

    Raises:
        SamecastError: no reference is given, one is no picture, masks are there for some only, or the noun is no text.
    """

    references: tuple[str | Path | Image.Image, ...]
    class_noun: str = ""
    masks: tuple[str | Path | Image.Image, ...] = ()

    def __post_init__(self) -> None:
        # A lone path is a tuple of characters to tuple(); a list would not be frozen.
        for name in ("references", "masks"):
            given: Any = getattr(self, name)
            try:
                several = (given,) if isinstance(given, (str, Path, Image.Image)) else tuple(given)
            except TypeError:
                raise SamecastError(f"{name} must be pictures: paths or PIL images; got {shown(given)}") from None
            object.__setattr__(self, name, several)
        references: tuple[Any, ...] = self.references
        for photo in references:
            if not isinstance(photo, (str, Path, Image.Image)):
                raise SamecastError(f"references must be paths or PIL images; got {shown(photo)}")
        check_text(self.class_noun, "class_noun")
        if not self.references:
            raise SamecastError("a subject needs at least one reference photo; got none")
        if self.masks and len(self.masks) != len(self.references):
            raise SamecastError(f"{len(self.references)} references need as many masks; got {len(self.masks)}")

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
            except SamecastError as error:  # a cell shows what there is
                return figures_html(figures, below=(repr(self), str(error)))
        return figures_html(figures, below=(repr(self),))
