"""A report as one page that needs nothing but itself: figures, strips to zoom into, a table to sort, no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from PIL import Image

from samecast.report.page import Table, template

Statement = tuple[str, str, str]
"""What was claimed, how it came out in a word, and the figures."""


@dataclass(frozen=True)
class Plate:
    """A picture, or a drawing as the text of an SVG, and the words below it."""

    picture: Image.Image | str
    caption: str = ""

    @property
    def drawing(self) -> Markup | None:
        """The SVG without its XML declaration, which has no place inside a page; None for a picture."""
        return Markup(self.picture[self.picture.index("<svg") :]) if isinstance(self.picture, str) else None


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
