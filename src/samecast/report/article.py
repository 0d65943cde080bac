"""A report as one page that needs nothing but itself: figures, strips to zoom into, a table to sort, no network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from PIL import Image

from samecast.notebook import data_uri
from samecast.report.page import Table, template


@dataclass(frozen=True)
class Statement:
    """A claim and what became of it.

    Args:
        claim: in words.
        verdict: how it came out, in a word.
        figures: that show it.
        about: what it is about, so that a figure of that can show the verdict.
        short: the claim in few words, for figures; empty where none shows it.
        p: the probability of such figures by chance; not a number where there is none.
        holm: the same, adjusted for how many claims there are.
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
        """Both probabilities in words; nothing where there is none."""
        return "" if math.isnan(self.p) else f"p {probability(self.p)}, Holm {probability(self.holm)}"

    @property
    def adjusted(self) -> str:
        """The adjusted one in words; nothing where there is none."""
        return "" if math.isnan(self.holm) else f"Holm p {probability(self.holm)}"


def probability(p: float) -> str:
    """A probability in three digits after the point."""
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


@dataclass(frozen=True)
class Plate:
    """A picture as it goes into the page, and the words below it.

    Args:
        source: of a picture, as a data URI; of a drawing, the text of its SVG.
        caption: below it.
        size: of a picture, width and height in pixels; None for a drawing.
    """

    source: str
    caption: str = ""
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, picture: Image.Image, caption: str = "") -> "Plate":
        """From a picture, which need not be held any longer."""
        return cls(data_uri(picture), caption, picture.size)

    @property
    def drawing(self) -> Markup | None:
        """The SVG without its XML declaration, which has no place inside a page; None for a picture."""
        return Markup(self.source[self.source.index("<svg") :]) if self.size is None else None


@dataclass(frozen=True)
class Section:
    """One part of a report: a heading, words, statements, plates, and a table."""

    title: str
    text: str = ""
    statements: Sequence[Statement] = ()
    plates: Sequence[Plate] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Article:
    """All that a report says, from top to bottom."""

    title: str
    summary: str
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


def article_html(article: Article) -> str:
    """The report as one HTML document; every text in it is escaped."""
    return template("article.html.jinja").render(article=article)
