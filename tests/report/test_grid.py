"""Grids: every picture is on it, at its place, with its words."""

import numpy
import pytest
from PIL import Image, ImageFont

from samecast.errors import SamecastError
from samecast.report.grid import draw_grid, wrap
from samecast.report.panels import Mark, Panel, Row

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]


def flat(colour: tuple[int, int, int], size: int = 64) -> Image.Image:
    return Image.new("RGB", (size, size), colour)


def count(image: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((numpy.asarray(image) == colour).all(axis=-1).sum())


def test_every_panel_is_drawn_in_full() -> None:
    rows = [Row(tuple(Panel(flat(c), "caption") for c in COLOURS[:3])), Row((Panel(flat(COLOURS[3])),))]
    grid = draw_grid(rows, panel_size=100)
    assert [count(grid, colour) for colour in COLOURS] == [100 * 100] * 4


def test_panels_stand_in_reading_order() -> None:
    grid = numpy.asarray(draw_grid([Row(tuple(Panel(flat(c)) for c in COLOURS[:2])), Row((Panel(flat(COLOURS[2])),))]))
    centres = [numpy.argwhere((grid == colour).all(axis=-1)).mean(axis=0) for colour in COLOURS[:3]]
    assert centres[0][1] < centres[1][1]
    assert centres[0][0] < centres[2][0]
    assert centres[0][1] == centres[2][1]


@pytest.mark.parametrize(
    "row", [Row((Panel(flat((9, 9, 9)), "words"),)), Row((Panel(flat((9, 9, 9))),), title="words")]
)
def test_words_leave_ink(row: Row) -> None:
    bare = draw_grid([Row((Panel(flat((9, 9, 9))),))])
    assert count(draw_grid([row]), (255, 255, 255)) != count(bare, (255, 255, 255))


def test_marks_differ_by_verdict() -> None:
    right, wrong = (draw_grid([Row((Panel(flat((9, 9, 9)), "", (Mark("scene", v),)),))]) for v in (True, False))
    assert right.size == wrong.size
    assert right.tobytes() != wrong.tobytes()


def test_small_pictures_are_enlarged_and_large_ones_bounded() -> None:
    assert draw_grid([Row((Panel(flat((1, 2, 3), 16)),))]).width >= 160
    assert draw_grid([Row((Panel(flat((1, 2, 3), 2048)),))]).width < 600


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(SamecastError, match="at least one picture"):
        draw_grid([])


@pytest.mark.parametrize("text", ["a dog running on the beach at night", "w" * 300, "", "강아지가 해변을 달린다"])
def test_wrapped_lines_fit_and_are_few(text: str) -> None:
    font = ImageFont.load_default(14)
    lines = wrap(text, font, 120, 3)
    assert len(lines) <= 3
    assert all(font.getlength(line) <= 120 for line in lines)


def test_wrapping_loses_no_word_when_there_is_room() -> None:
    text = "a dog running on the beach"
    assert " ".join(wrap(text, ImageFont.load_default(12), 60, 10)) == text


def test_cut_text_says_so() -> None:
    assert wrap("one two three four five six", ImageFont.load_default(14), 40, 2)[-1].endswith("...")
