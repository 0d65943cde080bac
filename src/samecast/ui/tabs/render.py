"""Render: photos, a noun, prompts; and the results side by side."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from samecast.cli.render import run_of
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.ui.board import put_photos, read_board
from samecast.ui.form import PRESETS, RESTYLE, command_of, method_sentences, words_of
from samecast.ui.history import show_run
from samecast.ui.jobs import Job
from samecast.ui.same import python_of
from samecast.ui.studio import Studio
from samecast.ui.tabs.asking import Data, RenderForm, read
from samecast.ui.tabs.fields import METHOD_FLAGS, example_file
from samecast.ui.widgets import widget

EXAMPLES = ("dog", "bear", "mug")
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class RenderTab(RenderForm):
    """The tab, and what others ask of its form.

    Args:
        studio: the model behind it.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=340):
                self.build_form(EXAMPLES)
            with gr.Column(scale=8, min_width=340, elem_classes="sc-stick"):
                self.runner = widget("runner", kind="render")
                self.results = widget("results", elem_id="results")
                self.build_expert()
                with gr.Accordion("The same as a command and in Python", open=False, elem_id="same") as self.same:
                    self.command = gr.Code(label="Command", language="shell", interactive=False, wrap_lines=True)
                    self.python = gr.Code(label="Python", language="python", interactive=False)
        self.at_load = [self.grid, self.strengths]
        self._wire_photos()
        self._wire_method()
        asked: set[Any] = {*self.inputs, self.runner}
        gr.on(
            [self.go.click, self.prompts.submit], self.start, asked, [self.runner, self.command, self.python], **QUIET
        )
        self.same.expand(self.tell, asked, [self.command, self.python], **QUIET)
        shown = [self.results, self.command, self.python, self.runner]
        self.runner.over(self.over, self.runner, shown, **QUIET)

    def _wire_photos(self) -> None:
        looking: dict[str, Any] = {"fn": self.look, "inputs": [self.noun, self.board], "outputs": self.board, **QUIET}
        taken = [self.board, self.upload, self.notice]
        self.upload.upload(self.add_photos, [self.upload, self.board], taken, **QUIET).then(**looking)
        for name, button in self.examples.items():
            button.click(partial(self.add_example, name), None, [self.board, self.noun], **QUIET).then(**looking)
        gr.on([self.noun.submit, self.noun.blur], trigger_mode="always_last", **looking)

    def _wire_method(self) -> None:
        drawing: dict[str, Any] = {"fn": self.drawn, "inputs": self.inputs, "outputs": self.grid, **QUIET}
        self.preset.input(choose_preset, self.preset, [self.slider, *self.where], **QUIET).then(**drawing)
        moved: dict[str, Any] = {"outputs": [self.preset, *self.where[:2]], "trigger_mode": "always_last", **QUIET}
        gr.on([self.slider.release, self.slider.input], lambda: (None, "", ""), None, **moved).then(**drawing)
        self.method.change(method_sentences().get, self.method, self.sentence, **QUIET)
        self.steps.change(self.redrawn, self.inputs, self.grid, trigger_mode="always_last", **QUIET)
        changes = [self.method.input, *(self.options[flag].input for flag in METHOD_FLAGS)]
        gr.on(changes, trigger_mode="always_last", **drawing)

    def opened(self) -> tuple[Any, Any]:
        """Once the model is there: its layers, and the concepts of the root."""
        self.studio.jobs.ready.wait(600)
        return self.drawn({}), {"names": list(self.studio.root.concepts()), "of": {}}

    def add_photos(self, paths: list[str] | None, board: Any) -> tuple[Any, None, str]:
        """Takes uploads in; what is no photo is said, and the others stay."""
        names, faults = list[str](), list[str]()
        for path in paths or []:
            try:
                names.append(self.studio.root.upload(path))
            except SamecastError as error:
                faults.append(str(error).replace(str(Path(path).parent) + "/", ""))
        try:
            board = put_photos(self.studio.root, board, names)
        except SamecastError as error:
            faults.append(str(error))
        return board, None, "\n\n".join(faults)

    def add_example(self, name: str) -> tuple[Any, str]:
        """Puts an example on the board, in place of what was there."""
        kept_as = self.studio.root.keep(open_photo(example_file(name)), name)
        return put_photos(self.studio.root, None, [kept_as]), name

    def look(self, noun: str, board: Any) -> Any:
        """Finds the subject in photos that have no mask yet."""
        try:
            without = [photo.name for photo in read_board(board) if not (photo.mask or photo.painted)]
            if not noun.strip() or not without:
                return gr.skip()
            job = self.studio.jobs.add(Job("mask", lambda job: self.studio.look(job, without, noun.strip())), soon=True)
        except SamecastError:
            return gr.skip()
        while not job.over:
            time.sleep(0.05)
        return gr.update(found=job.result if job.state == "done" else {"": job.error})

    def start(self, data: Data) -> tuple[Any, Any, Any]:
        """Queues a run, or says what is wrong with the form."""
        try:
            values, prompts = self.values(data)
            words, options = words_of("render", values, prompts), read(values, prompts)
            program, plain = python_of(run_of(options), options), bool(data[self.plain])
            job = self.studio.jobs.add(
                Job(
                    "render",
                    lambda job: self.studio.render(job, options, words, plain=plain),
                    *who_asks(data[self.runner]),
                )
            )
        except SamecastError as error:
            return {**kept(data[self.runner]), "fault": str(error)}, gr.skip(), gr.skip()
        return {**kept(data[self.runner]), "start": job.id}, command_of(words), program

    def tell(self, data: Data) -> tuple[str, str]:
        """The form as a command and as Python; or what is wrong with it."""
        try:
            values, prompts = self.values(data)
            options = read(values, prompts)
            return command_of(words_of("render", values, prompts)), python_of(run_of(options), options)
        except SamecastError as error:
            return f"# {error}", f"# {error}"

    def over(self, runner: Any) -> tuple[Any, Any, Any, Any]:
        """Shows what a run came to."""
        found = finished(self.studio, runner)
        if found is None:
            return gr.skip(), gr.skip(), gr.skip(), taken(runner)
        return found, found["command"], found["python"], taken(runner)


