"""Plots say who is who and what was found, all of it inside the figure, in colours that paper shows."""

import itertools
import math
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from samecast.report.plots import Cloud, pairs, save_figure, scatter, trade_offs

MIDDLE = (0.2, 0.1, 0.3)
BARS = "large: mean over 8 subjects; bars: 95% interval of what varies within subjects, their levels taken out; small"


def clouds(values: list[str], count: int, subjects: int = 3, notes: tuple[str, ...] = ()) -> list[Cloud]:
    names = [f"subject {number}" for number in range(subjects)]
    points = {
        value: {name: (0.02 * at + 0.001 * number, 0.2 + 0.1 * at) for at, name in enumerate(names)}
        for number, value in enumerate(values)
    }
    means = {
        value: ((0.1 + 0.01 * number, 0.09 + 0.01 * number, 0.12 + 0.01 * number), MIDDLE)
        for number, value in enumerate(values)
    }
    return [Cloud(f"series {number}", points, means, notes) for number in range(count)]


def draw(figure: Figure) -> FigureCanvasAgg:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas


def boxes(figure: Figure) -> dict[str, object]:
    """Where everything is that stands outside the panels, in pixels."""
    canvas = draw(figure)
    renderer = canvas.get_renderer()
    found: dict[str, object] = {
        f"legend {number}": legend.get_window_extent(renderer) for number, legend in enumerate(figure.legends)
    }
    found |= {f"panel {number}": axes.get_tightbbox(renderer) for number, axes in enumerate(figure.axes)}
    if figure._supxlabel is not None and figure._supxlabel.get_text():  # type: ignore[attr-defined]
        found["footnote"] = figure._supxlabel.get_window_extent(renderer)  # type: ignore[attr-defined]
    return found


