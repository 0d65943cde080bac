"""Plots of two measures against each other, as vectors and pixels: what a setting costs, and what it buys.

Values of an axis have colours of one perceptual scale (viridis, which the colour-blind read too, and which prints as
greys), kinds have Okabe and Ito's; subjects are told apart by markers. Nothing is drawn through pyplot, so no state is
left behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from samecast.disk import replace_file

Interval = tuple[float, float, float]
"""A mean, and the two ends of its interval."""

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
_MARKERS = "osD^vP*Xhp<>8dH"
_INK, _FAINT, _LINE = "#1d2127", "#69707a", "#d9d6ce"
_STYLE: Any = {
    "svg.hashsalt": "samecast",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10.0,
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
    """One panel of a scatter plot.

    Args:
        title: above it.
        points: for each value of the axis, in order, for each subject: (x, y).
        means: for each value, the mean over subjects in x and in y, with intervals.
    """

    title: str
    points: Mapping[str, Mapping[str, tuple[float, float]]]
    means: Mapping[str, tuple[Interval, Interval]]


def scatter(clouds: Sequence[Cloud], *, x: str, y: str, axis: str, bars: str) -> Figure:
    """Panels side by side on common scales: a marker for each subject, a colour for each value, its mean with bars.
    Of more subjects than there are markers none is told from the others.

    Args:
        clouds: left to right.
        x, y: what is on the axes.
        axis: what the values are of.
        bars: what the bars are, in words; stands below the plot.
    """
    values = list(dict.fromkeys(value for cloud in clouds for value in cloud.points))
    subjects = sorted({subject for cloud in clouds for of in cloud.points.values() for subject in of})
    colours = dict(zip(values, _scale(len(values)), strict=True))
    told_apart = len(subjects) <= len(_MARKERS)
    markers = {subject: _MARKERS[number] if told_apart else "o" for number, subject in enumerate(subjects)}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(1.6 + 3.6 * len(clouds), 4.3), layout="constrained")
        panels: Any = figure.subplots(1, len(clouds), sharex=True, sharey=True, squeeze=False)[0]
        for panel, cloud in zip(panels, clouds, strict=True):
            _draw_cloud(panel, cloud, colours, markers)
            panel.set(title=cloud.title, xlabel=x)
        panels[0].set_ylabel(y)
        dots = [_dot(panels[0], colours[value], "o", value) for value in values]
        named = subjects if told_apart else [f"one of {len(subjects)}"]
        shapes = [_dot(panels[0], _FAINT, markers.get(name, "o"), name) for name in named]
        first = figure.legend(handles=dots, title=axis, loc="outside right upper", fontsize=8)
        first.get_title().set_fontsize(8)
        figure.legend(handles=shapes, title="subject", loc="outside right lower", fontsize=7, title_fontsize=8)
        figure.supxlabel(bars, fontsize=7.5, color=_FAINT)
    return figure


def _draw_cloud(panel: Any, cloud: Cloud, colours: Mapping[str, Any], markers: Mapping[str, str]) -> None:
    for value, of in cloud.points.items():
        for subject, (x, y) in of.items():
            panel.scatter(x, y, s=22, color=colours[value], marker=markers[subject], alpha=0.6, linewidths=0)
    means = [(value, x, y) for value, (x, y) in cloud.means.items()]
    panel.plot([x[0] for _, x, _ in means], [y[0] for _, _, y in means], color=_FAINT, linewidth=0.8, zorder=3)
    for value, x, y in means:
        panel.errorbar(
            x[0],
            y[0],
            xerr=[[x[0] - x[1]], [x[2] - x[0]]],
            yerr=[[y[0] - y[1]], [y[2] - y[0]]],
            fmt="o",
            markersize=8,
            color=colours[value],
            ecolor=colours[value],
            elinewidth=1.1,
            capsize=2.5,
            markeredgecolor=_INK,
            markeredgewidth=0.8,
            zorder=4,
        )
    # Where the way begins and where it ends, above and below, so that both can be read where nothing moves.
    for below, (value, x, y) in enumerate(means[:1] + means[1:][-1:]):
        at = (6, -12) if below else (6, 5)
        panel.annotate(value, (x[0], y[0]), xytext=at, textcoords="offset points", fontsize=7.5, zorder=5)


def pairs(
    subjects: Mapping[str, tuple[tuple[float, float], tuple[float, float]]], names: tuple[str, str], *, x: str, y: str
) -> Figure:
    """For each subject an arrow from one setting to another, both at their (x, y)."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 4.3), layout="constrained")
        panel: Any = figure.subplots()
        for first, second in subjects.values():
            panel.annotate("", second, first, arrowprops={"arrowstyle": "->", "color": _FAINT, "linewidth": 0.9})
        for place, told in _together({subject: first for subject, (first, _) in subjects.items()}).items():
            words = "\n".join(told)
            panel.annotate(words, place, xytext=(5, 4), textcoords="offset points", fontsize=7.5, color=_FAINT)
        for number, name in enumerate(names):
            at = [of[number] for of in subjects.values()]
            panel.scatter(
                [a for a, _ in at], [b for _, b in at], s=38, color=OKABE_ITO[number], marker="os"[number], label=name
            )
        panel.set(xlabel=x, ylabel=y)
        panel.legend(loc="best", fontsize=8)
    return figure


