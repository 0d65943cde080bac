"""The options of `samecast diorama`: sheet, photos and benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samecast.checked import Option, Takes, Within
from samecast.cli.options.common import DEFAULTS, ExecutorOptions, Out, OutFile, metrics_option
from samecast.cli.words import Command
from samecast.core.settings import RenderSettings
from samecast.metrics import BENCHMARK


@dataclass(frozen=True)
class SheetOptions(Command):
    """Draw a contact sheet of Diorama, the embedded world: its subjects in its scenes.

    For example:

      samecast diorama sheet --seed 3 --out sheet.png
    """

    seed: Annotated[int, Within(0), Option("sampling")] = 0
    """Seed of the choice of subjects and scenes."""

    size: Annotated[int, Within(8, 512), Option("sampling", metavar="PIXELS")] = 128
    """Side of one picture, in pixels."""

    columns: Annotated[int, Within(1, 40), Option("sampling")] = 8
    """Pictures per row."""

    rows: Annotated[int, Within(1, 40), Option("sampling")] = 6
    """Rows of pictures."""

    out: OutFile = Path("diorama.png")
    """Picture to write. If it exists, the next free name is used."""


@dataclass(frozen=True)
class PhotosOptions(Command):
    """Draw four photos of a held-out subject, which the embedded models have not seen, to learn it from.

    For example:

      samecast diorama photos --out examples/rex
      samecast learn custom-diffusion --photos examples/rex
    """

    subject: Annotated[int, Within(0, 10**9), Option("subject")] = 65
    """Number of the subject; 65 is the demo's dog with blue and yellow stripes."""

    size: Annotated[int, Within(16, 2048), Option("sampling", metavar="PIXELS")] = 128
    """Side of a photo, in pixels."""

    out: Out = Path("rex")
    """Folder for the photos and subject.json. If it exists, the next free name is used."""


@dataclass(frozen=True)
class BenchmarkOptions(ExecutorOptions):
    """Compare methods on held-out subjects of the embedded world, by subject, by scene and by both.

    Finished work is kept in the folder: the same command resumes a stopped run. For example:

      samecast diorama benchmark --subjects 8 --prompts 5 --methods prompt decoder encoder
    """

    methods: Annotated[tuple[str, ...], Option("method", metavar="NAME", default="all")] = ()
    """Methods to compare: any of prompt, decoder, decoder-25, encoder, all, union, shuffled."""

    subjects: Annotated[int, Within(1, 32), Option("subject")] = 32
    """Number of the benchmark's subjects."""

    prompts: Annotated[int, Within(1, 20), Option("subject")] = 20
    """Number of scenes for each subject."""

    hidden: Annotated[bool, Option("subject")] = False
    """Read photos on which 30-60% of the subject is hidden."""

    settings: Annotated[RenderSettings, Takes("num_inference_steps", "guidance_scale", "guidance_rescale", "init")] = (
        DEFAULTS
    )

    metrics: Annotated[tuple[str, ...], metrics_option(BENCHMARK)] = ()

    out: Out = Path("benchmark")
    """Folder for scores.csv, summary.json, grid.png and all pictures."""
