"""Study: open a study's folder, to see how far it is and what came out."""

import csv
from functools import partial
from statistics import fmean
from typing import Any

import gradio as gr

from samecast.errors import SamecastError
from samecast.ui.place import STUDY_RECORD
from samecast.ui.studio import Studio
from samecast.ui.tabs.render import QUIET
from samecast.ui.widgets import widget

_MOST_ROWS, _MOST_SUBJECTS, _MOST_FIGURES = 200, 40, 24
_MOST_BYTES = 64 * 2**20


def study_tab(studio: Studio, tab: gr.Tab) -> None:
    """Builds the tab.

    Args:
        studio: whose root the studies lie in.
        tab: itself; the list is read again whenever the tab is chosen.
    """
    with gr.Row():
        chosen = gr.Dropdown([], label="Study", allow_custom_value=True, elem_id="study")
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=100)
    shown = widget("study", elem_id="study-shown")

    def listed() -> Any:
        return gr.update(choices=[studio.root.name(folder) for folder in studio.root.folders((STUDY_RECORD,))])

    def show(name: str | None) -> Any:
        return show_study(studio, name) if name else {}

    gr.on([tab.select, refresh.click], listed, None, chosen, **QUIET)
    gr.on([chosen.change, refresh.click], show, chosen, shown, **QUIET)
    gr.Timer(3.0).tick(partial(_alive, studio), [chosen, shown], shown, **QUIET)


def _alive(studio: Studio, name: str | None, before: Any) -> Any:
    """The study as it is now, while it is not finished."""
    going = isinstance(before, dict) and before.get("going")
    return show_study(studio, name) if name and going else gr.skip()


def show_study(studio: Studio, name: str) -> dict[str, Any]:
    """A study's state, figures and means, read from its folder; or what is wrong with that."""
    from samecast.study.folder import StudyFolder
    from samecast.study.job import status

    try:
        path = studio.root.find(name)
        states = list(status(StudyFolder(path)))
    except SamecastError as error:
        return {"fault": str(error)}
    done, total = sum(each.done for each in states), sum(each.total for each in states)
    name = studio.root.name(path)
    page, table = path / "index.html", path / "scores.csv"
    columns, rows = _means(table) if table.is_file() else ([], [])
    of_stem = {file.stem: file for kind in ("png", "svg") for file in (path / "figures").glob(f"*.{kind}")}
    figures = sorted(of_stem.values())
    return {
        "name": name,
        "going": done < total,
        "tally": f"{len(states)} subject{'s' * (len(states) != 1)} · {done:,} of {total:,} pictures",
        "status": [[each.name, each.done, each.total, each.state] for each in states[:_MOST_SUBJECTS]],
        "columns": columns,
        "settings": rows,
        "figures": [f"{name}/figures/{file.name}" for file in figures[:_MOST_FIGURES]],
        "page": f"{name}/index.html" if page.is_file() else "",
        "table": f"{name}/scores.csv" if table.is_file() else "",
    }


def _means(table: Any) -> tuple[list[str], list[list[str]]]:
    """The mean of each score for each setting."""
    from samecast.metrics import METRICS

    if table.stat().st_size > _MOST_BYTES:
        return [], []
    scores = [metric.column for metric in METRICS.values() if not metric.is_detail]
    of: dict[str, dict[str, list[float]]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            known = of.setdefault(row["variant"], {})
            for column in scores:
                if row.get(column):
                    known.setdefault(column, []).append(_number(row[column]))
    there = [column for column in scores if any(column in known for known in of.values())]
    rows = [
        [variant, *(f"{fmean(known[column]):.3f}" if column in known else "" for column in there)]
        for variant, known in list(of.items())[:_MOST_ROWS]
    ]
    return ["setting", *(column.replace("_", " ") for column in there)], rows


def _number(text: str) -> float:
    return float({"true": "1", "false": "0"}.get(text.casefold(), text))
