"""A self-contained page: embedded images and styles, no script, no network access."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from samecast.notebook import data_uri
from samecast.report.panels import Panel, Row


@dataclass(frozen=True)
class Table:
    """A table of numbers: column names, then rows of cells; the first cell of a row is its name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Page:
    """The content of a page, from top to bottom."""

    title: str
    summary: str
    references: tuple[Panel, ...] = ()
    rows: Sequence[Row] = ()
    table: Table | None = None
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


def page_html(page: Page) -> str:
    """The page as one HTML document with escaped text."""
    return template("page.html.jinja").render(page=page, columns=max((len(row.panels) for row in page.rows), default=1))


@cache
def template(name: str) -> Template:
    """A template of this package; text is escaped, and an undefined variable is an error."""
    loader = PackageLoader("samecast.report", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["data_uri"] = data_uri
    return environment.get_template(name)
