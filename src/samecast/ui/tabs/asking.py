"""The render form as a command: what its components say, in the words of `samecast render`, and back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from samecast.attention.rule import Rules
from samecast.attention.rule_files import read_rules, rules_file
from samecast.cli.options.render import RenderOptions
from samecast.cli.render import rules_of
from samecast.engine.choices import DEFAULT
from samecast.errors import SamecastError
from samecast.photos import looks_like_photo
from samecast.records import slug
from samecast.ui.board import put_photos, read_board, stem_of, take
from samecast.ui.cells import MOST_STEPS, cells_of, rules_of_cells
from samecast.ui.form import balance, lines, read_form, weighted
from samecast.ui.place import RENDERS
from samecast.ui.tabs.fields import METHOD_FLAGS, RenderFields, is_concept

Data = Mapping[Any, Any]
"""Values by component, as Gradio gives them."""


class RenderForm(RenderFields):
    """The form, read and filled."""

    def values(self, data: Data) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The form as values by option, and its prompts.

        Raises:
            SamecastError: something in it cannot be said by a command.
        """
        root = self.studio.root
        prompts = lines(data[self.prompts])
        taken = [take(root, photo) for photo in read_board(data[self.board])]
        values = self.studio.base_values | {flag: data[component] for flag, component in self.options.items()}
        loras, concepts = self._strengths(data)
        values |= {
            "--reference": [root.shown(each.photo) for each in taken],
            "--noun": str(data[self.noun] or "").strip(),
            "--negative-prompt": str(data[self.negative] or "").strip(),
            "--init": "" if data[self.init] == "inverted" else data[self.init],
            "--lora": loras,
            "--concept": concepts,
            **self._method(data),
        }
        of_photos, of_pictures = _wanted_masks(read(values, prompts))
        masks = [root.shown(each.mask) for each in taken if each.mask]
        if of_photos and len(masks) == len(taken):
            values["--mask"] = masks
        if of_pictures and masks:
            values["--target-mask"] = masks[:1]  # pictures begin in the photo's layout
        stem = stem_of([each.photo for each in taken], "-".join(prompts[0].split()[:5]))
        values["--out"] = root.shown(RENDERS, slug(stem))
        return values, prompts

    def _method(self, data: Data) -> dict[str, Any]:
        """What the method, the slider and the picture of layers and steps come to: the last word is the picture's."""
        method = str(data[self.method] or DEFAULT)
        values = {flag: data[self.options[flag]] for flag in METHOD_FLAGS}
        values["--method"] = "" if method == DEFAULT else method
        nothing = dict.fromkeys(values, "")
        if method == "none":
            values = nothing | {"--method": method}
        elif not values["--start"] and not values["--final"]:
            values |= balance(float(data[self.slider] or 0))
        cells: Any = data[self.grid] if isinstance(data[self.grid], Mapping) else {}
        file = self.studio.root.find(cells["rules"]) if cells.get("rules") else None
        if cells.get("edited"):
            base = rules_of(read_form("render", values)) if file is None else read_rules(file)
            rules = rules_of_cells(cells, base)
            if not rules:
                return nothing | {"--method": "none"}
            file = self.studio.root.keep_rules(json.dumps(rules_file(rules, {"from": "the page"}), indent=1))
        if file is None:
            return values
        return nothing | {"--rules": self.studio.root.shown(*self.studio.root.name(file).split("/"))}

    def _strengths(self, data: Data) -> tuple[list[str], list[str]]:
        """Files of LoRAs, and of concepts, with their strengths."""
        root = self.studio.root
        given: Any = data[self.strengths].get("of") if isinstance(data[self.strengths], Mapping) else None
        given = given if isinstance(given, Mapping) else {}
        if unknown := set(given) - set(root.concepts()):
            raise SamecastError(f"{min(unknown)!r:.80} is no concept of this folder")
        ours = {name: strength for name, strength in given.items() if is_concept(root.find(name))}
        others = {name: strength for name, strength in given.items() if name not in ours}
        return weighted(others, root.shown), weighted(ours, root.shown)

    @property
    def fillable(self) -> list[Any]:
        """The components that `filled` gives values for."""
        own = [self.board, self.noun, self.prompts, self.negative, self.init, self.method, self.preset, self.grid]
        return [*own, *self.options.values()]

    def filled(self, past: Mapping[str, Any]) -> list[Any]:
        """Values of the form for a run like one of the past; what it leaves open goes back to its default.

        Args:
            past: as `settings_of_run` gives it; rules that no method comes to are given by their file.
        """
        values: dict[str, Any] = {flag: _typed(value) for flag, value in past["values"].items()}
        grid = self.cells(past["rules"], str(values.get("--num-inference-steps", 50)))
        switches = {flag: isinstance(component, gr.Checkbox) for flag, component in self.options.items()}
        return [
            put_photos(self.studio.root, None, past["photos"], past["masks"] or past["target"]),
            past["noun"],
            "\n".join(past["prompts"]),
            values.get("--negative-prompt", ""),
            values.get("--init", "inverted"),
            values.get("--method", DEFAULT),
            None,
            grid | ({"rules": past["file"]} if past["file"] else {}),
            *(values.get(flag, False if switch else "") for flag, switch in switches.items()),
        ]

    def drawn(self, data: Data) -> dict[str, Any]:
        """The picture of layers and steps for the method that is chosen; empty while the form is in between."""
        try:
            rules = rules_of(read_form("render", self._method({**data, self.grid: None}) if data else {}))
        except SamecastError:
            return {}
        return self.cells(rules, str(data.get(self.steps) or 50))

    def redrawn(self, data: Data) -> Any:
        """The picture after the number of steps has changed; a file of rules stays, in the new number."""
        steps = str(data[self.steps] or 50)
        cells: Any = data[self.grid] if isinstance(data[self.grid], Mapping) else {}
        if str(cells.get("steps")) == steps:
            return gr.skip()
        if not cells.get("rules") or cells.get("edited"):
            return self.drawn(data)
        rules = read_rules(self.studio.root.find(cells["rules"]))
        return self.cells(rules, steps) | {"rules": cells["rules"]}

    def cells(self, rules: Rules, steps: str) -> dict[str, Any]:
        """The picture of rules; empty until the model is there."""
        layers = self.studio.layers()
        if not layers or not steps.isdecimal() or not 0 < int(steps) <= MOST_STEPS:
            return {}
        try:
            on = cells_of(rules, layers, int(steps))
        except SamecastError:  # the run says so
            return {}
        named = [{"index": each.index, "name": each.name, "stage": each.stage} for each in layers]
        return {"layers": named, "steps": int(steps), "on": on, "edited": False}


def read(values: Mapping[str, Any], prompts: tuple[str, ...]) -> RenderOptions:
    """Values and prompts, parsed by the command line; a prompt is never taken for a photo's path.

    Raises:
        SamecastError: a value is refused, or there is no scene.
    """
    if not prompts:
        raise SamecastError("describe at least one scene, such as: a dog running on the beach")
    for prompt in () if values.get("--reference") else prompts:
        if looks_like_photo(prompt) or _is_there(prompt):
            raise SamecastError(f"{prompt!r:.80} names a file: describe a scene instead, and drop photos above")
    return read_form("render", values, prompts)


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def _wanted_masks(options: RenderOptions) -> tuple[bool, bool]:
    """Whether the rules take given masks of photos, and of pictures."""
    from samecast.engine.checks import wanted_masks

    return wanted_masks(rules_of(options))


def _typed(value: Any) -> Any:
    return value if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)
