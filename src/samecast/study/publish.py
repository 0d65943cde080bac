"""The results of a study: its table, its figures, and a page with both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.disk import replace_picture, write_text
from samecast.metrics.statistics import METHODS, Cells, Estimate, estimate, mean_of
from samecast.report.article import Article, Plate, Section, Statement, article_html
from samecast.report.page import Table
from samecast.report.plots import save_figure
from samecast.study.claims import INTERVALS
from samecast.study.figures import best_front, layer_pairs, scatters
from samecast.study.findings import findings, recommended, summing_up
from samecast.study.folder import StudyFolder
from samecast.study.measures import Gathering, Measures
from samecast.study.pictures import Samples, mask_overlays, strips
from samecast.study.recipe import Recipe
from samecast.study.scoring import metrics_of
from samecast.study.table import Rows, write_table

PAGE, FIGURES = "index.html", "figures"
_SUBJECTS, _MASKS = 32, 48
"""Largest number of subjects with strips, and of photos with masks, so that browsers can open the page."""


@dataclass(frozen=True)
class Published:
    """The results of a study.

    Args:
        count: number of finished and scored pictures.
        missing: number of all other pictures.
        measures: means by variant and subject.
        statements: the outcome of each claim.
    """

    count: int
    missing: int
    measures: Measures
    statements: Sequence[Statement]


def publish(folder: StudyFolder) -> Published:
    """Writes the table, and if there are scores, the figures and the page.

    Raises:
        SamecastError: a file cannot be written, or an existing table would become empty.
    """
    recipe = folder.recipe()
    metrics = metrics_of(recipe)
    rows, types = Rows(folder, metrics), [type(metric) for metric in metrics]
    gathering = Gathering([variant.name for variant in recipe.grid.variants], types)
    samples = Samples(_SUBJECTS)

    def see(row: Mapping[str, Any]) -> None:
        gathering.see(row)
        samples.see(row)

    write_table(rows, see)
    measures = gathering.measures()
    found = Published(rows.count, rows.missing, measures, findings(measures, recipe.grid))
    if rows.count:
        masks = list(folder.masks())
        plates = _draw(folder, recipe, found, samples, masks)
        article = _article(folder, recipe, found, samples, plates, [data for _, data in masks])
        write_text(folder.path / PAGE, article_html(article))
    return found


def _draw(
    folder: StudyFolder,
    recipe: Recipe,
    found: Published,
    samples: Samples,
    masks: Sequence[tuple[str, Mapping[str, Any]]],
) -> dict[str, list[Plate]]:
    place, measures, grid = folder.path / FIGURES, found.measures, recipe.grid
    drawn: dict[str, list[Plate]] = {"scatter": [], "front": [], "pairs": [], "strip": [], "masks": []}
    for name, figure in scatters(measures, grid, found.statements):
        drawn["scatter"].append(Plate(_svg(save_figure(figure, place / name)[0])))
    drawn["front"].append(Plate(_svg(save_figure(best_front(measures, grid), place / "front")[0])))
    pairs = layer_pairs(measures, grid, found.statements)
    if pairs is not None:
        drawn["pairs"].append(Plate(_svg(save_figure(pairs, place / "encoder-decoder")[0])))
    for kind, pictures in (
        ("strip", strips(folder, grid, samples, measures.metrics)),
        ("masks", mask_overlays(folder, masks, _MASKS)),
    ):
        for name, picture in pictures:
            replace_picture(picture, place / f"{name}.png")
            drawn[kind].append(Plate.of(picture, name.partition("-")[2]))
    return drawn


def _svg(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def interval_words(subjects: int) -> str:
    """A note on the intervals of means."""
    return "one subject, so no intervals" if subjects == 1 else INTERVALS


def variant_table(measures: Measures, recipe: Recipe) -> Table:
    """A row for each variant with its means over subjects and their intervals."""
    tables = {
        metric.title: measures.shown[metric.column]
        for metric in measures.metrics
        if measures.shown[metric.column].present and not metric.is_detail
    }
    return Table(
        ("setting", *tables),
        tuple(
            (variant.name, *(_cell(table, variant.name) for table in tables.values()))
            for variant in recipe.grid.variants
            if variant.name in measures.sides[0]
        ),
        f"means over subjects; {interval_words(measures.subjects)}; click a heading to sort",
    )


def _cell(table: Cells, variant: str) -> str:
    return str(mean_of(table, variant)) if variant in table else "-"


def mask_table(masks: Sequence[Mapping[str, Any]]) -> Table | None:
    """The accuracy of the masks in photos, by maps and threshold; None if no rule finds masks."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for data in masks:
        found.setdefault((str(data["maps"]), str(data["threshold"])), []).append(data)
    if not found:
        return None
    known = any(data["iou"] is not None for data in masks)
    rows = [
        (
            maps,
            threshold,
            str(_over_subjects(of, "coverage")),
            *((str(_over_subjects(of, "iou")),) if known else ()),
        )
        for (maps, threshold), of in sorted(found.items())
    ]
    columns = ("maps", "threshold", "coverage", *(("IoU with the true mask",) if known else ()))
    subjects = len({data["subject"] for data in masks})
    beside = f"95% intervals, {METHODS['share']}" if subjects > 1 else interval_words(1)
    return Table(columns, tuple(rows), f"masks found in the photos: means over subjects; {beside}")


