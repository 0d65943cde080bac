"""A labelled grid of pictures as one image, drawn with Pillow alone.

All panels have one height and keep their picture's proportions, with the caption below; rows may have a title on the
left. The font is Pillow's built-in scalable one, so a grid looks the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from samecast.errors import SamecastError
from samecast.report.panels import Mark, Panel, Row

_PAPER = "#ffffff"
_INK = "#1d2127"
_FAINT = "#69707a"
_RIGHT = "#1a7f4b"
_WRONG = "#b9423a"
_SMALLEST_PANEL = 160
_LARGEST_PANEL = 384
_CAPTION_LINES = 3

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class _Measures:
    """Lengths in pixels, derived from the panel height and the content."""

    panel: int
    gap: int
    margin: int
    text: int
    titles: int

    @property
    def line(self) -> int:
        return round(self.text * 1.3)

    def width(self, panel: Panel) -> int:
        """The width of a panel."""
        return round(self.panel * panel.image.width / panel.image.height)


def draw_grid(rows: Sequence[Row], *, panel_size: int | None = None) -> Image.Image:
    """Draw rows of panels.

    Args:
        rows: top to bottom; they may differ in length.
        panel_size: height of a panel in pixels; None is the pictures' own, limited to 160 to 384.

    Returns:
        An RGB image that holds every panel with its caption and marks.

    Raises:
        SamecastError: there is no panel to draw.
    """
    panels = [panel for row in rows for panel in row.panels]
    if not panels:
        raise SamecastError("a grid needs at least one picture")
    side = panel_size or min(max(_SMALLEST_PANEL, *(panel.image.height for panel in panels)), _LARGEST_PANEL)
    text = max(12, side // 13)
    has_titles = any(row.title or row.note for row in rows)
    measures = _Measures(side, max(6, side // 20), max(12, side // 10), text, round(side * 0.9) if has_titles else 0)
    widths = [sum(measures.width(panel) + measures.gap for panel in row.panels) for row in rows]
    width = 2 * measures.margin + measures.titles + max(widths) - measures.gap
    heights = [_row_height(row, measures) for row in rows]
    height = 2 * measures.margin + sum(heights) + (len(rows) - 1) * measures.gap
    canvas = Image.new("RGB", (width, height), _PAPER)
    top = measures.margin
    for row, row_height in zip(rows, heights, strict=True):
        _draw_row(canvas, row, top, measures)
        top += row_height + measures.gap
    return canvas


def wrap(text: str, font: Font, width: int, lines: int) -> list[str]:
    """Break text into at most `lines` lines of `width` pixels; what does not fit ends in an ellipsis."""
    wrapped: list[str] = []
    for word in text.split():
        joined = f"{wrapped[-1]} {word}" if wrapped else word
        if wrapped and font.getlength(joined) <= width:
            wrapped[-1] = joined
        else:
            wrapped.append(word)
    cut = len(wrapped) > lines
    wrapped = wrapped[:lines]
    return [
        _shorten(line, font, width, ellipsis=(cut and index == lines - 1) or font.getlength(line) > width)
        for index, line in enumerate(wrapped)
    ]


def _shorten(line: str, font: Font, width: int, *, ellipsis: bool) -> str:
    if not ellipsis:
        return line
    while line and font.getlength(line + "...") > width:
        line = line[:-1]
    return line + "..."


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _row_height(row: Row, measures: _Measures) -> int:
    lines = max((_text_lines(panel, measures) for panel in row.panels), default=0)
    return measures.panel + lines * measures.line + (measures.gap if lines else 0)


def _text_lines(panel: Panel, measures: _Measures) -> int:
    caption = wrap(panel.caption, _font(measures.text), measures.width(panel), _CAPTION_LINES)
    return len(caption) + len(panel.marks)


def _draw_row(canvas: Image.Image, row: Row, top: int, measures: _Measures) -> None:
    draw = ImageDraw.Draw(canvas)
    _draw_title(draw, row, top, measures)
    left = measures.margin + measures.titles
    for panel in row.panels:
        width = measures.width(panel)
        picture = panel.image.convert("RGB").resize((width, measures.panel), Image.Resampling.LANCZOS)
        canvas.paste(picture, (left, top))
        below = top + measures.panel + measures.gap // 2
        for line in wrap(panel.caption, _font(measures.text), width, _CAPTION_LINES):
            draw.text((left, below), line, font=_font(measures.text), fill=_INK)
            below += measures.line
        for mark in panel.marks:
            _draw_mark(draw, mark, left, below, measures)
            below += measures.line
        left += width + measures.gap


def _draw_title(draw: ImageDraw.ImageDraw, row: Row, top: int, measures: _Measures) -> None:
    width = measures.titles - measures.gap
    larger = round(measures.text * 1.15)
    for line in wrap(row.title, _font(larger), width, 4):
        draw.text((measures.margin, top), line, font=_font(larger), fill=_INK)
        top += round(larger * 1.3)
    for line in wrap(row.note, _font(measures.text), width, 8):
        draw.text((measures.margin, top), line, font=_font(measures.text), fill=_FAINT)
        top += measures.line


def _draw_mark(draw: ImageDraw.ImageDraw, mark: Mark, left: int, top: int, measures: _Measures) -> None:
    """A tick or a cross drawn as strokes (the font has neither), then the label."""
    unit = measures.text / 10
    colour = _RIGHT if mark.right else _WRONG
    strokes = [(0, 6), (3, 9), (8, 2)] if mark.right else [(1, 2), (8, 9)]
    paths = [strokes] if mark.right else [strokes, [(1, 9), (8, 2)]]
    for path in paths:
        points = [(left + x * unit, top + y * unit) for x, y in path]
        draw.line(points, fill=colour, width=max(2, round(unit * 1.4)))
    words = wrap(mark.label, _font(measures.text), measures.panel - round(12 * unit), 1)
    draw.text((left + 12 * unit, top), "".join(words), font=_font(measures.text), fill=colour)
