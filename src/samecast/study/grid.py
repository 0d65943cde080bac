"""Grids: variants, each one setting of the rules, and views, which group them for figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from samecast.attention.rule import Rules
from samecast.errors import SamecastError
from samecast.study.axes import BASE, Axis, Value, make_rules


@dataclass(frozen=True)
class Variant:
    """One setting of the rules.

    Args:
        name: its name, unique within the study.
        fields: its fields by name, for tables; `layers` is in words if it is one of the study's sets.
        rules: its rules.
    """

    name: str
    fields: Mapping[str, Value]
    rules: Rules


@dataclass(frozen=True)
class View:
    """One axis varied with all else fixed: a strip, and a curve in a plot.

    Args:
        axis: the varied field.
        series: what is fixed, in words, usually the set of layers.
        points: the values with the names of their variants.
    """

    axis: str
    series: str
    points: tuple[tuple[Value, str], ...]


@dataclass(frozen=True)
class Grid:
    """All variants of a study, and their views.

    Args:
        variants: the settings to run.
        views: groups of them for figures.
        repeats: number of variants that a full list of every axis names more than once.

    Raises:
        SamecastError: two variants have the same name.
    """

    variants: tuple[Variant, ...]
    views: tuple[View, ...]
    repeats: int = 0

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise SamecastError(f"two settings of the grid are both called {max(names, key=names.count)!r}")


def factorial(
    axes: Sequence[Axis], base: Mapping[str, Value], steps: int, words: Mapping[str, str] | None = None
) -> Grid:
    """Every combination of the axes' values. Each view varies one axis, with the others at their base.

    The base of an axis is the rule's default if that is among its values, else its first value.

    Args:
        axes: at least one; no field twice.
        base: fields that are fixed throughout.
        steps: number of denoising steps.
        words: names of sets of layers; others are named by their selectors.

    Raises:
        SamecastError: an axis is repeated or also in `base`, or values contradict each other.
    """

    def said(field: str, value: Value) -> Value:
        return (words or {}).get(str(value), value) if field == "layers" else value

    fields = [axis.field for axis in axes]
    doubled = [field for field in fields if fields.count(field) > 1 or field in base]
    if doubled or not axes:
        raise SamecastError(f"axis {doubled[0]} is given twice" if doubled else "a grid needs at least one axis")
    given = {**base, **{axis.field: axis.values for axis in axes}}
    idle = [field for field in ("threshold", "map_start", "map_final") if field in given]
    if idle and given.get("maps") in (None, (None,)):
        raise SamecastError(f"{idle[0]} has no effect without maps that mask the subject: give maps too")
    own = {"final": steps, **{field: value for field, value in {**BASE, **base}.items() if value is not None}}
    still = {axis.field: own.get(axis.field) if own.get(axis.field) in axis.values else axis.values[0] for axis in axes}
    variants: list[Variant] = []
    names: dict[tuple[Value, ...], str] = {}
    for values in product(*(axis.values for axis in axes)):
        data = {**base, **dict(zip(fields, values, strict=True))}
        name = ", ".join(f"{field} {said(field, data[field])}" for field in fields)
        variants.append(
            Variant(
                name, {**data, "layers": said("layers", data.get("layers", BASE["layers"]))}, make_rules(data, steps)
            )
        )
        names[values] = name
    views = tuple(
        View(
            axis.field,
            str(said("layers", series)) if series is not None else "all",
            tuple(
                (said(axis.field, value), names[tuple(_pick(field, value, series, axis, still) for field in fields)])
                for value in axis.values
            ),
        )
        for axis in axes
        for series in _series(axis, axes)
    )
    return Grid(tuple(variants), views)


def _series(axis: Axis, axes: Sequence[Axis]) -> tuple[str | None, ...]:
    """Layers that are varied too are shown side by side."""
    if axis.field == "layers":
        return (None,)
    return next((tuple(map(str, other.values)) for other in axes if other.field == "layers"), (None,))


def _pick(field: str, value: Value, series: str | None, axis: Axis, still: Mapping[str, Value]) -> Value:
    if field == axis.field:
        return value
    return series if field == "layers" and series is not None else still[field]


def runs_of(grid: Grid) -> int:
    """The number of runs that a grid lists, with those shared by two axes counted twice, like the AIKU study's 44."""
    return len(grid.variants) + grid.repeats


def only(grid: Grid, names: Sequence[str]) -> Grid:
    """The grid restricted to some of its variants."""
    wanted = set(names)
    views = (replace(view, points=tuple(p for p in view.points if p[1] in wanted)) for view in grid.views)
    return Grid(tuple(v for v in grid.variants if v.name in wanted), tuple(view for view in views if view.points))
