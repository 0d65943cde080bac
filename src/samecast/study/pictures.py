"""A study's pictures: strips along each axis, scatters of what it costs and buys, the front, and masks as overlays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from samecast.render.found import overlay
from samecast.report.grid import draw_grid
from samecast.report.panels import Mark, Panel, Row
from samecast.report.plots import Cloud, Interval, pairs, scatter, trade_offs
from samecast.score.statistics import (
    Cells,
    Estimate,
    NothingInCommonError,
    balanced,
    common,
    front,
    levelled,
)
from samecast.study.axes import Value
from samecast.study.findings import IMAGE, TEXT, Rows, mean_points
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid, View
from samecast.study.scoring import means_of

_PANELS = 3
"""Most panels of a scatter plot in one figure."""
_X, _Y = "text alignment (CLIP cosine with the prompt)", "image alignment (CLIP cosine with the photos)"


def scatters(rows: Rows, grid: Grid) -> Iterator[tuple[str, Figure]]:
    """For each axis its scatter plot, split where it has many series."""
    text, image = means_of(rows, TEXT), means_of(rows, IMAGE)
    for axis, views in _by_axis(grid):
        # Where pictures failed, a value is shown if any subject has it, and a series if its values share a subject.
        there = (replace(view, points=tuple(p for p in view.points if p[1] in text)) for view in views)
        complete = [view for view in there if len(view.points) > 1 and _shared(text, image, view)]
        for at in range(0, len(complete), _PANELS):
            clouds = [_cloud(view, text, image) for view in complete[at : at + _PANELS]]
            count = len({subject for of in text.values() for subject in of})
            bars = (
                f"large: mean over {count} subjects; bars: 95% interval of what varies within subjects"
                " (their own levels taken out); small: one subject's mean"
            )
            figure = scatter(clouds, x=_X, y=_Y, axis=axis, bars=bars)
            yield f"scatter-{axis}" + (f"-{at // _PANELS + 1}" if at else ""), figure


def _shared(text: Cells, image: Cells, view: View) -> bool:
    try:
        return all(common(table, [name for _, name in view.points]) for table in (text, image))
    except NothingInCommonError:
        return False


def _by_axis(grid: Grid) -> Iterator[tuple[str, list[View]]]:
    for axis, views in groupby(sorted(grid.views, key=lambda view: view.axis), key=lambda view: view.axis):
        yield axis, list(views)


def _cloud(view: View, text: Mapping[str, Mapping[str, float]], image: Mapping[str, Mapping[str, float]]) -> Cloud:
    points = {
        _label(value): {s: (text[name][s], image[name][s]) for s in text[name] if s in image[name]}
        for value, name in view.points
    }
    names = [name for _, name in view.points]
    x, y = levelled(text, names), levelled(image, names)
    means = {_label(value): (_interval(x[name]), _interval(y[name])) for value, name in view.points}
    return Cloud(view.series, points, means)


def _label(value: Value) -> str:
    return "none" if value is None else str(value)


def _interval(found: Estimate) -> Interval:
    return found.value, found.low, found.high


def site_pairs(rows: Rows, grid: Grid) -> Figure | None:
    """Encoder against decoder for each subject, at the longest span; None where the study has not both."""
    named = {view.series: view.points[-1][1] for view in grid.views if view.axis == "final"}
    named = named or {str(value): name for view in grid.views if view.axis == "sites" for value, name in view.points}
    text, image = means_of(rows, TEXT), means_of(rows, IMAGE)
    if not {"decoder", "encoder"} <= set(named) or not {named["decoder"], named["encoder"]} <= set(text):
        return None
    first, second = named["decoder"], named["encoder"]
    shared = set(text[first]) & set(text[second]) & set(image[first]) & set(image[second])
    if not shared:
        return None
    subjects = {
        subject: (
            (text[first][subject], image[first][subject]),
            (text[second][subject], image[second][subject]),
        )
        for subject in sorted(shared)
    }
    return pairs(subjects, (first, second), x=_X, y=_Y)


def best_front(rows: Rows, grid: Grid, weight: float = 0.5) -> Figure:
    """All settings and the best trade-offs among them, the recommended one marked."""
    points = mean_points(rows)
    kinds = {variant.name: str(variant.fields.get("sites") or "decoder") for variant in grid.variants}
    return trade_offs(points, kinds, front(points), balanced(points, weight), x=_X, y=_Y)


def strips(folder: StudyFolder, grid: Grid, rows: Rows) -> Iterator[tuple[str, Image.Image]]:
    """For each axis and subject: the source, then one panel for each value, a row for each series.

    Of a subject's pictures those of its first photo, prompt and seed are shown.
    """
    by_subject: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_subject.setdefault(f"{row['subject']}{'-hidden' if row['hidden'] else ''}", []).append(row)
    for name, of in by_subject.items():
        subject = folder.subject(name)
        first = of[0]
        shown = {
            row["variant"]: row
            for row in of
            if (row["photos"], row["prompt"], row["seed"]) == (first["photos"], first["prompt"], first["seed"])
        }
        source = Panel(subject.references[int(str(first["photos"]).split("+")[0]) - 1], "source")
        for axis, views in _by_axis(grid):
            drawn = [
                Row((source, *_panels(folder, view, shown)), view.series, f"{axis} varied: {first['prompt']}")
                for view in views
                if any(variant in shown for _, variant in view.points)
            ]
            if drawn:
                yield f"strip-{axis}-{name}", draw_grid(drawn)


def _panels(folder: StudyFolder, view: View, shown: Mapping[str, Mapping[str, Any]]) -> Iterator[Panel]:
    for value, name in view.points:
        if name in shown:
            row = shown[name]
            marks = () if row["both"] is None else (Mark("same", row["identity"]), Mark("scene", row["scene"]))
            caption = f"{view.axis} {_label(value)}"
            yield Panel(folder.picture(row["key"]), caption, marks)


def mask_overlays(folder: StudyFolder) -> Iterator[tuple[str, Image.Image]]:
    """For each subject, what each choice of maps and threshold takes for the subject in its photo."""
    masks = sorted(
        folder.masks(),
        key=lambda of: (of[0]["subject"], of[0]["photo"], of[0]["maps"], str(of[0]["threshold"])),
    )
    for (name, photo), group in groupby(masks, key=lambda of: (of[0]["subject"], of[0]["photo"])):
        picture = folder.subject(name).references[photo - 1]
        rows: list[Row] = []
        for maps, of in groupby(group, key=lambda entry: entry[0]["maps"]):
            panels = tuple(
                Panel(
                    overlay(picture, mask.resize(picture.size)),
                    f"threshold {told['threshold']}: {told['coverage']:.0%}",
                )
                for told, mask in of
            )
            rows.append(Row((Panel(picture, "photo"), *panels), f"maps {maps}"))
        yield f"masks-{name}-{photo}", draw_grid(rows)


def chosen_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that means are made of: those whose photos show the subject whole."""
    return [row for row in rows if not row["hidden"]] or list(rows)
