"""What comes out of a study: its table, its figures, and one page with all of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samecast.disk import replace_picture, write_text
from samecast.errors import SamecastError
from samecast.report.article import Article, Plate, Section, article_html
from samecast.report.page import Table
from samecast.report.plots import save_figure
from samecast.score.statistics import Cells, Estimate, estimate, mean_of
from samecast.study.findings import IMAGE, TEXT, findings, recommended
from samecast.study.folder import StudyFolder
from samecast.study.pictures import best_front, chosen_rows, mask_overlays, scatters, site_pairs, strips
from samecast.study.recipe import Recipe
from samecast.study.scoring import ALIGNMENTS, VERDICTS, Scorers, means_of
from samecast.study.table import PARQUET, Scores, read_scores, write_scores

PAGE, FIGURES = "index.html", "figures"
_STRIPS, _MASKS = 128, 48
"""Pictures on the page, which is to stay one that opens; all are among the figures."""
_HEADINGS = {
    TEXT: "text",
    IMAGE: "image",
    "dino_alignment": "DINO",
    "identity": "same subject",
    "scene": "scene as asked",
    "both": "both right",
}


def publish(folder: StudyFolder, scorers: Scorers) -> Scores:
    """Writes the table, and where there is anything to show the figures and the page.

    Raises:
        SamecastError: they cannot be written, or nothing is left of a table that was there: keys hold the version of
            samecast and of those who judge.
    """
    recipe = folder.recipe()
    scores = read_scores(folder, scorers)
    if not scores.rows and (folder.path / PARQUET).is_file():
        raise SamecastError(
            f"{str(folder.path / PARQUET)!r} is left as it is: this version of samecast, with these scorers, has made"
            f" none of its pictures and scores; samecast study --resume {folder.path} makes them anew"
        )
    write_scores(folder, scores, scorers)
    if scores.rows:
        plates = _draw(folder, recipe, scores)
        write_text(folder.path / PAGE, article_html(_article(folder, recipe, scores, scorers, plates)))
    return scores


def _draw(folder: StudyFolder, recipe: Recipe, scores: Scores) -> dict[str, list[Plate]]:
    place, rows = folder.path / FIGURES, chosen_rows(scores.rows)
    drawn: dict[str, list[Plate]] = {"scatter": [], "front": [], "pairs": [], "strip": [], "masks": []}
    for name, figure in scatters(rows, recipe.grid):
        drawn["scatter"].append(Plate(_svg(save_figure(figure, place / name)[0])))
    drawn["front"].append(Plate(_svg(save_figure(best_front(rows, recipe.grid), place / "front")[0])))
    pairs = site_pairs(rows, recipe.grid)
    if pairs is not None:
        drawn["pairs"].append(Plate(_svg(save_figure(pairs, place / "encoder-decoder")[0])))
    for kind, pictures in (("strip", strips(folder, recipe.grid, scores.rows)), ("masks", mask_overlays(folder))):
        for name, picture in pictures:
            replace_picture(picture, place / f"{name}.png")
            drawn[kind].append(Plate(picture, name.partition("-")[2]))
    return drawn


def _svg(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _left_out(plates: Sequence[Plate], most: int) -> str:
    return f"The first {most} of {len(plates)}; all are in the folder {FIGURES}." if len(plates) > most else ""


def variant_table(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> Table:
    """A row for each variant with its means over subjects, and their intervals where they are verdicts or cosines."""
    measures = [name for name in (*ALIGNMENTS, *VERDICTS) if any(row[name] is not None for row in rows)]
    tables = {name: means_of(rows, name) for name in measures}
    return Table(
        ("setting", *(_HEADINGS[name] for name in measures)),
        tuple(
            (variant.name, *(_cell(tables[name], variant.name) for name in measures))
            for variant in recipe.grid.variants
            if variant.name in tables[TEXT]
        ),
        "means over subjects with 95% intervals; a heading sorts",
    )


def _cell(table: Cells, variant: str) -> str:
    return str(mean_of(table, variant)) if variant in table else "-"


def mask_table(masks: Sequence[Mapping[str, Any]]) -> Table | None:
    """How well each choice of maps and threshold finds the subject in its photos; None where no rule looked."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for told in masks:
        found.setdefault((str(told["maps"]), str(told["threshold"])), []).append(told)
    if not found:
        return None
    known = any(told["iou"] is not None for told in masks)
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
    return Table(columns, tuple(rows), "masks found in the photos: means over subjects with 95% intervals")


def _over_subjects(masks: Sequence[Mapping[str, Any]], measure: str) -> Estimate:
    of: dict[str, list[float]] = {}
    for told in masks:
        if told[measure] is not None:
            of.setdefault(str(told["subject"]), []).append(float(told[measure]))
    return estimate([sum(values) / len(values) for values in of.values()])


def _article(
    folder: StudyFolder, recipe: Recipe, scores: Scores, scorers: Scorers, plates: Mapping[str, list[Plate]]
) -> Article:
    rows = chosen_rows(scores.rows)
    chosen = recommended(rows)
    subjects = len({row["subject"] for row in rows})
    statements = findings(scores.rows, recipe.grid)
    sections = [
        Section(
            "The best trade-offs",
            f"Recommended: {chosen}. It is the setting on the front that is nearest to best in text and in image"
            " alignment, each scaled to its range over the front.",
            plates=plates["front"],
        ),
        Section("What holds", "Each claim with its figure and 95% interval over subjects.", statements),
        Section("Axis by axis", plates=plates["scatter"]),
        Section("Encoder against decoder, subject by subject", plates=plates["pairs"]),
        Section("Strips", _left_out(plates["strip"], _STRIPS), plates=plates["strip"][:_STRIPS]),
        Section(
            "Where maps see the subject",
            _left_out(plates["masks"], _MASKS),
            plates=plates["masks"][:_MASKS],
            table=mask_table([told for told, _ in folder.masks()]),
        ),
        Section("All settings", table=variant_table(rows, recipe)),
    ]
    missing = f" {scores.missing} pictures are missing." if scores.missing else ""
    return Article(
        recipe.title,
        f"{len(scores.rows)} pictures of {subjects} subjects under {len(recipe.grid.variants)} settings.{missing}",
        [section for section in sections if section.plates or section.statements or section.table or section.text],
        {
            "model": f"{recipe.model} ({recipe.revision[:19]}, {recipe.dtype})",
            "steps": str(recipe.settings.steps),
            "guidance": str(recipe.settings.guidance),
            "start": str(recipe.settings.init),
            "CLIP": f"{scorers.facts['clip']['id']} ({scorers.facts['clip']['revision'][:19]}), raw cosine",
            "folder": folder.path.name,
        },
    )
