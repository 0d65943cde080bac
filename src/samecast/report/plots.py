"""Scatter plots of two measures, as SVG and PNG, that show the trade-off between settings.

Ordered values have colours of one perceptual scale and are joined by a line; unordered values and kinds have distinct
colours and no line. All colours contrast with white paper. Markers distinguish subjects. pyplot is not used, so no
global state is left.
"""

import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.disk import replace_file
from samecast.errors import lacking

try:
    import matplotlib as mpl
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure
except ImportError as error:
    raise lacking("study", error) from None

Interval = tuple[float, float, float]
"""A mean and the ends of its interval; the ends are NaN for none."""
Point = tuple[float, float]

KINDS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#882255", "#999933", "#332288", "#117733", "#AA4499")
"""Unordered colours after Okabe and Ito, and Tol: distinct for the colour-blind, and visible on paper."""
_PALEST = 0.63
"""The end of the colour scale of ordered values: beyond it, contrast with paper is below 3."""
_MARKERS = "osD^vP*Xhp<>8dH"
_MOST_NAMED = 24
"""Most values of an axis in a legend."""
_INK, _FAINT, _LINE = "#1d2127", "#69707a", "#d9d6ce"
_STYLE: Any = {
    "svg.hashsalt": "samecast",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "text.color": _INK,
    "legend.frameon": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Cloud:
    """One column of a scatter plot.

    Args:
        title: title above it.
        points: (x, y) by value of the axis, then by subject.
        means: means over subjects in x and y with intervals, by value.
        notes: findings, as lines below the title of the means.
    """

    title: str
    points: Mapping[str, Mapping[str, Point]]
    means: Mapping[str, tuple[Interval, Interval]]
    notes: Sequence[str] = ()


def scatter(clouds: Sequence[Cloud], *, x: str, y: str, axis: str, ordered: Sequence[str], bars: str) -> Figure:
    """Upper panels with a marker per subject and a colour per value; lower panels with their means on separate scales,
    so that they are legible where subjects differ widely.

    With more subjects than markers, all subjects share one marker.

    Args:
        clouds: columns from left to right.
        x, y: axis labels.
        axis: name of the varied setting.
        ordered: the ordered values, in order; their means are joined by a line.
        bars: explanation below the plot.
    """
    values = list(dict.fromkeys(value for cloud in clouds for value in cloud.points))
    colours = _colours([value for value in ordered if value in values], values)
    subjects = sorted({subject for cloud in clouds for of in cloud.points.values() for subject in of})
    distinct = len(subjects) <= len(_MARKERS)
    markers = {subject: _MARKERS[number] if distinct else "o" for number, subject in enumerate(subjects)}
    shown = values[:: math.ceil(len(values) / _MOST_NAMED)]
    named = subjects if distinct else [f"one of {len(subjects)}"]
    with mpl.rc_context(_STYLE):
        width, needed = 1.9 + 3.6 * len(clouds), 0.19 * (len(shown) + len(named) + 4)
        figure = Figure(figsize=(width, max(7.6, 0.8 + needed)), layout="constrained")
        panels: Any = figure.subplots(2, len(clouds), sharex="row", sharey="row", squeeze=False)
        for (above, below), cloud in zip(panels.T, clouds, strict=True):
            _draw_subjects(above, cloud, colours, markers)
            _draw_means(below, cloud, colours, ordered)
            above.set_title(_plain(cloud.title, 48))
            data = [textwrap.fill(note, 60) for note in cloud.notes]
            below.set_title("\n".join(data or ["means"]), fontsize=7.5, color=_FAINT)
            below.set_xlabel(x)
        for row in panels:
            row[0].set_ylabel(y)
        means = [mean for cloud in clouds for mean in cloud.means.values()]
        for panel in panels.flat:
            panel.locator_params(axis="x", nbins=5)  # labels of small numbers are wide
        _zoom(panels[1][0], [(x[0], y[0]) for x, y in means], means)
        entries = [_heading(panels[0][0], axis), *(_dot(panels[0][0], colours[value], "o", value) for value in shown)]
        entries += [_heading(panels[0][0], " "), _heading(panels[0][0], "subject")]
        entries += [_dot(panels[0][0], _FAINT, markers.get(name, "o"), name) for name in named]
        figure.legend(handles=entries, loc="outside right upper", fontsize=7.5)
        _footnote(figure, bars)
    return figure


def _draw_subjects(panel: Any, cloud: Cloud, colours: Mapping[str, Any], markers: Mapping[str, str]) -> None:
    for value, of in cloud.points.items():
        by_marker: dict[str, list[Point]] = {}
        for subject, point in of.items():
            by_marker.setdefault(markers[subject], []).append(point)
        for marker, points in by_marker.items():
            panel.scatter(
                *zip(*points, strict=True), s=20, color=colours[value], marker=marker, alpha=0.6, linewidths=0
            )
    for value, (x, y) in cloud.means.items():
        panel.plot(x[0], y[0], "o", color=colours[value], markersize=7, markeredgecolor=_INK, markeredgewidth=0.8)


def _draw_means(panel: Any, cloud: Cloud, colours: Mapping[str, Any], ordered: Sequence[str]) -> None:
    way = [cloud.means[value] for value in ordered if value in cloud.means]
    panel.plot([x[0] for x, _ in way], [y[0] for _, y in way], color=_FAINT, linewidth=0.8, zorder=3)
    for value, (x, y) in cloud.means.items():
        _cross(panel, x, y, colours[value], size=7)
    # First and last value are labelled above and below, so that both are legible where they coincide.
    ends = [value for value in ordered if value in cloud.means]
    for below, value in enumerate(ends[:1] + ends[1:][-1:]):
        x, y = cloud.means[value]
        at = (7, -14) if below else (7, 7)
        panel.annotate(_plain(value), (x[0], y[0]), xytext=at, textcoords="offset points", fontsize=7.5, zorder=5)


def _zoom(panel: Any, points: Sequence[Point], bars: Sequence[tuple[Interval, Interval]]) -> None:
    """Sets the limits by the points: much longer bars may extend beyond the panel."""
    for way, limits in enumerate((panel.set_xlim, panel.set_ylim)):
        values = [point[way] for point in points]
        reach = max((high - low for _, low, high in (bar[way] for bar in bars) if low < high), default=0.0) / 2
        spread = max(values) - min(values)
        room = max(0.15 * spread, min(reach, spread) if spread else reach) * 1.1
        if room > 0:
            limits(min(values) - room, max(values) + room)


def _cross(panel: Any, x: Interval, y: Interval, colour: Any, *, size: float, marker: str = "o") -> None:
    """A mean with its intervals in x and y, if any."""
    bars: dict[str, Any] = {}
    if not math.isnan(x[1] + y[1]):
        bars = {"xerr": [[x[0] - x[1]], [x[2] - x[0]]], "yerr": [[y[0] - y[1]], [y[2] - y[0]]]}
    style = {"color": colour, "elinewidth": 1.1, "capsize": 2.5, "markeredgecolor": _INK, "markeredgewidth": 0.8}
    panel.errorbar(x[0], y[0], fmt=marker, markersize=size, zorder=4, **bars, **style)


def pairs(
    subjects: Mapping[str, tuple[Point, Point]],
    names: tuple[str, str],
    *,
    x: str,
    y: str,
    notes: Sequence[str] = (),
    footnote: str = "",
) -> Figure:
    """An arrow per subject from one setting to another, each at its (x, y).

    Args:
        subjects: two points per subject.
        names: names of the settings.
        x, y: axis labels.
        notes: findings, as lines above the plot.
        footnote: explanation below the plot.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.6, 5.0), layout="constrained")
        panel: Any = figure.subplots()
        for first, second in subjects.values():
            panel.annotate("", second, first, arrowprops={"arrowstyle": "->", "color": _FAINT, "linewidth": 0.9})
        if len(subjects) <= _MOST_NAMED:
            for place, data in _together({subject: first for subject, (first, _) in subjects.items()}).items():
                words = "\n".join(map(_plain, data))
                panel.annotate(words, place, xytext=(5, 4), textcoords="offset points", fontsize=7.5, color=_FAINT)
        for number, name in enumerate(names):
            at = [of[number] for of in subjects.values()]
            style: Any = {"color": KINDS[number], "marker": "os"[number], "label": _plain(name, 48)}
            panel.scatter(*zip(*at, strict=True), s=38, **style)
        panel.set(xlabel=x, ylabel=y)
        panel.margins(0.12)
        if notes:
            panel.set_title("\n".join(textwrap.fill(note, 90) for note in notes), fontsize=8, color=_FAINT)
        figure.legend(loc="outside lower center", ncols=len(names), fontsize=8)
        _footnote(figure, footnote)
    return figure


def _together(places: Mapping[str, Point]) -> dict[Point, list[str]]:
    """Names by position; names whose labels would overlap share a position."""
    spread = [max(values) - min(values) for values in zip(*places.values(), strict=True)]
    reach = 0.15 * spread[0], 0.05 * spread[1]  # labels are wider than high
    found: dict[Point, list[str]] = {}
    for name, place in places.items():
        near = (of for of in found if all(abs(a - b) <= r for a, b, r in zip(of, place, reach, strict=True)))
        found.setdefault(next(near, place), []).append(name)
    return found


def trade_offs(
    points: Mapping[str, Point],
    kinds: Mapping[str, str],
    front: Mapping[str, tuple[Interval, Interval]],
    chosen: str,
    *,
    x: str,
    y: str,
    bars: str,
) -> Figure:
    """All settings, with a line through the Pareto front and the recommended setting marked.

    Args:
        points: (x, y) of each setting.
        kinds: kind of each setting, for its colour.
        front: the Pareto front, in order, with intervals.
        chosen: the recommended setting.
        x, y: axis labels.
        bars: explanation of the bars, below the plot.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.8, 5.2), layout="constrained")
        panel: Any = figure.subplots()
        of_kind = enumerate(dict.fromkeys(kinds.values()))
        styles = {kind: (KINDS[n % len(KINDS)], _MARKERS[n % len(_MARKERS)]) for n, kind in of_kind}
        for kind, (colour, marker) in styles.items():
            at = [point for name, point in points.items() if kinds[name] == kind]
            panel.scatter(*zip(*at, strict=True), s=22, color=colour, marker=marker, label=_plain(kind), alpha=0.8)
        line = [(across[0], up[0]) for across, up in front.values()]
        panel.plot(*zip(*line, strict=True), color=_INK, linewidth=1.0, label="front, with intervals", zorder=1)
        for name, (across, up) in front.items():
            colour, marker = styles[kinds[name]]
            _cross(panel, across, up, colour, size=5, marker=marker)
        label = textwrap.fill(_plain(f"recommended: {chosen}", 120), 26)
        panel.scatter(*points[chosen], s=210, facecolors="none", edgecolors=_INK, linewidths=1.6, label=label, zorder=6)
        panel.set(xlabel=x, ylabel=y)
        _zoom(panel, list(points.values()), list(front.values()))
        figure.legend(loc="outside right upper", fontsize=8)
        _footnote(figure, bars)
    return figure