def finished(studio: Studio, runner: Any) -> dict[str, Any] | None:
    """What the job of a runner's value came to, as the page shows it; None where it did not end well."""
    job = studio.jobs.get(runner.get("job") if isinstance(runner, Mapping) else None)
    if job is None or job.state != "done":
        return None
    result = job.result
    try:
        shown = show_run(studio.root, result["run"])
    except SamecastError:  # deleted meanwhile
        return None
    kept_before = f", the inversion's {result['reused']} kept from before" if result["reused"] else ""
    count = len(shown["items"])
    said = (
        f"{count} picture{'s' * (count != 1)} in {result['run']} · {result['evaluations']:,} evaluations{kept_before}"
    )
    about = {name: result.get(name, "") for name in ("verdict", "command", "python")}
    return shown | about | {"tally": f"{said} · {result['seconds']:.1f} s"}


def who_asks(runner: Any) -> tuple[str, str]:
    """The browser and the page of a runner's value, each as text of bounded length."""
    known: Mapping[str, Any] = runner if isinstance(runner, Mapping) else {}
    return str(known.get("owner", ""))[:80], str(known.get("page", ""))[:80]


def kept(runner: Any) -> dict[str, Any]:
    """A runner's value without what it said of the run before."""
    known: Mapping[str, Any] = runner if isinstance(runner, Mapping) else {}
    return {name: known[name] for name in ("owner", "page", "kind") if name in known}


def taken(runner: Any) -> dict[str, Any]:
    """A runner's value after its run has been shown."""
    job: Any = runner.get("job") if isinstance(runner, Mapping) else None
    return {**kept(runner), "start": job, "job": job, "shown": job}


def choose_preset(preset: str | None) -> tuple[Any, str, str, str]:
    """The slider and the expert fields of a preset."""
    if preset == "restyle":
        return gr.skip(), str(RESTYLE["--start"]), str(RESTYLE["--final"]), str(RESTYLE["--layers"])
    return (PRESETS[preset] if preset in PRESETS else gr.skip()), "", "", ""
