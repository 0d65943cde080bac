"""The demo: one held-out subject of the embedded world, six prompts, four settings, and the probe as the judge.

The subject was never trained on, and the prompts say nothing of it but its class. What a picture shows of its colours
and pattern came through attention, and because the world is rendered, a judge can say whether it is right.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from PIL import Image

from samecast.attention.methods import Rules, masactrl
from samecast.core.settings import RenderSettings
from samecast.diorama.album import STRIPED_DOG, album
from samecast.diorama.captions import phrase
from samecast.diorama.probe import Probe, judge, load_probe
from samecast.diorama.scenes import HELD_OUT, Identity, Scene, sample_spec
from samecast.disk import writing_folder
from samecast.report.grid import draw_grid
from samecast.report.page import Page, Table, page_html
from samecast.report.panels import Mark, Panel, Row
from samecast.subject import Subject

if TYPE_CHECKING:
    from samecast.render import Model, RenderResult

SUBJECT_SEED = HELD_OUT + STRIPED_DOG
SCENES = (
    Scene("standing", "right", "beach"),
    Scene("running", "right", "snow"),
    Scene("sitting", "right", "desert"),
    Scene("standing", "left", "night"),
    Scene("lying", "right", "room"),
    Scene("sitting", "front", "forest"),
)
MARKER = "demo.json"
_FULL_RUN = 50

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Setting:
    """One way to render all the prompts."""

    title: str
    note: str
    rules: Rules


@dataclass(frozen=True)
class Outcome:
    """What one setting gave: the pictures, and for each whether the judge finds the subject and the scene in it, and
    how far both colours are from the subject's (mean CIEDE2000)."""

    setting: Setting
    result: "RenderResult"
    same: tuple[bool, ...]
    scene: tuple[bool, ...]
    colour_error: tuple[float, ...]

    @property
    def both(self) -> tuple[bool, ...]:
        """Right in both respects, picture by picture."""
        return tuple(same and scene for same, scene in zip(self.same, self.scene, strict=True))


@dataclass(frozen=True)
class Demo:
    """The finished demo: where it lies, and what was found."""

    folder: Path
    noun: str
    outcomes: tuple[Outcome, ...]
    seconds: float

    def table(self) -> Table:
        """The verdicts, setting by setting."""
        count = len(SCENES)
        return Table(
            columns=("setting", f"same {self.noun}", "scene as asked", "both", "colours off by"),
            rows=tuple(
                (
                    outcome.setting.title,
                    *(f"{sum(right)} of {count}" for right in (outcome.same, outcome.scene, outcome.both)),
                    f"{fmean(outcome.colour_error):.0f}",
                )
                for outcome in self.outcomes
            ),
            caption="Verdicts of the probe, which shares nothing with the model and never saw its pictures; the same "
            "is right in class, pattern, accessory and both colours (within 10 CIEDE2000)",
        )


def settings_of(steps: int) -> tuple[Setting, ...]:
    """The four settings; their spans are those of a run of 50 steps, scaled to this one's length."""
    start, early = (round(step * steps / _FULL_RUN) for step in (4, 25))
    return (
        Setting("no control", "the prompt alone, from the same start", ()),
        Setting(
            f"decoder, steps {start}-{steps}", "layers 10-15 read the photo to the end", masactrl(start, layers="10-15")
        ),
        Setting(f"encoder, steps {start}-{steps}", "layers 0-7 read it instead", masactrl(start, layers="0-7")),
        Setting(
            f"decoder, steps {start}-{early}", "layers 10-15, stopping early", masactrl(start, early, layers="10-15")
        ),
    )