def _together(places: Mapping[str, tuple[float, float]]) -> dict[tuple[float, float], list[str]]:
    """Names by place, those so close to another that they would be written over it put under that one."""
    reach = [0.05 * (max(values) - min(values)) for values in zip(*places.values(), strict=True)]
    found: dict[tuple[float, float], list[str]] = {}
    for name, place in places.items():
        near = (of for of in found if all(abs(a - b) <= r for a, b, r in zip(of, place, reach, strict=True)))
        found.setdefault(next(near, place), []).append(name)
    return found


def trade_offs(
    points: Mapping[str, tuple[float, float]],
    kinds: Mapping[str, str],
    front: Sequence[str],
    chosen: str,
    *,
    x: str,
    y: str,
) -> Figure:
    """All settings, those that no other beats in both respects joined by a line, and the recommended one marked.

    Args:
        points: (x, y) of each setting.
        kinds: of each setting, for its colour.
        front: the names of the best, in order.
        chosen: the recommended one.
        x, y: what is on the axes.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.8, 4.8), layout="constrained")
        panel: Any = figure.subplots()
        for number, kind in enumerate(dict.fromkeys(kinds.values())):
            at = [point for name, point in points.items() if kinds[name] == kind]
            colour = OKABE_ITO[number % len(OKABE_ITO)]
            marker = _MARKERS[number % len(_MARKERS)]
            panel.scatter(
                [a for a, _ in at], [b for _, b in at], s=22, color=colour, marker=marker, label=kind, alpha=0.8
            )
        line = [points[name] for name in front]
        panel.plot([a for a, _ in line], [b for _, b in line], color=_INK, linewidth=1.0, label="front", zorder=1)
        panel.scatter(*points[chosen], s=210, facecolors="none", edgecolors=_INK, linewidths=1.6, label="recommended")
        panel.annotate(chosen, points[chosen], xytext=(10, 8), textcoords="offset points", fontsize=8.5)
        panel.set(xlabel=x, ylabel=y)
        panel.legend(loc="best", fontsize=8)
    return figure


def save_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Writes a figure as `stem.svg` and `stem.png`, each whole or not at all; returns where.

    Raises:
        SamecastError: they cannot be written.
    """
    vector, pixels = stem.with_suffix(".svg"), stem.with_suffix(".png")
    with mpl.rc_context(_STYLE):
        replace_file(vector, lambda part: figure.savefig(part, metadata={"Date": None}))
        replace_file(pixels, lambda part: figure.savefig(part, dpi=160))
    return vector, pixels


def _scale(count: int) -> list[Any]:
    """Colours of ordered values: viridis without its palest end, which paper swallows."""
    chosen: Any = mpl.colormaps["viridis"]
    return [chosen(0.92 * number / max(1, count - 1)) for number in range(count)]


def _dot(panel: Any, colour: Any, marker: str, label: str) -> Any:
    return panel.plot([], [], marker, color=colour, label=label, markersize=5)[0]
