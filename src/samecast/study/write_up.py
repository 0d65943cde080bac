"""The write-up: a study's findings as a Markdown page with figures."""

import shutil
from pathlib import Path

from samecast.checked import read_text
from samecast.disk import replace_file, write_text
from samecast.errors import SamecastError
from samecast.metrics import truths_among
from samecast.metrics.statistics import front, mean_of
from samecast.study.findings import recommended, summing_up
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid
from samecast.study.kept_subjects import Unreadable
from samecast.study.measures import Measures
from samecast.study.publish import FIGURES, PAGE, Published, interval_words, variant_table

BEGIN, END = "<!-- findings: written by `samecast study report` -->", "<!-- end of findings -->"
_SHOWN = ("front", "scatter-final", "scatter-skip", "scatter-start", "scatter-layers", "encoder-decoder")


def write_up(folder: StudyFolder, found: Published, file: Path) -> None:
    """Writes the findings between two markers of a Markdown file, or to a new file, and the figures into `pictures/`.

    Raises:
        SamecastError: the study has no scored picture, or a file cannot be written.
    """
    if not found.count:
        raise SamecastError(f"{str(folder.path)!r} has no scored picture yet: run it first")
    shown = [name for name in _SHOWN if (folder.path / FIGURES / f"{name}.svg").is_file()]
    for name in shown:
        made = folder.path / FIGURES / f"{name}.svg"
        beside = file.parent / "pictures" / f"study-{name}.svg"
        replace_file(beside, lambda part, made=made: shutil.copyfile(made, part))
    text = f"{BEGIN}\n\n{_markdown(folder, found, shown)}\n{END}"
    write_text(file, _put(read_text(file) if file.is_file() else "# The study\n", text))


def _put(page: str, text: str) -> str:
    """The page with its findings replaced, or appended at its end."""
    before, begun, rest = page.partition(BEGIN)
    if not begun:
        return f"{page.rstrip()}\n\n{text}\n"
    _, ended, after = rest.partition(END)
    if not ended:
        raise SamecastError(f"the page has {BEGIN!r} but no {END!r} after it")
    return before + text + after


def _markdown(folder: StudyFolder, found: Published, figures: list[str]) -> str:
    recipe, measures = folder.recipe(), found.measures
    prompts, photos, hidden = _extent(folder)
    also = " (and as many that hide a part, for the claims on these)" * hidden
    table = variant_table(measures, recipe)
    data = _reporting(measures, recipe.grid)
    shown = [row for row in table.rows if row[0] in data]
    lines = [
        f"{measures.subjects} subjects, {prompts:g} prompts and {photos:g} photos each{also},"
        f" {recipe.seeds} seed, {len(recipe.grid.variants)} settings, {recipe.settings.num_inference_steps} steps,"
        f" guidance {recipe.settings.guidance:g}, start {recipe.settings.init}, pairing {recipe.settings.pairing};"
        f" model `{recipe.model}` (`{recipe.revision[:19]}`). {interval_words(measures.subjects).capitalize()}."
        f" Recommended by {measures.text.words} and {measures.image.words}: **{recommended(measures)}**.",
        "",
        *(
            [
                summing_up(found.statements, measures.subjects),
                "",
                "| claim | | p, Holm | figures |",
                "|---|---|---|---|",
                *(
                    f"| {one.claim} | **{one.verdict}** | {one.chance.replace('p ', '').replace('Holm ', '')} |"
                    f" {one.figures} |"
                    for one in found.statements
                ),
                "",
            ]
            if found.statements
            else []
        ),
        *(f"![{name}](pictures/study-{name}.svg)\n" for name in figures),
        f"The ends of every axis, the best trade-offs, the best by the truth, and settings on no axis; all"
        f" {len(table.rows)} settings are on the study's `{PAGE}`. Means over subjects.",
        "",
        f"| {' | '.join(table.columns)} |",
        f"|{'---|' * len(table.columns)}",
        *(f"| {' | '.join(row)} |" for row in shown),
        "",
    ]
    return "\n".join(lines)


def _extent(folder: StudyFolder) -> tuple[float, float, bool]:
    """The number of prompts and photos per subject, and whether any are hidden."""
    photos_of = folder.recipe().photos
    subjects = [subject for subject in folder.subjects() if not isinstance(subject, Unreadable)]
    whole = [subject for subject in subjects if not subject.hidden] or subjects
    photos = [1 if photos_of == "first" else len(subject.references) for subject in whole]
    return (
        sum(len(subject.prompts) for subject in whole) / len(whole),
        sum(photos) / len(whole),
        any(subject.hidden for subject in subjects) and len(whole) < len(subjects),
    )


def _reporting(measures: Measures, grid: Grid) -> set[str]:
    """The settings that the page lists."""
    ends = {point[1] for view in grid.views for point in (view.points[0], view.points[-1])}
    on_axes = {name for view in grid.views for _, name in view.points}
    truths = [measures.shown[metric.column] for metric in truths_among(measures.metrics, "picture")]
    best = {max(of.present, key=lambda name: mean_of(of, name).value) for of in truths if of.present}
    return ends | best | set(front(measures.merits)) | {v.name for v in grid.variants if v.name not in on_axes}
