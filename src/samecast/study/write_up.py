"""The write-up: a study's findings as a page of Markdown, with its figures beside it."""

import shutil
from pathlib import Path

from samecast.checked import read_text
from samecast.disk import replace_file, write_text
from samecast.errors import SamecastError
from samecast.score.statistics import front, mean_of
from samecast.study.findings import Rows, findings, mean_points, recommended
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid
from samecast.study.pictures import chosen_rows
from samecast.study.publish import FIGURES, PAGE, variant_table
from samecast.study.scoring import means_of
from samecast.study.table import Scores

BEGIN, END = "<!-- findings: written by `samecast study report` -->", "<!-- end of findings -->"
_SHOWN = ("front", "scatter-final", "scatter-skip", "scatter-start", "encoder-decoder")


def write_up(folder: StudyFolder, scores: Scores, file: Path) -> None:
    """Writes the findings between two marks of a Markdown file, or a new file, and its figures into `pictures/`.

    Raises:
        SamecastError: there is nothing to write of, or it cannot be written.
    """
    if not scores.rows:
        raise SamecastError(f"{str(folder.path)!r} has no scored picture yet: run it first")
    shown = [name for name in _SHOWN if (folder.path / FIGURES / f"{name}.svg").is_file()]
    for name in shown:
        made = folder.path / FIGURES / f"{name}.svg"
        beside = file.parent / "pictures" / f"study-{name}.svg"
        replace_file(beside, lambda part, made=made: shutil.copyfile(made, part))
    text = f"{BEGIN}\n\n{_markdown(folder, scores, shown)}\n{END}"
    write_text(file, _put(read_text(file) if file.is_file() else "# The study\n", text))


def _put(page: str, text: str) -> str:
    """The page with its findings in place of earlier ones, or at its end."""
    before, begun, rest = page.partition(BEGIN)
    if not begun:
        return f"{page.rstrip()}\n\n{text}\n"
    _, ended, after = rest.partition(END)
    if not ended:
        raise SamecastError(f"the page has {BEGIN!r} and no {END!r} after it")
    return before + text + after


def _markdown(folder: StudyFolder, scores: Scores, figures: list[str]) -> str:
    recipe, rows = folder.recipe(), chosen_rows(scores.rows)
    subjects, prompts, photos = (
        len({tuple(row[name] for name in names) for row in rows})
        for names in (("subject",), ("subject", "prompt"), ("subject", "photos"))
    )
    hidden = " (and as many that hide a part, for the claims on these)" * any(row["hidden"] for row in scores.rows)
    table = variant_table(rows, recipe)
    told = _telling(rows, recipe.grid)
    shown = [row for row in table.rows if row[0] in told]
    lines = [
        f"{subjects} subjects, {prompts / subjects:g} prompts and {photos / subjects:g} photos each{hidden},"
        f" {recipe.seeds} seed, {len(recipe.grid.variants)} settings, {recipe.settings.steps} steps, guidance"
        f" {recipe.settings.guidance:g}, start {recipe.settings.init}; model `{recipe.model}`"
        f" (`{recipe.revision[:19]}`). Intervals are 95%, Student's over subjects. Recommended by CLIP:"
        f" **{recommended(rows)}**.",
        "",
        "| claim | | figures |",
        "|---|---|---|",
        *(f"| {claim} | **{verdict}** | {told} |" for claim, verdict, told in findings(scores.rows, recipe.grid)),
        "",
        *(f"![{name}](pictures/study-{name}.svg)\n" for name in figures),
        f"The ends of every axis, the best trade-offs by CLIP, the best by the truth, and what is on no axis; all"
        f" {len(table.rows)} settings are on the study's `{PAGE}`. Means over subjects with 95% intervals.",
        "",
        f"| {' | '.join(table.columns)} |",
        f"|{'---|' * len(table.columns)}",
        *(f"| {' | '.join(row)} |" for row in shown),
        "",
    ]
    return "\n".join(lines)


def _telling(rows: Rows, grid: Grid) -> set[str]:
    """The settings that tell most of a study: few enough to read."""
    ends = {point[1] for view in grid.views for point in (view.points[0], view.points[-1])}
    on_axes = {name for view in grid.views for _, name in view.points}
    both = means_of(rows, "both")
    best = {max(both, key=lambda name: mean_of(both, name).value)} if both else set[str]()
    return ends | best | set(front(mean_points(rows))) | {v.name for v in grid.variants if v.name not in on_axes}
