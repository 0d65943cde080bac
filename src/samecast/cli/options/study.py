"""The options of `samecast study`, and of its status and report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from samecast.checked import Within
from samecast.cli.options.common import (
    WAIT,
    Address,
    Device,
    DryRun,
    Dtype,
    ExecutorName,
    Guidance,
    GuidanceRescale,
    Init,
    Model,
    On,
    Size,
    StudyMetrics,
    Wait,
    Workers,
    arg,
)


@dataclass(frozen=True)
class StudyOptions:
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

    annotations: Annotated[
        tyro.conf.Positional[Path | None], arg(metavar="[ANNOTATIONS]", help_behavior_hint="(default: eight bundled)")
    ] = None
    """A list of {name, description, image_path} as JSON, or a folder with a folder of photos for each subject."""

    preset: Annotated[
        Literal["aiku", "masks", "full"] | None, arg(metavar="NAME", help_behavior_hint="(default: aiku)")
    ] = None
    """aiku: 44 settings by final step, start step and skip, for decoder and encoder layers; masks: by the maps that mask
    the subject; full: start x final x skip x layers, 840 settings."""

    only_seed: Annotated[On, arg(help_behavior_hint="")] = False
    """With --preset aiku: only what the AIKU study itself ran, without the settings that are added to it here."""

    axis: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="FIELD=VALUES")] = ()
    """In place of a preset: a field of a rule and its values, such as final=20:51:5 or maps=none,encoder. Axes
    multiply."""

    config: Annotated[Path | None, arg(metavar="FILE.YAML", help_behavior_hint="")] = None
    """Axes and fixed fields as YAML: `axes: {final: [20, 30], layers: [encoder, decoder]}` and `base: {start: 4}`."""

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("study")
    """Folder of the study."""

    resume: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Go on with the study in this folder."""

    dry_run: DryRun = False

    photos: Literal["first", "each", "together"] = "first"
    """What is read of a subject's photos: the first, each by itself as a repeat, or all at once."""

    seeds: Annotated[int, arg(metavar="INT"), Within(1, 100_000)] = 1
    """Pictures of each prompt; more than one needs --init noise or a blend."""

    subjects: Annotated[int, arg(metavar="1-32"), Within(1, 32)] = 8
    """How many of the bundled subjects."""

    prompts: Annotated[int, arg(metavar="1-20"), Within(1, 20)] = 1
    """How many scenes for each bundled subject."""

    repeats: Annotated[int, arg(metavar="1-4"), Within(1, 4)] = 1
    """How many photos of each bundled subject; more than one go with --photos each or together."""

    hidden: Annotated[On, arg(help_behavior_hint="")] = False
    """Add each bundled subject once more, read from photos that hide 30-60% of it."""

    steps: Annotated[int, arg(metavar="INT"), Within(1, 10_000)] = 50
    """Denoising steps. The presets' spans keep their share of the run."""

    guidance: Guidance = None

    guidance_rescale: GuidanceRescale = 0.0

    seed: Annotated[int, arg(metavar="INT")] = 0
    """Seed of the noise; without effect where everything starts from the photo's inverted latent."""

    init: Init = "inverted"

    size: Size = None

    pairing: Annotated[Literal["matched", "masactrl"], arg(metavar="matched|masactrl")] = "matched"
    """Which timestep inversion tells the denoiser: matched to the latent it is given, or the next one, as the code of
    MasaCtrl and of the AIKU study does."""

    model: Model = "diorama"
    """Any model that `samecast render` takes."""

    metrics: StudyMetrics = ()

    clip: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the model's)")] = ""
    """CLIP that scores alignment, a folder or hub id: openai/clip-vit-large-patch14, the embedded one for the embedded
    model."""

    dino: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the model's)")] = ""
    """Vision transformer that scores image alignment beside it, a folder or hub id; facebook/dino-vits16 beside the
    default CLIP, the embedded one for the embedded model; `none` leaves it out."""

    executor: ExecutorName = "local"

    workers: Workers = None

    address: Address = None

    wait: Wait = WAIT

    batch_rows: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: by size)"), Within(1, 10_000)
    ] = None
    """Most rows in one call of the denoiser; where memory does not suffice it is halved."""

    checkpoint: Annotated[float, arg(metavar="SECONDS"), Within(0)] = 60.0
    """How often a subject in progress is kept."""

    device: Device = "auto"

    dtype: Dtype = "auto"


@dataclass(frozen=True)
class StudyStatusOptions:
    """Tell how far a study is.

    For example:

      samecast study status aiku
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the study."""


@dataclass(frozen=True)
class StudyReportOptions:
    """Make a study's table, figures and page anew, and write its findings as Markdown.

    For example:

      samecast study report study --write docs/study.md
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the study."""

    write: Annotated[Path | None, arg(metavar="FILE.MD", help_behavior_hint="")] = None
    """Where to write the findings; their figures go into `pictures/` beside the file."""