def run_demo(
    model: "Model",
    folder: str | Path,
    *,
    steps: int = _FULL_RUN,
    probe: Probe | None = None,
    progress: Progress | None = None,
) -> Demo:
    """Render, judge, and write `index.html`, `grid.png` and `demo.json`.

    Args:
        model: the model to show.
        folder: where; an earlier demo there is replaced, anything else is left alone and the next free name taken.
        steps: denoising steps.
        probe: the judge; None is the one that ships with the package.
        progress: called with a setting's title, how much of it is done, and how much there is.

    Raises:
        SamecastError: the folder cannot be written, or the run is too short for the settings.
    """
    began = time.monotonic()
    identity = sample_spec(SUBJECT_SEED).identity
    photos = [Image.fromarray(photo.image) for photo in album(identity, model.backbone.default_size)]
    probe = probe or load_probe()
    outcomes = tuple(
        _judge(setting, _render(model, identity, photos[0], setting, steps, progress), identity, probe)
        for setting in settings_of(steps)
    )
    seconds = time.monotonic() - began
    demo = Demo(Path(folder), identity.kind, outcomes, seconds)
    rows = [_row(outcome, identity.kind) for outcome in outcomes]
    with writing_folder(folder, replaces=lambda old: (old / MARKER).is_file()) as place:
        draw_grid([Row((Panel(photos[0], f"the photo of the {identity.kind}"),), "reference"), *rows]).save(
            place.path / "grid.png"
        )
        (place.path / "index.html").write_text(page_html(_page(demo, photos, rows)), encoding="utf-8")
        (place.path / MARKER).write_text(json.dumps(_facts(demo), indent=2) + "\n", encoding="utf-8")
    return replace(demo, folder=place.final)


def prompt_of(kind: str, scene: Scene) -> str:
    """The scene in words, of the subject only its class."""
    return phrase({"kind": kind, "pose": scene.pose, "background": scene.background, "view": scene.view})


def _render(
    model: "Model", identity: Identity, photo: Image.Image, setting: Setting, steps: int, progress: Progress | None
) -> "RenderResult":
    def data(stage: str, done: int, total: int) -> None:
        if progress is not None and stage == "denoise":
            progress(setting.title, done, total)

    return model.render(
        Subject((photo,), class_noun=identity.kind),
        [prompt_of(identity.kind, scene) for scene in SCENES],
        rules=setting.rules,
        settings=RenderSettings(num_inference_steps=steps),
        progress=data,
    )


def _judge(setting: Setting, result: "RenderResult", identity: Identity, probe: Probe) -> Outcome:
    readings = probe.read([render.image for render in result.renders])
    verdicts = [judge(reading, identity, scene) for reading, scene in zip(readings, SCENES, strict=True)]
    return Outcome(
        setting,
        result,
        same=tuple(verdict.identity for verdict in verdicts),
        scene=tuple(verdict.scene for verdict in verdicts),
        colour_error=tuple(fmean((verdict.base_error, verdict.second_error)) for verdict in verdicts),
    )


def _row(outcome: Outcome, noun: str) -> Row:
    panels = tuple(
        Panel(render.image, render.prompt, (Mark(f"same {noun}", same), Mark("scene as asked", scene)))
        for render, same, scene in zip(outcome.result.renders, outcome.same, outcome.scene, strict=True)
    )
    note = f"{outcome.setting.note}; colours off by {fmean(outcome.colour_error):.0f}"
    return Row(panels, outcome.setting.title, note)


def _page(demo: Demo, photos: list[Image.Image], rows: list[Row]) -> Page:
    data = demo.outcomes[0].result.provenance
    return Page(
        title=f"One {demo.noun}, six scenes",
        summary=f"The model has never seen this {demo.noun}, and no prompt tells its colours or its pattern. What the "
        "pictures know of it they read from the first photo, through attention; each row reads at other layers or for "
        "another part of the run. Ticks and crosses are the verdicts of a judge that shares nothing with the model.",
        references=tuple(
            Panel(photo, f"the {demo.noun}: the photo that is read" if number == 0 else f"the same {demo.noun}")
            for number, photo in enumerate(photos)
        ),
        rows=rows,
        table=demo.table(),
        facts={
            "model": f"{data['model']['id']} ({data['model']['revision'][:19]})",
            "subject": f"seed {SUBJECT_SEED} of the embedded world, held out from training",
            "steps": str(data["settings"]["num_inference_steps"]),
            "guidance": str(data["settings"]["guidance_scale"]),
            "evaluations": str(sum(outcome.result.evaluations for outcome in demo.outcomes)),
            "seconds": f"{demo.seconds:.0f} on {data['device']}, {data['threads']} threads",
        },
    )


def _facts(demo: Demo) -> dict[str, Any]:
    return {
        "subject_seed": SUBJECT_SEED,
        "seconds": round(demo.seconds, 1),
        "settings": [
            {
                "title": outcome.setting.title,
                "same": outcome.same,
                "scene": outcome.scene,
                "colour_error": [round(error, 2) for error in outcome.colour_error],
                "provenance": outcome.result.provenance,
            }
            for outcome in demo.outcomes
        ],
    }