def contrast(colour: object) -> float:
    """Against white paper, as WCAG 2 reckons it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]  # type: ignore[arg-type]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("values", "subjects"), [(3, 2), (9, 15), (31, 15), (9, 40)])
def test_nothing_is_cut_off_or_written_over(count: int, values: int, subjects: int) -> None:
    notes = ("lowers text alignment: holds (Holm p < 0.001)", "raises image alignment: not shown (Holm p 1.000)")
    names = [str(value) for value in range(values)]
    figure = scatter(clouds(names, count, subjects, notes), x="text", y="image", axis="final", ordered=names, bars=BARS)
    found = boxes(figure)
    whole = figure.bbox
    for name, box in found.items():
        inside = whole.x0 <= box.x0 + 1 and box.x1 <= whole.x1 + 1 and whole.y0 <= box.y0 + 1 and box.y1 <= whole.y1 + 1
        assert inside, name
    for (one, first), (two, second) in itertools.combinations(found.items(), 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert width <= 2 or height <= 2, (one, two)


def test_ordered_values_are_joined_and_coloured_in_order_and_others_are_not() -> None:
    final = scatter(clouds(["20", "30", "40"], 1), x="x", y="y", axis="final", ordered=["20", "30", "40"], bars=BARS)
    layers = scatter(clouds(["decoder", "encoder", "both"], 1), x="x", y="y", axis="layers", ordered=[], bars=BARS)
    mixed = scatter(clouds(["0.1", "0.2", "otsu"], 1), x="x", y="y", axis="t", ordered=["0.1", "0.2"], bars=BARS)
    joined = [max(len(line.get_xdata()) for line in figure.axes[1].lines) for figure in (final, layers, mixed)]  # type: ignore[arg-type]
    assert joined == [3, 1, 2]


@pytest.mark.parametrize("count", [1, 2, 9, 31])
@pytest.mark.parametrize("ordered", [True, False])
def test_every_colour_stands_out_from_white_paper(count: int, ordered: bool) -> None:
    names = [str(value) for value in range(count)]
    figure = scatter(clouds(names, 1), x="x", y="y", axis="a", ordered=names if ordered else [], bars=BARS)
    colours = [mark.get_color() for mark in figure.legends[0].legend_handles if mark.get_marker() == "o"]  # type: ignore[union-attr]
    assert min(map(contrast, colours)) > 2.9


def test_means_have_a_row_of_their_own_scale_and_what_was_found_stands_over_it() -> None:
    """Subjects lie far apart, their means close together."""
    names = [str(value) for value in range(5)]
    points = {value: {"a": (0.0, 0.0), "b": (1.0, 1.0)} for value in names}
    means = {
        value: ((0.5 + 0.001 * at, 0.499 + 0.001 * at, 0.501 + 0.001 * at), (0.5, 0.4995, 0.5005))
        for at, value in enumerate(names)
    }
    cloud = Cloud("decoder", points, means, ("raises it: holds (Holm p 0.001)",))
    figure = scatter([cloud], x="x", y="y", axis="final", ordered=names, bars=BARS)
    above, below = figure.axes
    assert below.get_xlim()[1] - below.get_xlim()[0] < 0.02 < 0.9 < above.get_xlim()[1] - above.get_xlim()[0]
    assert "raises it: holds" in below.get_title(loc="left")


def test_one_subject_is_drawn_without_intervals() -> None:
    nothing = (0.2, math.nan, math.nan)
    cloud = Cloud("decoder", {"20": {"rex": (0.2, 0.2)}}, {"20": (nothing, nothing)})
    figure = scatter([cloud], x="x", y="y", axis="final", ordered=["20"], bars="the one subject's mean")
    assert not figure.axes[1].collections
    draw(figure)


def test_a_front_has_intervals_and_names_what_it_recommends_in_the_legend(tmp_path: Path) -> None:
    points = {"a": (0.1, 0.9), "b": (0.5, 0.5), "c": (0.2, 0.2), "d": (0.9, 0.1)}
    kinds = dict(zip(points, ("decoder", "decoder", "encoder", "none"), strict=True))
    front = {name: ((x, x - 0.05, x + 0.05), (y, y - 0.05, y + 0.05)) for name, (x, y) in points.items() if name != "c"}
    figure = trade_offs(points, kinds, front, "b", x="x", y="y", bars=BARS)
    (panel,) = figure.axes
    assert len([each for each in panel.collections if type(each).__name__ == "LineCollection"]) == 6  # two for each
    assert any("recommended: b" in text.get_text() for text in figure.legends[0].get_texts())
    found = boxes(figure)
    assert found["legend 0"].x0 >= found["panel 0"].x1 - 2  # type: ignore[attr-defined]
    assert all(path.stat().st_size for path in save_figure(figure, tmp_path / "front"))


@pytest.mark.parametrize(("subjects", "data"), [(3, True), (15, True), (16, False), (40, False)])
def test_no_two_subjects_share_a_marker_that_the_legend_tells_apart(subjects: int, data: bool) -> None:
    names = [f"subject {number}" for number in range(subjects)]
    points = {value: {name: (0.1 * at, 0.2) for at, name in enumerate(names)} for value in ("20", "30")}
    cloud = Cloud("decoder", points, {"20": (MIDDLE, MIDDLE)})
    figure = scatter([cloud], x="x", y="y", axis="final", ordered=["20", "30"], bars="bars")
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    at = texts.index("subject") + 1
    assert texts[at:] == (sorted(names) if data else [f"one of {subjects}"])
    markers = [handle.get_marker() for handle in legend.legend_handles[at:]]  # type: ignore[union-attr]
    assert len(set(markers)) == len(markers)


def test_only_the_ends_of_a_way_are_labelled_where_nothing_moves() -> None:
    values = ("20", "25", "30")
    points = {value: {"rex": (0.2, 0.2)} for value in values}
    cloud = Cloud("encoder", points, dict.fromkeys(values, (MIDDLE, MIDDLE)))
    figure = scatter([cloud], x="x", y="y", axis="final", ordered=values, bars="bars")
    labels = figure.axes[1].texts
    assert [label.get_text() for label in labels] == ["20", "30"]
    assert labels[0].get_position()[1] > 0 > labels[1].get_position()[1]  # above and below


def test_names_of_subjects_are_not_written_over_each_other() -> None:
    at = {"rex": (0.2, 0.4), "tom": (0.201, 0.402), "ada": (0.3, 0.9)}
    figure = pairs({name: (place, (0.4, 0.5)) for name, place in at.items()}, ("decoder", "encoder"), x="x", y="y")
    assert sorted(label.get_text() for label in figure.axes[0].texts if label.get_text()) == ["ada", "rex\ntom"]
