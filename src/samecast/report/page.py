"""A self-contained page: embedded images and styles, no script, no network access."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from samecast.report.panels import Panel, Row

_LARGEST_PNG = 256


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


def data_uri(image: Image.Image) -> str:
    """An image as a data URI: lossless up to 256 pixels, high-quality JPEG above."""
    buffer = io.BytesIO()
    if max(image.size) <= _LARGEST_PNG:
        image.save(buffer, format="PNG", optimize=True)
        kind = "png"
    else:
        image.convert("RGB").save(buffer, format="JPEG", quality=92, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@cache
def template(name: str) -> Template:
    """A template of this package; text is escaped, and an undefined variable is an error."""
    loader = PackageLoader("samecast.report", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["data_uri"] = data_uri
    return environment.get_template(name)
