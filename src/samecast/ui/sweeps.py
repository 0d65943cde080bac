"""Comparing settings: two runs under one divider, and sweeps of one or two settings by the study's machinery."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from samecast.attention.rule import Rules
from samecast.cli.options.render import RenderOptions
from samecast.cli.render import run_of
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.study.axes import Axis, parse_axis
from samecast.study.grid import Grid, Variant, factorial
from samecast.subject import several_subjects
from samecast.ui.form import values_of_rules
from samecast.ui.jobs import Job
from samecast.ui.place import STUDIES
from samecast.ui.studio import Studio

MOST_CELLS = 64
VALUES = {
    "final": "0.2,0.4,0.6,0.8",
    "start": "0.0,0.08,0.2,0.4",
    "layers": "encoder,decoder,10-12,13-15",
    "skip": "none,3,6",
    "stride": "1,2,4",
}
"""Settings to vary, each with values to begin with."""


def read_axes(first: tuple[str, str], second: tuple[str, str], steps: int) -> tuple[list[Axis], Grid]:
    """The axes of a sweep, and its grid.

    Raises:
        SamecastError: a value cannot be read, or there are too many.
    """
    axes = [parse_axis(f"{field}={values}") for field, values in (first, second) if field]
    if not axes:
        raise SamecastError("choose a setting to vary")
    count = len(axes[0].values) * (len(axes[1].values) if len(axes) > 1 else 1)
    if count > MOST_CELLS:
        raise SamecastError(f"{count} pictures are more than the {MOST_CELLS} of a sweep: give fewer values")
    return axes, factorial(axes, {}, steps)


def sweep_name(options: RenderOptions, axes: Sequence[Axis]) -> str:
    """The name of a sweep's folder: the same sweep has the same, so that it goes on."""
    facts = [repr(options), [(axis.field, axis.values) for axis in axes]]
    facts += [sha256(Path(photo).read_bytes()).hexdigest() for photo in options.reference]
    key = sha256(json.dumps(facts, default=str).encode()).hexdigest()[:8]
    return "-".join(["sweep", *(axis.field for axis in axes), key])


def sweep_job(studio: Studio, job: Job, options: RenderOptions, axes: list[Axis], grid: Grid) -> dict[str, Any]:
    """Makes and scores the pictures of a sweep that are not there yet; returns them as a table of cells."""
    from samecast.experiments.executors import Watch
    from samecast.study.job import prepare, run_study
    from samecast.study.publish import publish
    from samecast.study.recipe import Recipe
    from samecast.study.subjects import StudySubject
    from samecast.study.unit import ExecutionConfig

    run, model = run_of(options), studio.model
    subjects = several_subjects(run.subject)
    if len(subjects) != 1:
        raise SamecastError(f"a sweep takes one subject; got {len(subjects)}")
    name = sweep_name(replace(options, out=None), axes)
    settings = replace(run.settings, num_images_per_prompt=1, check_inversion=False, source_memory=None)
    recipe = Recipe(grid, settings, studio.name, "", "", title=name)
    photos = tuple(open_photo(Path(str(photo))) for photo in subjects[0].references[:1])
    noun = subjects[0].class_noun
    subject = StudySubject(noun or "subject", run.prompts, photos, noun, run.settings.source_prompt)
    job.report("sweep", 0, 0)
    folder, recipe = prepare(studio.root.path / STUDIES / name, recipe, [subject], model.backbone)
    job.about["folder"] = f"{STUDIES}/{name}"
    watch = Watch(progress=lambda unit, done, total: job.report("sweep", done, total))
    ran = run_study(folder, ExecutionConfig(folder.path), backbone=model.backbone, watch=watch)
    failures = folder.failures()
    if failures:
        raise SamecastError(f"the sweep could not be made: {failures[0].get('reason', failures[0])}"[:300])
    publish(folder)
    made = sum(tally.made for tally in ran.tallies)
    table = sweep_table(studio, folder, recipe, axes, run.prompts)
    return table | {
        "folder": studio.root.name(folder.path),
        "tally": f"{made} made, {ran.kept} kept · {table['tally']}",
    }


def sweep_table(
    studio: Studio, folder: Any, recipe: Any, axes: Sequence[Axis], prompts: Sequence[str]
) -> dict[str, Any]:
    """The pictures of the first prompt, with scores that are means over all."""
    from samecast.study.scoring import metrics_of
    from samecast.study.table import Rows

    metrics = [metric for metric in metrics_of(recipe) if not metric.is_detail]
    of: dict[str, list[dict[str, Any]]] = {}
    for row in Rows(folder, metrics_of(recipe)):
        of.setdefault(row["variant"], []).append(row)

    def cell(variant: Variant) -> dict[str, Any]:
        rows = of.get(variant.name, [])
        scores: dict[str, str] = {}
        for metric in metrics:
            known = [float(row[metric.column]) for row in rows if row[metric.column] is not None]
            if known:
                scores[metric.name] = f"{sum(known) / len(known):.3f}"
        shown = next((row for row in rows if row["prompt"] == prompts[0]), None)
        picture = f"{studio.root.name(folder.path)}/{shown['picture']}" if shown else ""
        return {"name": variant.name, "picture": picture, "scores": scores}

    cells = [cell(variant) for variant in recipe.grid.variants]
    return {**_arranged(cells, axes), "tally": f"{prompts[0]}; scores are means over {len(prompts)} scene(s)"}


def _arranged(cells: Sequence[dict[str, Any]], axes: Sequence[Axis]) -> dict[str, Any]:
    """Cells in rows: the first axis goes across, the second down."""
    across = axes[0].values
    down: Sequence[Any] = axes[1].values if len(axes) > 1 else ("",)
    rows = [
        {"name": str(value), "cells": [cells[at * len(down) + number] for at in range(len(across))]}
        for number, value in enumerate(down)
    ]
    corner = axes[0].field if len(axes) == 1 else f"{axes[1].field} ↓ {axes[0].field} →"
    return {"columns": [str(value) for value in across], "rows": rows, "corner": corner}


def values_of_cell(axes: Sequence[Axis], grid: Grid, name: str) -> tuple[Mapping[str, Any], Rules]:
    """The form's values for one setting of a sweep, and its rules.

    Raises:
        SamecastError: there is no such setting.
    """
    variant = next((each for each in grid.variants if each.name == name), None)
    values = None if variant is None else values_of_rules(variant.rules)
    if variant is None or values is None:
        raise SamecastError("this setting is no more: run the sweep again")
    return values, variant.rules
