"""History: every run of the root folder, made here or on the command line, as its record holds it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from samecast.errors import SamecastError
from samecast.ui.history import list_runs, settings_of_run, show_run
from samecast.ui.jobs import Job
from samecast.ui.place import Root
from samecast.ui.studio import Studio
from samecast.ui.tabs.render import QUIET, RenderTab, finished, kept, taken, who_asks
from samecast.ui.widgets import widget


def history_tab(studio: Studio, render: RenderTab, tabs: gr.Tabs, tab: gr.Tab) -> None:
    """Builds the tab.

    Args:
        studio: whose root is listed.
        render: the form that takes settings over.
        tabs: to go to the form.
        tab: itself; the list is read again whenever the tab is chosen.
    """
    listed = partial(_listed, studio.root)
    with gr.Row():
        wanted = gr.Textbox(
            show_label=False,
            placeholder="Filter by prompt, name or noun",
            max_lines=1,
            elem_id="filter",
            container=False,
        )
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=100)
    fault = gr.Markdown(elem_classes="sc-fault")
    runner = widget("runner", kind="again")
    results = widget("results", elem_id="opened", quiet=True)
    runs = widget("history", {"runs": []}, elem_id="runs")

    def opened(event: gr.EventData) -> tuple[Any, str]:
        try:
            return show_run(studio.root, named(event)), ""
        except SamecastError as error:
            return gr.skip(), str(error)

    def used(event: gr.EventData) -> list[Any]:
        try:
            return [*render.filled(settings_of_run(studio.root, named(event))), gr.Tabs(selected="render"), ""]
        except SamecastError as error:
            return [gr.skip()] * (len(render.fillable) + 1) + [str(error)]

    def deleted(words: str, event: gr.EventData) -> tuple[Any, Any, str]:
        try:
            studio.root.delete(named(event))
            return listed(words), {}, ""
        except (SamecastError, OSError) as error:
            return listed(words), gr.skip(), str(error)

    def again(known: Any, event: gr.EventData) -> Any:
        name = named(event)
        try:
            studio.root.find(name)
            job = studio.jobs.add(Job("again", lambda job: studio.again(job, name), *who_asks(known)))
        except SamecastError as error:
            return {**kept(known), "fault": str(error)}
        return {**kept(known), "start": job.id}

    def over(known: Any, words: str) -> tuple[Any, Any, Any]:
        found = finished(studio, known)
        return (gr.skip() if found is None else found), listed(words), taken(known)

    reasons = [tab.select, refresh.click, wanted.submit, wanted.change]
    gr.on(reasons, listed, wanted, runs, trigger_mode="always_last", **QUIET)
    runs.open(opened, None, [results, fault], **QUIET)
    runs.use(used, None, [*render.fillable, tabs, fault], **QUIET)
    runs.delete(deleted, wanted, [runs, results, fault], **QUIET)
    runs.again(again, runner, runner, **QUIET)
    runner.over(over, [runner, wanted], [results, runs, runner], **QUIET)


def _listed(root: Root, words: str) -> dict[str, Any]:
    return {"runs": list_runs(root, words or ""), "filtered": bool((words or "").strip())}


def named(event: gr.EventData) -> str:
    """The run that an event is about; empty where it has none."""
    data: Any = getattr(event, "_data", None)
    name: Any = data.get("name") if isinstance(data, Mapping) else None
    return name if isinstance(name, str) else ""
