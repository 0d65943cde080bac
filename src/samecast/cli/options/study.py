"""The options of `samecast study`, and of its status and report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from samecast.checked import Option, Takes, Within
from samecast.cli.options.common import DEFAULTS, ExecutorOptions, Out, metrics_option
from samecast.cli.words import Command
from samecast.core.settings import RenderSettings
from samecast.metrics import DEFAULT


@dataclass(frozen=True)
class StudyOptions(ExecutorOptions):
    """Run a grid of settings on several subjects, score every picture, and write tables, figures and a page.

    By default the subjects are eight held-out ones of the embedded world. Finished work is kept, and a stopped study
    can be resumed. For example:

      samecast study --preset aiku
      samecast study annotation.json --preset aiku --model path/to/stable-diffusion-v1-4 --out aiku
      samecast study --preset aiku --only-seed --pairing masactrl --out seed
      samecast study --axis final=20:51:5 --axis layers=encoder,decoder,10-12,13-15 --out layers
      samecast study --preset full --dry-run
      samecast study --resume aiku
      samecast study status aiku
    """

    annotations: Annotated[Path | None, Option(positional=True, metavar="[ANNOTATIONS]", default="eight bundled")] = (
        None
    )
    """A list of {name, description, image_path} as JSON, or a folder with a folder of photos for each subject."""

    preset: Annotated[Literal["aiku", "masks", "full"] | None, Option("method", default="aiku")] = None
    """aiku: 44 settings by final step, start step and skip, for decoder and encoder layers; masks: by the maps that
    mask the subject; full: 840 settings, start x final x skip x layers."""

    only_seed: Annotated[bool, Option("method")] = False
    """With --preset aiku: only the settings of the AIKU study itself, without those added here."""

    axis: Annotated[tuple[str, ...], Option("method", metavar="FIELD=VALUES", repeated=True)] = ()
    """In place of a preset: a field of a rule and its values, such as final=20:51:5 or maps=none,encoder. Several
    axes are combined."""

    config: Annotated[Path | None, Option("method", metavar="FILE.YAML")] = None
    """Axes and fixed fields as YAML: `axes: {final: [20, 30], layers: [encoder, decoder]}` and `base: {start: 4}`."""

    photos: Annotated[Literal["first", "each", "together"], Option("subject")] = "first"
    """Which of a subject's photos are read: the first, each separately as a repeat, or all together."""

    seeds: Annotated[int, Within(1, 100_000), Option("sampling")] = 1
    """Pictures per prompt; more than one needs --init noise or a blend."""

    subjects: Annotated[int, Within(1, 32), Option("subject")] = 8
    """Number of bundled subjects."""

    prompts: Annotated[int, Within(1, 20), Option("subject")] = 1
    """Number of scenes for each bundled subject."""

    repeats: Annotated[int, Within(1, 4), Option("subject")] = 1
    """Number of photos of each bundled subject; more than one need --photos each or together."""

    hidden: Annotated[bool, Option("subject")] = False
    """Add a copy of each bundled subject, read from photos that hide 30-60% of it."""

    settings: Annotated[
        RenderSettings,
        Takes(
            "num_inference_steps",
            "guidance_scale",
            "guidance_rescale",
            "seed",
            "init",
            "height",
            "width",
            "fit",
            "pairing",
        ),
    ] = DEFAULTS

    metrics: Annotated[tuple[str, ...], metrics_option(DEFAULT)] = ()

    clip: Annotated[str, Option("output", metavar="MODEL", default="the model's")] = ""
    """CLIP model that scores alignment, a folder or hub id: openai/clip-vit-large-patch14, or the embedded one for
    the embedded model."""

    dino: Annotated[str, Option("output", metavar="MODEL", default="the model's")] = ""
    """Vision transformer that also scores image alignment, a folder or hub id: facebook/dino-vits16 with the default
    CLIP, or the embedded one for the embedded model; `none` leaves it out."""

    out: Out = Path("study")
    """Folder of the study."""

    resume: Annotated[Path | None, Option("output", metavar="FOLDER")] = None
    """Resume the study in this folder."""

    batch_rows: Annotated[Annotated[int, Within(1, 10_000)] | None, Option("advanced", default="by size")] = None
    """Largest batch in one call of the denoiser; it is halved when memory runs out."""

    checkpoint: Annotated[float, Within(0), Option("advanced", metavar="SECONDS")] = 60.0
    """How often to save a checkpoint of a subject in progress."""

    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], Option("model")] = "auto"
    """Precision of the model; auto is float16 on CUDA and float32 elsewhere."""


@dataclass(frozen=True)
class StudyStatusOptions(Command):
    """Show the progress of a study.

    For example:

      samecast study status aiku
    """

    folder: Annotated[Path, Option(positional=True, metavar="FOLDER")]
    """Folder of the study."""


@dataclass(frozen=True)
class StudyReportOptions(Command):
    """Rebuild a study's table, figures and page, and write its findings as Markdown.

    For example:

      samecast study report study --write docs/study.md
    """

    folder: Annotated[Path, Option(positional=True, metavar="FOLDER")]
    """Folder of the study."""

    write: Annotated[Path | None, Option("output", metavar="FILE.MD")] = None
    """File for the findings; their figures go into `pictures/` beside it."""