def _revision(models: Mapping[str, str], name: str) -> str:
    data = models.get(f"{name}_revision", "")
    return f" ({data[:19]})" if data else ""


def _over_subjects(masks: Sequence[Mapping[str, Any]], measure: str) -> Estimate:
    of: dict[str, list[float]] = {}
    for data in masks:
        if data[measure] is not None:
            of.setdefault(str(data["subject"]), []).append(float(data[measure]))
    return estimate([sum(values) / len(values) for values in of.values()], "share")


def _article(
    folder: StudyFolder,
    recipe: Recipe,
    found: Published,
    samples: Samples,
    plates: Mapping[str, list[Plate]],
    masks: Sequence[Mapping[str, Any]],
) -> Article:
    measures, chosen = found.measures, recommended(found.measures)
    models = {name: value for metric in metrics_of(recipe) for name, value in metric.facts().items()}
    asked = {name: f"{value}{_revision(models, name)}" for name, value in models.items() if "_revision" not in name}
    some = f"Of the first {samples.shown} of {samples.seen} subjects." if samples.shown < samples.seen else ""
    sections = [
        Section(
            "The best trade-offs",
            f"Recommended: {chosen}. Of the best trade-offs, it is the one nearest to the best {measures.text.words}"
            f"  and {measures.image.words}, each scaled by its spread over all settings; of several that are equally"
            " near, the one that is listed first.",
            plates=plates["front"],
        ),
        Section(
            "Claims",
            summing_up(found.statements, measures.subjects) if found.statements else "",
            found.statements,
        ),
        Section("Axis by axis", plates=plates["scatter"]),
        Section("Encoder against decoder, subject by subject", plates=plates["pairs"]),
        Section("Strips", some, plates=plates["strip"]),
        Section("Masks from attention maps", plates=plates["masks"], table=mask_table(masks)),
        Section("All settings", table=variant_table(measures, recipe)),
    ]
    missing = f" {found.missing} pictures are missing." if found.missing else ""
    return Article(
        recipe.title,
        f"{found.count} pictures of {measures.subjects} {'subject' if measures.subjects == 1 else 'subjects'} under"
        f" {len(recipe.grid.variants)} settings.{missing}",
        [section for section in sections if section.plates or section.statements or section.table or section.text],
        {
            "model": f"{recipe.model} ({recipe.revision[:19]}, {recipe.dtype})",
            "steps": str(recipe.settings.num_inference_steps),
            "guidance": str(recipe.settings.guidance),
            "start": str(recipe.settings.init),
            "pairing": recipe.settings.pairing or "",
            **asked,
            "folder": folder.path.name,
        },
    )
