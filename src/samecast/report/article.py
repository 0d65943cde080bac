"""A report as one self-contained page: figures, zoomable strips and a sortable table, without network access."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from PIL import Image

from samecast.notebook import data_uri
from samecast.report.page import Table, template


@dataclass(frozen=True)
class Statement:
    """A claim and its verdict.

    Args:
        claim: the claim, in words.
        verdict: the verdict, in a word.
        figures: the numbers behind it, in words.
        about: the topic, by which a figure shows the verdict.
        short: the claim in few words, for figures; empty if no figure shows it.
        p: p-value; NaN for none.
        holm: p-value with Holm's correction for the number of claims; NaN for none.
    """

    claim: str
    verdict: str
    figures: str
    about: tuple[str, str] = ("", "")
    short: str = ""
    p: float = math.nan
    holm: float = math.nan

    @property
    def chance(self) -> str:
        """Both p-values as text; empty for none."""
        return "" if math.isnan(self.p) else f"p {probability(self.p)}, Holm {probability(self.holm)}"

    @property
    def adjusted(self) -> str:
        """The adjusted p-value as text; empty for none."""
        return "" if math.isnan(self.holm) else f"Holm p {probability(self.holm)}"


def probability(p: float) -> str:
    """A probability with three decimals."""
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


@dataclass(frozen=True)
class Plate:
    """An image of a page with its caption.

    Args:
        source: data URI of an image, or SVG text of a drawing.
        caption: text below it.
        size: width and height of an image in pixels; None for a drawing.
    """

    source: str
    caption: str = ""
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, picture: Image.Image, caption: str = "") -> "Plate":
        """Makes a plate of an image."""
        return cls(data_uri(picture), caption, picture.size)

    @property
    def drawing(self) -> Markup | None:
        """The SVG without its XML declaration, which is invalid inside HTML; None for an image."""
        return Markup(self.source[self.source.index("<svg") :]) if self.size is None else None


@dataclass(frozen=True)
class Section:
    """One section of a report: heading, text, statements, plates, and a table."""

    title: str
    text: str = ""
    statements: Sequence[Statement] = ()
    plates: Sequence[Plate] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Article:
    """The content of a report, from top to bottom."""

    title: str
    summary: str
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


def article_html(article: Article) -> str:
    """The report as one HTML document with escaped text."""
    return template("article.html.jinja").render(article=article)
