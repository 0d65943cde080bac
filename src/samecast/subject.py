"""The thing that stays the same, given by photos of it."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from samecast.errors import SamecastError


@dataclass(frozen=True)
class Subject:
    """A subject, cast once.

    Args:
        references: photos of it, as paths or PIL images; any format and size.
        class_noun: what it is, in a word ("dog"); stands in for `{noun}` in prompts.

    Raises:
        SamecastError: no reference is given.
    """

    references: tuple[str | Path | Image.Image, ...]
    class_noun: str = ""

    def __post_init__(self) -> None:
        # A lone path is a tuple of characters to tuple(); a list would not be frozen.
        lone = isinstance(self.references, (str, Path, Image.Image))
        object.__setattr__(self, "references", (self.references,) if lone else tuple(self.references))
        if not self.references:
            raise SamecastError("a subject needs at least one reference photo; got none")
