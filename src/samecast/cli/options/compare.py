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
    or all of them; and Custom Diffusion with MasaCtrl does both. Pairs of subjects are learnt jointly, and each alone
    and merged, and shown in one picture. What is finished is kept in the folder: a run that was stopped goes on where
    it was. For example:

      samecast compare --subjects 8 --prompts 10 --docs docs
    """

    methods: Annotated[tuple[str, ...], Option("method", metavar="NAME", default="all")] = ()
    """Which of prompt, textual-inversion, lora, dreambooth, custom-diffusion, masactrl, masactrl-photos,
    custom-diffusion-masactrl."""

    subjects: Annotated[int, Within(1, 32), Option("subject")] = 8
    """How many of the benchmark's subjects."""

    prompts: Annotated[int, Within(1, 20), Option("subject")] = 20
    """How many scenes for each."""

    pairs: Annotated[int, Within(0, 16), Option("subject")] = 4
    """How many pairs of subjects to show together; 0 leaves that out."""

    learn_steps: Annotated[Annotated[int, Within(1, 10_000_000)] | None, Option("method", default="the method's")] = (
        None
    )
    """Steps of every training."""

    settings: Annotated[RenderSettings, Takes("num_inference_steps", "guidance_scale", "guidance_rescale")] = DEFAULTS

    metrics: Annotated[tuple[str, ...], metrics_option(BENCHMARK)] = ()

    out: Out = Path("compare")
    """Folder for scores.csv, summary.json, grid.png, duos.png, all pictures and all concepts."""

    docs: Annotated[Path | None, Option("output", metavar="FOLDER")] = None
    """Also write compare.md there, and pictures/compare.png, in place of what there is."""
