"""The fields of the render form, those of its own place and those that the options' dataclasses make."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from samecast.core.embedded import KNOWS
from samecast.engine.choices import DEFAULT
from samecast.ui.form import PRESETS, FormField, expert_fields, method_sentences
from samecast.ui.studio import Studio
from samecast.ui.widgets import widget

METHOD_FLAGS = (
    *("--start", "--final", "--skip", "--layers", "--stride", "--map-words", "--map-layers", "--threshold"),
    *("--anchor", "--dropout", "--weight", "--consistency"),
)
"""The options of methods; each takes some of them."""


class RenderFields:
    """The form's components."""

    studio: Studio

    def build_form(self, examples: tuple[str, ...]) -> None:
        """Makes all fields, in their order."""
        self.upload = gr.File(
            label="Photos of the subject", file_count="multiple", file_types=["image"], height=150, elem_id="photos"
        )
        with gr.Row(elem_classes="sc-examples"):
            self.examples = {
                name: gr.Button(name, size="sm", min_width=60, elem_id=f"example-{name}", icon=example_file(name))
                for name in examples
            }
        self.notice = gr.Markdown(elem_classes="sc-fault")
        self.board = widget("board", {"photos": []}, found=None, elem_id="board")
        self.noun = gr.Textbox(
            label="What is it?", placeholder="dog", max_lines=1, elem_id="noun", info=_known(self.studio)
        )
        self.prompts = gr.Textbox(
            label="Scenes, one a line",
            placeholder="a dog running on the beach\na dog sitting in the snow",
            lines=4,
            max_lines=12,
            elem_id="prompts",
            max_length=20_000,
        )
        self.preset = gr.Radio(list(PRESETS), value="balanced", label="Balance", elem_id="preset")
        self.slider = gr.Slider(
            0, 1, PRESETS["balanced"], step=0.05, label="Prompt ↔ photo", show_label=True, elem_id="balance", buttons=[]
        )
        self.go = gr.Button("Render", variant="primary", size="lg", elem_id="render")
        self.options: dict[str, Any] = {}
        with gr.Accordion("More", open=False, elem_id="more"):
            self._more()
        with gr.Accordion("Concepts and LoRA", open=False):
            self.strengths = widget("strengths", {"names": [], "of": {}})

    def build_expert(self) -> None:
        """Makes the fields that a page leaves closed, with room for the picture of layers and steps."""
        with gr.Accordion("Expert", open=False, elem_id="expert"):
            self.grid = widget("grid", {}, elem_id="grid")
            with gr.Group(elem_classes="sc-experts"):
                self._expert()
        self.where = [self.options[flag] for flag in ("--start", "--final", "--layers")]
        self.steps = self.options["--num-inference-steps"]
        self.inputs: set[Any] = {
            self.board,
            self.noun,
            self.prompts,
            self.slider,
            self.method,
            self.negative,
            self.init,
        }
        self.inputs |= {self.plain, self.grid, self.strengths, *self.options.values()}

    def _more(self) -> None:
        sentences = method_sentences()
        self.method = gr.Dropdown(list(sentences), value=DEFAULT, label="Method", elem_id="method")
        self.sentence = gr.Markdown(sentences[DEFAULT], elem_classes="sc-hint")
        self.init = gr.Dropdown(
            [
                ("the photo's", "inverted"),
                ("new for each seed", "noise"),
                ("between, nearer the photo", "0.3"),
                ("between, nearer new", "0.7"),
            ],
            value="inverted",
            allow_custom_value=True,
            label="Layout",
            elem_id="init",
        )
        with gr.Row():
            self.options["--seed"] = gr.Textbox(
                label="Seed", placeholder="0", min_width=80, max_lines=1, elem_id="seed"
            )
            self.options["--num-images-per-prompt"] = gr.Textbox(
                label="Pictures a scene", placeholder="1", min_width=80, max_lines=1, elem_id="number"
            )
        with gr.Row():
            self.options["--width"] = gr.Textbox(label="Width", placeholder="the photo's", min_width=80, max_lines=1)
            self.options["--height"] = gr.Textbox(label="Height", placeholder="the photo's", min_width=80, max_lines=1)
        self.negative = gr.Textbox(
            label="Negative prompt", placeholder="what the pictures should not show", max_lines=2
        )
        self.plain = gr.Checkbox(True, label="Also render without control, at the same seed", elem_id="plain")

    def _expert(self) -> None:
        """The options that have no place of their own, as their dataclasses tell them."""
        for field in expert_fields():
            self.options[field.flag] = make_field(field)


def example_file(name: str) -> Path:
    """An example photo that comes with the page."""
    return Path(str(files("samecast.ui") / "examples" / f"{name}.png"))


def is_concept(file: Path) -> bool:
    """Whether a file is a concept of samecast's, which its metadata says; else it is taken for a LoRA."""
    from safetensors import SafetensorError, safe_open

    from samecast.concepts.file import KEY

    try:
        with safe_open(file, "np") as opened:
            return KEY in (opened.metadata() or {})
    except (OSError, SafetensorError):
        return True  # whose reader says what is wrong with it


def make_field(field: FormField, form: str = "opt") -> Any:
    """One option of a command as a component; empty is not given."""
    about: dict[str, Any] = {"label": field.label, "info": field.help, "elem_id": form + field.flag}
    if field.kind == "switch":
        return gr.Checkbox(False, **about)
    if field.kind == "choice":
        return gr.Dropdown(
            [("default" + (f": {field.default}" if field.default else ""), ""), *field.choices], value="", **about
        )
    return gr.Textbox(placeholder=field.default, max_lines=1, **about)


def _known(studio: Studio) -> str:
    return f"The embedded model knows {KNOWS}." if studio.name == "diorama" else ""
