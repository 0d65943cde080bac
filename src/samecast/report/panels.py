"""The content of a grid or a page: rows of captioned pictures, each with what a judge said of it."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Mark:
    """One verdict on a picture: what was asked, and whether it is so."""

    label: str
    right: bool


@dataclass(frozen=True)
class Panel:
    """One picture, the words below it, and the verdicts on it."""

    image: Image.Image
    caption: str = ""
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Row:
    """Pictures that belong together, under a title and a sentence that explains it."""

    panels: tuple[Panel, ...]
    title: str = ""
    note: str = ""
