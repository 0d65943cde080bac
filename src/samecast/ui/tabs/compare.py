"""Compare: two settings under one divider, and sweeps of one or two settings with scores."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from samecast.cli.render import run_of
from samecast.errors import SamecastError
from samecast.ui.form import METHOD_NAMES, PRESETS, RESTYLE, balance, words_of
from samecast.ui.history import show_run
from samecast.ui.jobs import Job
from samecast.ui.studio import Studio
from samecast.ui.sweeps import VALUES, read_axes, sweep_job, values_of_cell
from samecast.ui.tabs.asking import Data, read
from samecast.ui.tabs.fields import METHOD_FLAGS
from samecast.ui.tabs.history import named
from samecast.ui.tabs.render import QUIET, RenderTab, kept, taken, who_asks
from samecast.ui.widgets import widget


class CompareTab:
    """The tab, on the photos and scenes of the render form.

    Args:
        studio: the model behind it.
        render: the form.
        tabs: to go back to the form.
    """

    def __init__(self, studio: Studio, render: RenderTab, tabs: gr.Tabs) -> None:
        self.studio, self.render = studio, render
        gr.Markdown("Photo, first scene and all other settings are those of **Render**.", elem_classes="sc-hint")
        with gr.Row(equal_height=False):
            self.sides = [self._side("A", "closer to the prompt"), self._side("B", "closer to the photo")]
        self.go = gr.Button("Render both", variant="primary", elem_id="render-both")
        self.runner = widget("runner", kind="compare")
        self.wipe = widget("wipe", elem_id="wipe")
        gr.Markdown("### Sweep")
        with gr.Row():
            self.first = gr.Dropdown(list(VALUES), value="final", label="Vary", elem_id="vary")
            self.firsts = gr.Textbox(VALUES["final"], label="Values", max_lines=1, elem_id="values")
            self.second = gr.Dropdown([("nothing else", ""), *VALUES], value="", label="and")
            self.seconds = gr.Textbox("", label="Values", max_lines=1)
        self.run = gr.Button("Run sweep", elem_id="run-sweep")
        self.sweeper = widget("runner", kind="sweep")
        self.table = widget("sweep", elem_id="sweep")
        self._wire(tabs)

    def _side(self, name: str, preset: str) -> tuple[Any, Any, Any]:
        with gr.Column(min_width=300), gr.Group():
            choice = gr.Radio(list(PRESETS), value=preset, label=f"Setting {name}")
            method = gr.Dropdown(list(METHOD_NAMES), value="masactrl", label="Method")
            layers = gr.Textbox(label="Layers", placeholder="the method's", max_lines=1)
        return choice, method, layers

    def _wire(self, tabs: gr.Tabs) -> None:
        of_form = set(self.render.inputs)
        inputs: set[Any] = {*of_form, self.runner, *(part for side in self.sides for part in side)}
        self.go.click(self.both, inputs, self.runner, **QUIET)
        self.runner.over(self.compared, self.runner, [self.wipe, self.runner], **QUIET)
        for field, values in ((self.first, self.firsts), (self.second, self.seconds)):
            field.input(VALUES.get, field, values, **QUIET)
        axes = {self.first, self.firsts, self.second, self.seconds}
        self.run.click(self.sweep, {*of_form, *axes, self.sweeper}, self.sweeper, **QUIET)
        self.sweeper.over(self.swept, self.sweeper, [self.table, self.sweeper], **QUIET)
        where = [self.render.options[flag] for flag in METHOD_FLAGS]
        order = [self.first, self.firsts, self.second, self.seconds, self.render.steps]
        self.table.use(self.use, order, [self.render.method, *where, self.render.grid, tabs], **QUIET)

    def both(self, data: Data) -> dict[str, Any]:
        """Queues both settings as one job."""
        runner = data[self.runner]
        try:
            values, prompts = self.render.values(data)
            made = [self._made(values, prompts[:1], [data[part] for part in side]) for side in self.sides]
        except SamecastError as error:
            return {**kept(runner), "fault": str(error)}
        names = [self._said([data[part] for part in side]) for side in self.sides]

        def work(job: Job) -> dict[str, Any]:
            runs = [self.studio.render(job, options, words, plain=False)["run"] for words, options in made]
            return {"runs": runs, "names": names}

        try:
            job = self.studio.jobs.add(Job("compare", work, *who_asks(runner)))
        except SamecastError as error:
            return {**kept(runner), "fault": str(error)}
        return {**kept(runner), "start": job.id}

    def _made(self, values: Mapping[str, Any], prompts: tuple[str, ...], side: list[Any]) -> tuple[list[str], Any]:
        preset, method, layers = (str(each or "") for each in side)
        cleared = dict.fromkeys((*METHOD_FLAGS, "--rules", "--mask", "--target-mask"), "")
        chosen: dict[str, Any] = {"--method": method}
        if method != "none":
            chosen |= dict(RESTYLE) if preset == "restyle" else balance(PRESETS.get(preset, 0.6))
            chosen |= {"--layers": layers} if layers.strip() else {}
        asked = {**values, **cleared, **chosen}
        options = read(asked, prompts)
        run_of(options)
        return words_of("render", asked, prompts), options

    def _said(self, side: list[Any]) -> str:
        preset, method, layers = (str(each or "") for each in side)
        return ", ".join(each for each in (method if method != "masactrl" else "", preset, layers) if each)

    def compared(self, runner: Any) -> tuple[Any, Any]:
        """Both pictures, under the divider."""
        job = self.studio.jobs.get(runner.get("job") if isinstance(runner, Mapping) else None)
        if job is None or job.state != "done":
            return gr.skip(), taken(runner)
        try:
            left, right = (show_run(self.studio.root, name)["items"][0] for name in job.result["runs"])
        except SamecastError as error:
            return {"fault": str(error)}, taken(runner)
        shown = {"left": left["url"], "right": right["url"], "prompt": left["prompt"], "names": job.result["names"]}
        return shown, taken(runner)

    def sweep(self, data: Data) -> dict[str, Any]:
        """Queues a sweep."""
        runner = data[self.sweeper]
        try:
            values, prompts = self.render.values(data)
            asked = {**values, **dict.fromkeys((*METHOD_FLAGS, "--rules", "--mask", "--target-mask", "--method"), "")}
            options = read(asked, prompts)
            if not options.reference:
                raise SamecastError("a sweep needs a photo: drop one in Render")
            if options.concept or options.lora:
                raise SamecastError("a sweep is of the model alone: switch concepts and LoRA off")
            first, second = (
                (str(data[field] or ""), str(data[given] or ""))
                for field, given in ((self.first, self.firsts), (self.second, self.seconds))
            )
            axes, grid = read_axes(first, second, options.settings.num_inference_steps)
            job = self.studio.jobs.add(
                Job("sweep", lambda job: sweep_job(self.studio, job, options, axes, grid), *who_asks(runner))
            )
        except SamecastError as error:
            return {**kept(runner), "fault": str(error)}
        return {**kept(runner), "start": job.id}

    def swept(self, runner: Any) -> tuple[Any, Any]:
        """The table of a sweep."""
        job = self.studio.jobs.get(runner.get("job") if isinstance(runner, Mapping) else None)
        return (gr.skip() if job is None or job.state != "done" else job.result), taken(runner)

    def use(self, first: str, firsts: str, second: str, seconds: str, steps: str, event: gr.EventData) -> list[Any]:
        """Takes a setting of the sweep over into the form."""
        try:
            count = int(steps) if str(steps or "").isdecimal() else 50
            axes, grid = read_axes((first, firsts), (second or "", seconds), count)
            values, rules = values_of_cell(axes, grid, named(event))
        except SamecastError as error:
            gr.Warning(str(error))
            return [gr.skip()] * (len(METHOD_FLAGS) + 3)
        texts = [str(values.get(flag, "")) for flag in METHOD_FLAGS]
        cells = self.render.cells(rules, str(count))
        return [values["--method"], *texts, cells, gr.Tabs(selected="render")]
