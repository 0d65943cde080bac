"""The options of `samecast compare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samecast.checked import Option, Takes, Within
from samecast.cli.options.common import DEFAULTS, ExecutorOptions, Out, metrics_option
from samecast.core.settings import RenderSettings
from samecast.metrics import BENCHMARK


@dataclass(frozen=True)
class CompareOptions(ExecutorOptions):
    """Compare training, attention and both on held-out subjects of the embedded world.

    Textual Inversion, LoRA, DreamBooth and Custom Diffusion learn four photos of each subject; MasaCtrl reads one
    or all of them; and Custom Diffusion with MasaCtrl does both. Pairs of subjects are learned jointly, and separately
    and merged, and shown in one picture. Finished work is kept in the folder: the same command resumes a stopped run.
    For example:

      samecast compare --subjects 8 --prompts 10 --docs docs
    """

    methods: Annotated[tuple[str, ...], Option("method", metavar="NAME", default="all")] = ()
    """Methods to compare: any of prompt, textual-inversion, lora, dreambooth, custom-diffusion, masactrl,
    masactrl-photos, custom-diffusion-masactrl."""

    subjects: Annotated[int, Within(1, 32), Option("subject")] = 8
    """Number of the benchmark's subjects."""

    prompts: Annotated[int, Within(1, 20), Option("subject")] = 20
    """Number of scenes for each subject."""

    pairs: Annotated[int, Within(0, 16), Option("subject")] = 4
    """Number of pairs of subjects to show together; 0 for none."""

    learn_steps: Annotated[Annotated[int, Within(1, 10_000_000)] | None, Option("method", default="the method's")] = (
        None
    )
    """Training steps of every method."""

    settings: Annotated[RenderSettings, Takes("num_inference_steps", "guidance_scale", "guidance_rescale")] = DEFAULTS

    metrics: Annotated[tuple[str, ...], metrics_option(BENCHMARK)] = ()

    out: Out = Path("compare")
    """Folder for scores.csv, summary.json, grid.png, duos.png, all pictures and all concepts."""

    docs: Annotated[Path | None, Option("output", metavar="FOLDER")] = None
    """Also write compare.md and pictures/compare.png to this folder, replacing existing files."""
