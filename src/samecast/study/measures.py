"""A study's table of scores as means for each variant and subject, gathered row by row: a matrix for each measure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samecast.metrics import DEFAULT, Metric, leading, metric_types
from samecast.metrics.statistics import Cells, levelled, mean_of

Metrics = Sequence[type[Metric]]
Small = NDArray[np.float32]
_NOTHING: Small = np.full((1, 1), math.nan, np.float32)
"""What stands for a subject of whom there is nothing."""
Points = Mapping[str, tuple[float, float]]
"""For each variant its means of the two metrics whose trade-off counts."""


@dataclass(frozen=True)
class Measures:
    """All measures of a study.

    Args:
        metrics: that it scores; of the first that scores the prompt and the first that scores the subject the trade-off
            counts.
        whole: for each metric's column, of pictures that read photos of the whole subject.
        hidden: likewise, of those that read photos that hide a part of it. Columns are of the same subjects.
    """

    metrics: Metrics
    whole: Mapping[str, Cells]
    hidden: Mapping[str, Cells]

    @cached_property
    def text(self) -> type[Metric]:
        """What scores the prompt in the trade-off."""
        return leading(self.metrics)[0]

    @cached_property
    def image(self) -> type[Metric]:
        """What scores the subject in the trade-off."""
        return leading(self.metrics)[1]

    @property
    def shown(self) -> Mapping[str, Cells]:
        """What means are made of: whole photos, where there are any."""
        return self.whole if self.whole[self.text.column].present else self.hidden

    @property
    def sides(self) -> tuple[Cells, Cells]:
        """What is shown of the two metrics whose trade-off counts."""
        return self.shown[self.text.column], self.shown[self.image.column]

    @property
    def subjects(self) -> int:
        """How many subjects have any picture that is shown."""
        return int(np.isfinite(self.sides[0].values).any(axis=0).sum())

    @property
    def points(self) -> Points:
        """Where each variant is, by its means over the subjects that have it."""
        text, image = self.sides
        return {name: (mean_of(text, name).value, mean_of(image, name).value) for name in text.present if name in image}

    @property
    def merits(self) -> Points:
        """The same so that more is better in both respects: of a distance its negative."""
        across, up = self.text.sign(), self.image.sign()
        return {name: (across * x, up * y) for name, (x, y) in self.points.items()}

    def intervals(self, variants: Sequence[str]) -> dict[str, tuple[Any, Any]]:
        """Both metrics of some variants, with intervals of what varies within subjects."""
        text, image = (levelled(table, variants) for table in self.sides)
        return {name: (text[name], image[name]) for name in variants}


class Gathering:
    """The means of a table whose rows come subject by subject; holds the means alone, not the rows.

    Args:
        variants: all there can be.
        metrics: whose columns the table has.
    """

    def __init__(self, variants: Sequence[str], metrics: Metrics) -> None:
        self._metrics = tuple(metrics)
        self._variants, self._at = tuple(variants), {name: number for number, name in enumerate(variants)}
        self._subjects = list[str]()
        self._found: tuple[list[Small], list[Small]] = [], []
        self._sums = np.zeros((2, len(self._metrics), len(self._at)))
        self._counts = np.zeros_like(self._sums)

    def see(self, row: Mapping[str, Any]) -> None:
        """Takes a row.

        Args:
            row: with `subject`, `hidden`, `variant` and the measures, each a number, a verdict or None.
        """
        if not self._subjects or row["subject"] != self._subjects[-1]:
            self._finish()
            self._subjects.append(row["subject"])
        for number, metric in enumerate(self._metrics):
            if row.get(metric.column) is not None:
                place = int(row["hidden"]), number, self._at[row["variant"]]
                self._sums[place] += float(row[metric.column])
                self._counts[place] += 1

    def _finish(self) -> None:
        if self._subjects:
            means = (self._sums / np.where(self._counts > 0, self._counts, math.nan)).astype(np.float32)
            for found, of, counts in zip(self._found, means, self._counts, strict=True):
                found.append(of.copy() if counts.any() else _NOTHING)
        self._sums[:], self._counts[:] = 0, 0

    def measures(self) -> Measures:
        """All that was gathered; nothing can be added then.

        Raises:
            ValueError: a subject's rows were apart from each other.
        """
        self._finish()
        if len(set(self._subjects)) < len(self._subjects):
            raise ValueError("the rows of a subject must come one after another")
        return Measures(self._metrics, *(self._cells(found) for found in self._found))

    def _cells(self, found: list[Small]) -> dict[str, Cells]:
        values = np.full((len(self._metrics), len(self._at), len(found)), math.nan, np.float32)
        for column, of in enumerate(found):
            values[:, :, column] = of
        found.clear()
        return {
            metric.column: Cells(self._variants, self._subjects, values[number], metric.statistic(), metric.sign())
            for number, metric in enumerate(self._metrics)
        }


def gather(rows: Iterable[Mapping[str, Any]], variants: Sequence[str], metrics: Metrics | None = None) -> Measures:
    """The means of a table whose rows come subject by subject; None are the metrics that a study has by default."""
    found = Gathering(variants, metric_types(DEFAULT) if metrics is None else metrics)
    for row in rows:
        found.see(row)
    return found.measures()
