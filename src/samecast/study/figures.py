"""A study's figures: the trade-off along each axis, the Pareto front, and decoder layers against encoder layers."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from samecast.metrics.statistics import Cells, Estimate, NothingInCommonError, balanced, front, levelled, shared
from samecast.report.article import Statement
from samecast.report.plots import Cloud, Figure, Interval, Point, pairs, scatter, trade_offs
from samecast.study.axes import Value
from samecast.study.findings import LAYERS
from samecast.study.grid import Grid, View
from samecast.study.measures import Measures

_PANELS = 3
"""Largest number of panels in one figure."""
_DRAWN = 200
"""Largest number of subjects with points of their own; means are over all subjects."""


def scatters(measures: Measures, grid: Grid, found: Sequence[Statement]) -> Iterator[tuple[str, Figure]]:
    """A scatter plot for each axis, split if it has many series, with the findings on it."""
    text, image = measures.sides
    for axis, views in by_axis(grid):
        # If pictures are missing, a value is shown if any subject has it, and a series if its values share a subject.
        there = (View(view.axis, view.series, tuple(p for p in view.points if p[1] in text)) for view in views)
        complete = [view for view in there if len(view.points) > 1 and _shared(text, image, view)]
        for at in range(0, len(complete), _PANELS):
            part = complete[at : at + _PANELS]
            clouds = [_cloud(view, text, image, found) for view in part]
            values = dict.fromkeys(value for view in part for value, _ in view.points)
            bars = f"large: {_means(measures.subjects)}; small: one subject's mean{_some(measures.subjects)}"
            x, y = measures.text.label(), measures.image.label()
            figure = scatter(clouds, x=x, y=y, axis=axis, ordered=_ordered(list(values)), bars=bars)
            yield f"scatter-{axis}" + (f"-{at // _PANELS + 1}" if at else ""), figure


def _means(subjects: int) -> str:
    if subjects == 1:
        return "the one subject's mean, without interval"
    return f"mean over {subjects} subjects; bars: 95% interval (Student's) within subjects, their own levels taken out"


def _some(subjects: int) -> str:
    return f", of the first {_DRAWN} subjects" if subjects > _DRAWN else ""


def _ordered(values: Sequence[Value]) -> list[str]:
    """The numbers among an axis's values, as layers and words have no order."""
    return [label(value) for value in sorted(value for value in values if isinstance(value, int | float))]


def _shared(text: Cells, image: Cells, view: View) -> bool:
    try:
        return all(shared(table, [name for _, name in view.points]).size for table in (text, image))
    except NothingInCommonError:
        return False


def by_axis(grid: Grid) -> Iterator[tuple[str, list[View]]]:
    """The grid's views by axis."""
    for axis, views in groupby(sorted(grid.views, key=lambda view: view.axis), key=lambda view: view.axis):
        yield axis, list(views)


def _cloud(view: View, text: Cells, image: Cells, found: Sequence[Statement]) -> Cloud:
    names = [name for _, name in view.points]
    x, y = levelled(text, names), levelled(image, names)
    points = {label(value): _points(text, image, name) for value, name in view.points}
    means = {label(value): (_interval(x[name]), _interval(y[name])) for value, name in view.points}
    about = LAYERS if view.axis == LAYERS[0] else (view.axis, view.series)
    return Cloud(view.series, points, means, notes(found, about))


def notes(found: Sequence[Statement], about: tuple[str, str]) -> list[str]:
    """The findings on one axis, a line each, for its figure."""
    data = (statement for statement in found if statement.about == about and statement.short)
    return [f"{one.short}: {one.verdict}" + (f" ({one.adjusted})" if one.adjusted else "") for one in data]


def _points(text: Cells, image: Cells, name: str) -> dict[str, Point]:
    x, y = text.row(name), image.row(name)
    there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))[:_DRAWN]
    return {text.subjects[at]: (float(x[at]), float(y[at])) for at in there}


def label(value: Value) -> str:
    """A value of an axis in words."""
    return "none" if value is None else str(value)


def _interval(found: Estimate) -> Interval:
    return found.value, found.low, found.high


def layer_pairs(measures: Measures, grid: Grid, found: Sequence[Statement]) -> Figure | None:
    """Encoder against decoder layers for each subject, at the longest span; None if the study lacks one of them."""
    named = {view.series: view.points[-1][1] for view in grid.views if view.axis == "final"}
    named = named or {str(value): name for view in grid.views if view.axis == "layers" for value, name in view.points}
    if not {"decoder", "encoder"} <= set(named):
        return None
    text, image = measures.sides
    first, second = (_points(text, image, named[layer]) for layer in ("decoder", "encoder"))
    subjects = {subject: (first[subject], second[subject]) for subject in sorted(set(first) & set(second))}
    if not subjects:
        return None
    footnote = f"the first {_DRAWN} of {measures.subjects} subjects" if measures.subjects > _DRAWN else ""
    names = named["decoder"], named["encoder"]
    x, y = measures.text.label(), measures.image.label()
    return pairs(subjects, names, x=x, y=y, notes=notes(found, LAYERS), footnote=footnote)


def best_front(measures: Measures, grid: Grid, weight: float = 0.5, scale: tuple[float, float] | None = None) -> Figure:
    """All settings and the best trade-offs among them, with intervals and the recommended one marked; `weight` and
    `scale` as for `balanced`."""
    points, merits = measures.points, measures.merits
    kinds = {variant.name: str(variant.fields.get("layers") or "decoder") for variant in grid.variants}
    names = front(merits)
    bars: dict[str, tuple[Interval, Interval]] = {}
    for name in names:
        x, y = points[name]
        bars[name] = (x, np.nan, np.nan), (y, np.nan, np.nan)
    try:
        within = measures.intervals(names)
        bars |= {name: (_interval(x), _interval(y)) for name, (x, y) in within.items()}
        data = _means(measures.subjects)
    except NothingInCommonError:
        data = "means over the subjects that each setting has; no subject has all of the front, so it has no intervals"
    x, y = measures.text.label(), measures.image.label()
    return trade_offs(points, kinds, bars, balanced(merits, weight, scale), x=x, y=y, bars=data)
