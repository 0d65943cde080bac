"""The options of `samecast diorama`: sheet, photos and benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

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
    Init,
    Model,
    On,
    Steps,
    Wait,
    Workers,
    arg,
)


@dataclass(frozen=True)
class SheetOptions:
    """Draw a contact sheet of Diorama, the embedded world: its subjects in its scenes.

    For example:

      samecast diorama sheet --seed 3 --out sheet.png
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FILE")] = Path("diorama.png")
    """Picture to write. Where it exists, the next free name is taken."""

    seed: Annotated[int, arg(metavar="INT"), Within(0)] = 0
    """Which subjects and scenes are drawn."""

    size: Annotated[int, arg(metavar="PIXELS"), Within(8, 512)] = 128
    """Side of one picture."""

    columns: Annotated[int, arg(metavar="INT"), Within(1, 40)] = 8
    """Pictures in a row."""

    rows: Annotated[int, arg(metavar="INT"), Within(1, 40)] = 6
    """Rows of pictures."""


@dataclass(frozen=True)
class PhotosOptions:
    """Draw four photos of a held-out subject, which nothing was trained on, to learn it from.

    For example:

      samecast diorama photos --out examples/rex
      samecast learn custom-diffusion --photos examples/rex
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("rex")
    """Folder for the photos and subject.json. Where it exists, the next free name is taken."""

    subject: Annotated[int, arg(metavar="INT"), Within(0, 10**9)] = 65
    """Which subject; 65 is the demo's dog with blue and yellow stripes."""

    size: Annotated[int, arg(metavar="PIXELS"), Within(16, 2048)] = 128
    """Side of a photo."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Compare methods on held-out subjects of the embedded world: same subject, scene as asked, and both.

    What is finished is kept in the folder: a run that was stopped goes on where it was. For example:

      samecast diorama benchmark --subjects 8 --prompts 5 --methods prompt decoder encoder
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("benchmark")
    """Folder for scores.csv, summary.json, grid.png and all pictures."""

    methods: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: all)")] = ()
    """Which of prompt, decoder, decoder-25, encoder, all, union, shuffled."""

    subjects: Annotated[int, arg(metavar="1-32"), Within(1, 32)] = 32
    """How many of the benchmark's subjects."""

    prompts: Annotated[int, arg(metavar="1-20"), Within(1, 20)] = 20
    """How many scenes for each."""

    hidden: Annotated[On, arg(help_behavior_hint="")] = False
    """Read photos on which 30-60% of the subject is hidden."""

    init: Init = "inverted"

    steps: Steps = 50

    guidance: Guidance = None

    guidance_rescale: GuidanceRescale = 0.0

    metrics: BenchmarkMetrics = ()

    dry_run: DryRun = False

    executor: ExecutorName = "local"

    workers: Workers = None

    address: Address = None

    wait: Wait = WAIT

    model: Model = "diorama"
    """Any model that `samecast render` takes, if it knows the embedded world."""

    device: Device = "auto"


@dataclass(frozen=True)
class DioramaOptions:
    """MapSpec at the embedded world."""

    command: (
        Annotated[SheetOptions, tyro.conf.subcommand("sheet")]
        | Annotated[PhotosOptions, tyro.conf.subcommand("photos")]
        | Annotated[BenchmarkOptions, tyro.conf.subcommand("benchmark")]
    )