def save_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Writes a figure as `stem.svg` and `stem.png`, each atomically; returns the paths.

    Raises:
        SamecastError: the files cannot be written.
    """
    vector, pixels = stem.with_suffix(".svg"), stem.with_suffix(".png")
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A script that the font lacks; the SVG file still holds it as text.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        replace_file(vector, lambda part: figure.savefig(part, metadata={"Date": None}))
        replace_file(pixels, lambda part: figure.savefig(part, dpi=160))
    return vector, pixels


def _colours(ordered: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    """Colours by value: one scale for ordered values, distinct colours for the others."""
    scale: Any = mpl.colormaps["plasma"]
    found = {value: scale(_PALEST * at / max(1, len(ordered) - 1)) for at, value in enumerate(ordered)}
    others = [value for value in values if value not in found]
    return found | {value: to_rgba(KINDS[at % len(KINDS)]) for at, value in enumerate(others)}


def _footnote(figure: Figure, words: str) -> None:
    """Small text below a figure, wrapped to its width."""
    figure.supxlabel(textwrap.fill(words, int(17 * figure.get_figwidth())), fontsize=7.5, color=_FAINT)


def _dot(panel: Any, colour: Any, marker: str, label: str) -> Any:
    return panel.plot([], [], marker, color=colour, label=_plain(label), markersize=5)[0]


def _heading(panel: Any, words: str) -> Any:
    return panel.plot([], [], " ", label=_plain(words))[0]


def _plain(words: str, most: int = 30) -> str:
    """User text, shortened and escaped for matplotlib, where a dollar sign starts a formula and a leading underscore
    hides a label."""
    short = words if len(words) <= most else f"{words[: most - 3]}..."
    return short.replace("$", r"\$").replace("_", " _", 1 if short.startswith("_") else 0)
