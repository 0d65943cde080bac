"""The results of a comparison: a row for each picture, the means of each method, and a grid of pictures."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from samecast.compare.benchmark import COSTS, UNITS, Benchmark, Judgement
from samecast.compare.methods import Method
from samecast.diorama.benchmark import BENCHMARK_VERSION
from samecast.diorama.scenes import WORLD_VERSION
from samecast.disk import replace_picture, write_text
from samecast.metrics import METRICS, metric_types, truths_among
from samecast.photos import open_photo
from samecast.report.grid import draw_grid
from samecast.report.panels import Mark, Panel, Row


def summary(judgements: Sequence[Judgement], methods: Sequence[Method]) -> dict[str, dict[str, float]]:
    """The mean of every score and cost, and the number of pictures, by method."""
    means: dict[str, dict[str, float]] = {}
    for method in methods:
        of = [judgement for judgement in judgements if judgement.method == method.name]
        means[method.name] = {
            measure: float(np.mean([j.value(measure) for j in of])) for measure in (*of[0].scores, *COSTS)
        }
        means[method.name]["pictures"] = len(of)
    return means


def write_results(
    folder: Path, benchmark: Benchmark, judgements: Sequence[Judgement], methods: Sequence[Method]
) -> dict[str, dict[str, float]]:
    """Write `scores.csv` (a row for each picture), `summary.json` and `grid.png` into the run's folder; return the
    summary.

    Raises:
        SamecastError: a file cannot be written.
    """
    means = summary(judgements, methods)
    table = io.StringIO()
    rows = csv.DictWriter(table, list(judgements[0].row()), lineterminator="\n")
    rows.writeheader()
    rows.writerows(judgement.row() for judgement in judgements)
    data = {
        "benchmark": BENCHMARK_VERSION,
        "world": WORLD_VERSION,
        "model": asdict(benchmark.model.backbone.identity),
        "settings": asdict(benchmark.settled),
        "prompts": benchmark.prompts,
        "hidden": benchmark.hidden,
        "subjects": len({judgement.subject for judgement in judgements}),
        "methods": {method.name: {"title": method.title, **means[method.name]} for method in methods},
    }
    write_text(folder / "scores.csv", table.getvalue())
    write_text(folder / "summary.json", json.dumps(data, indent=2) + "\n")
    replace_picture(draw_grid(_grid(folder, judgements, methods)), folder / "grid.png")
    return means


def _grid(folder: Path, judgements: Sequence[Judgement], methods: Sequence[Method]) -> list[Row]:
    """The first three subjects with two pictures each, a row for each method."""
    rows: list[Row] = []
    known = metric_types([name for name in METRICS if METRICS[name].column in judgements[0].scores])
    truths = [metric for about in ("subject", "prompt") for metric in truths_among(known, about)]
    subjects = list(dict.fromkeys(judgement.subject for judgement in judgements))[:3]
    for method in methods:
        panels: list[Panel] = []
        for subject in subjects:
            of = [j for j in judgements if (j.method, j.subject) == (method.name, subject)][:2]
            reference = folder / UNITS / Path(of[0].picture).parent / "reference.png"
            panels.append(Panel(open_photo(reference), "photo"))
            panels += [
                Panel(
                    open_photo(folder / UNITS / j.picture),
                    j.prompt,
                    tuple(Mark(metric.title, bool(j.scores[metric.column])) for metric in truths),
                )
                for j in of
            ]
        rows.append(Row(tuple(panels), method.title))
    return rows
