"""The content of a grid or a page: rows of captioned pictures with verdicts."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Mark:
    """A verdict on a picture: the criterion, and whether it is met."""

    label: str
    right: bool


@dataclass(frozen=True)
class Panel:
    """A picture with its caption and verdicts."""

    image: Image.Image
    caption: str = ""
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of pictures with a title and an explanation."""

    panels: tuple[Panel, ...]
    title: str = ""
    note: str = ""
