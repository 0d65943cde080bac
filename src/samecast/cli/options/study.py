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

    Without annotations it is about eight held-out subjects of the embedded world. What is finished is kept: a study
    that was stopped goes on where it was. For example:

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
    """With --preset aiku: only what the AIKU study itself ran, without the settings that are added to it here."""

    axis: Annotated[tuple[str, ...], Option("method", metavar="FIELD=VALUES", repeated=True)] = ()
    """In place of a preset: a field of a rule and its values, such as final=20:51:5 or maps=none,encoder. Axes
    multiply."""

    config: Annotated[Path | None, Option("method", metavar="FILE.YAML")] = None
    """Axes and fixed fields as YAML: `axes: {final: [20, 30], layers: [encoder, decoder]}` and `base: {start: 4}`."""

    photos: Annotated[Literal["first", "each", "together"], Option("subject")] = "first"
    """What is read of a subject's photos: the first, each by itself as a repeat, or all at once."""

    seeds: Annotated[int, Within(1, 100_000), Option("sampling")] = 1
    """Pictures of each prompt; more than one needs --init noise or a blend."""

    subjects: Annotated[int, Within(1, 32), Option("subject")] = 8
    """How many of the bundled subjects."""

    prompts: Annotated[int, Within(1, 20), Option("subject")] = 1
    """How many scenes for each bundled subject."""

    repeats: Annotated[int, Within(1, 4), Option("subject")] = 1
    """How many photos of each bundled subject; more than one go with --photos each or together."""

    hidden: Annotated[bool, Option("subject")] = False
    """Add each bundled subject once more, read from photos that hide 30-60% of it."""

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
    """CLIP that scores alignment, a folder or hub id: openai/clip-vit-large-patch14, the embedded one for the embedded
    model."""

    dino: Annotated[str, Option("output", metavar="MODEL", default="the model's")] = ""
    """Vision transformer that scores image alignment beside it, a folder or hub id; facebook/dino-vits16 beside the
    default CLIP, the embedded one for the embedded model; `none` leaves it out."""

    out: Out = Path("study")
    """Folder of the study."""

    resume: Annotated[Path | None, Option("output", metavar="FOLDER")] = None
    """Go on with the study in this folder."""

    batch_rows: Annotated[Annotated[int, Within(1, 10_000)] | None, Option("advanced", default="by size")] = None
    """Most rows in one call of the denoiser; where memory does not suffice it is halved."""

    checkpoint: Annotated[float, Within(0), Option("advanced", metavar="SECONDS")] = 60.0
    """How often a subject in progress is kept."""

    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], Option("model")] = "auto"
    """Precision of the model; auto is float16 on CUDA and float32 elsewhere."""


@dataclass(frozen=True)
class StudyStatusOptions(Command):
    """Tell how far a study is.

    For example:

      samecast study status aiku
    """

    folder: Annotated[Path, Option(positional=True, metavar="FOLDER")]
    """Folder of the study."""


@dataclass(frozen=True)
class StudyReportOptions(Command):
    """Make a study's table, figures and page anew, and write its findings as Markdown.

    For example:

      samecast study report study --write docs/study.md
    """

    folder: Annotated[Path, Option(positional=True, metavar="FOLDER")]
    """Folder of the study."""

    write: Annotated[Path | None, Option("output", metavar="FILE.MD")] = None
    """Where to write the findings; their figures go into `pictures/` beside the file."""
