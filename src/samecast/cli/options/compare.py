"""The options of `samecast compare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samecast.checked import Within
from samecast.cli.options.common import (
    WAIT,
    Address,
    BenchmarkMetrics,
    Device,
    DryRun,
    ExecutorName,
    Guidance,
    GuidanceRescale,
    Model,
    Steps,
    Wait,
    Workers,
    arg,
)


@dataclass(frozen=True)
class CompareOptions:
    """Compare training, attention and both on held-out subjects of the embedded world.

    Textual Inversion, LoRA, DreamBooth and Custom Diffusion learn four photos of each subject; MasaCtrl reads one
    or all of them; and Custom Diffusion with MasaCtrl does both. Pairs of subjects are learnt jointly, and each alone
    and merged, and shown in one picture. What is finished is kept in the folder: a run that was stopped goes on where
    it was. For example:

      samecast compare --subjects 8 --prompts 10 --docs docs
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("compare")
    """Folder for scores.csv, summary.json, grid.png, duos.png, all pictures and all concepts."""

    methods: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: all)")] = ()
    """Which of prompt, textual-inversion, lora, dreambooth, custom-diffusion, masactrl, masactrl-photos,
    custom-diffusion-masactrl."""

    subjects: Annotated[int, arg(metavar="1-32"), Within(1, 32)] = 8
    """How many of the benchmark's subjects."""

    prompts: Annotated[int, arg(metavar="1-20"), Within(1, 20)] = 20
    """How many scenes for each."""

    pairs: Annotated[int, arg(metavar="0-16"), Within(0, 16)] = 4
    """How many pairs of subjects to show together; 0 leaves that out."""

    learn_steps: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the method's)")] = None
    """Steps of every training."""

    steps: Steps = 50

    guidance: Guidance = None

    guidance_rescale: GuidanceRescale = 0.0

    docs: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Also write compare.md there, and pictures/compare.png, in place of what there is."""

    metrics: BenchmarkMetrics = ()

    dry_run: DryRun = False

    executor: ExecutorName = "local"

    workers: Workers = None

    address: Address = None

    wait: Wait = WAIT

    model: Model = "diorama"
    """Any model that `samecast render` takes, if it knows the embedded world."""

    device: Device = "auto"
