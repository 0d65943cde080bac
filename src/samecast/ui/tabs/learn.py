"""Learn: photos in, a concept out, with samples on the way."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from samecast.cli.options.learn import LearnOptions
from samecast.cli.parsing import options_of
from samecast.errors import SamecastError
from samecast.learn.settings import METHODS
from samecast.ui.board import put_photos, read_board, take
from samecast.ui.form import command_of, form_fields
from samecast.ui.jobs import Job
from samecast.ui.learning import learn_job, read_learn, show_learning
from samecast.ui.studio import Studio
from samecast.ui.tabs.fields import make_field
from samecast.ui.tabs.render import QUIET, RenderTab, kept, taken, who_asks
from samecast.ui.widgets import widget

_PLACED = {
    *("--photos", "--noun", "--token", "--list", "--entry", "--class-photos", "--out", "--model", "--device"),
    *("--steps", "--tensorboard"),
}


class LearnTab:
    """The tab.

    Args:
        studio: the model that learns.
        render: the form whose list of concepts is refreshed.
    """

    def __init__(self, studio: Studio, render: RenderTab) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=340):
                self.build()
            with gr.Column(scale=8, min_width=340, elem_classes="sc-stick"):
                self.runner = widget("runner", kind="learn")
                self.shown = widget("loss", {"samples": [], "losses": []}, elem_id="learned")
                with gr.Accordion("The same as a command", open=False):
                    self.command = gr.Code(label="Command", language="shell", interactive=False, wrap_lines=True)
        self.upload.upload(self.add, [self.upload, self.board], [self.board, self.upload, self.notice], **QUIET)
        self.others.upload(self.add, [self.others, self.classes], [self.classes, self.others, self.notice], **QUIET)
        inputs: set[Any] = {self.runner, self.board, self.classes, self.method, self.name, *self.options.values()}
        self.go.click(self.start, inputs, [self.runner, self.command], **QUIET)
        timer = gr.Timer(1.0)
        timer.tick(self.look_on, self.runner, self.shown, **QUIET)
        listed = [self.shown, render.strengths, self.runner]
        self.runner.over(self.over, [self.runner, render.strengths], listed, **QUIET)

    def build(self) -> None:
        """Makes the form."""
        about: dict[str, Any] = {"file_count": "multiple", "file_types": ["image"], "height": 150}
        self.upload = gr.File(label="Photos to learn from", elem_id="learn-photos", **about)
        self.notice = gr.Markdown(elem_classes="sc-fault")
        self.board = widget("board", {"photos": [], "plain": True}, found=None)
        self.options: dict[str, Any] = {}
        with gr.Row():
            self.options["--noun"] = gr.Textbox(
                label="What is it?", placeholder="dog", max_lines=1, elem_id="learn-noun"
            )
            self.options["--token"] = gr.Textbox(label="Word for it", placeholder="<new1>", max_lines=1)
        with gr.Row():
            self.name = gr.Textbox(label="Name", placeholder="the noun", max_lines=1, elem_id="learn-name")
            self.options["--steps"] = gr.Textbox(
                label="Steps", placeholder="by photos seen", max_lines=1, elem_id="learn-steps"
            )
        self.method = gr.Dropdown(list(METHODS), value="custom-diffusion", label="Method", elem_id="learn-method")
        self.go = gr.Button("Learn", variant="primary", size="lg", elem_id="learn")
        with gr.Accordion("Class pictures", open=False):
            gr.Markdown(
                "Made by the model unless you bring some: other subjects of the same class.", elem_classes="sc-hint"
            )
            self.others = gr.File(label="Pictures of the class", **about)
            self.classes = widget("board", {"photos": [], "plain": True}, found=None)
        with gr.Accordion("Expert", open=False, elem_id="learn-expert"):
            known: dict[str, Any] = {}
            for method in METHODS:
                for field in form_fields(options_of(f"learn {method}")):
                    known.setdefault(field.flag, field)
            for flag, field in known.items():
                if flag not in _PLACED and flag not in self.options:
                    self.options[flag] = make_field(field, "learn")

    def add(self, paths: list[str] | None, board: Any) -> tuple[Any, None, str]:
        """Takes uploads in."""
        names, faults = list[str](), list[str]()
        for path in paths or []:
            try:
                names.append(self.studio.root.upload(path))
            except SamecastError as error:
                faults.append(str(error))
        return put_photos(self.studio.root, board, names) | {"plain": True}, None, "\n\n".join(faults)

    def read(self, data: Mapping[Any, Any]) -> tuple[list[str], LearnOptions]:
        """The form as a command; errors as for `read_learn`."""
        root, method = self.studio.root, str(data[self.method])
        photos, others = (
            [take(root, photo).photo for photo in read_board(data[board])] for board in (self.board, self.classes)
        )
        taken = {field.flag for field in form_fields(options_of(f"learn {method}"))}
        values = {flag: data[component] for flag, component in self.options.items() if flag in taken}
        return read_learn(self.studio, method, values, photos, others, str(data[self.name] or ""))

    def start(self, data: Mapping[Any, Any]) -> tuple[Any, Any]:
        """Queues a run, or says what is wrong with the form."""
        runner = data[self.runner]
        try:
            words, options = self.read(data)
            job = self.studio.jobs.add(
                Job("learn", lambda job: learn_job(self.studio, job, options, words), *who_asks(runner))
            )
        except SamecastError as error:
            return {**kept(runner), "fault": str(error)}, gr.skip()
        return {**kept(runner), "start": job.id}, command_of(words)

    def look_on(self, runner: Any) -> Any:
        """The loss and the samples so far, while a run goes on."""
        name = runner.get("start") if isinstance(runner, Mapping) else None
        job = self.studio.jobs.get(name)
        if job is None or job.state != "running" or "folder" not in job.about:
            return gr.skip()
        shown = show_learning(self.studio, job.about["folder"])
        return shown | {"losses": [list(each) for each in job.about["losses"]], "tally": "learning …"}

    def over(self, runner: Any, strengths: Any) -> tuple[Any, Any, Any]:
        """What a run came to, and the concepts there are now."""
        job = self.studio.jobs.get(runner.get("job") if isinstance(runner, Mapping) else None)
        if job is None or "folder" not in job.about:
            return gr.skip(), gr.skip(), taken(runner)
        result: dict[str, Any] = job.result or {}
        shown = show_learning(self.studio, str(result.get("folder") or job.about["folder"]))
        if job.state == "stopped":
            shown["losses"] = [list(each) for each in job.about["losses"]]
            shown["tally"] = "Stopped. What was learned is kept: the same form goes on from here."
        names = {**(strengths if isinstance(strengths, Mapping) else {}), "names": list(self.studio.root.concepts())}
        return shown | {name: result[name] for name in ("file", "tally") if name in result}, names, taken(runner)
