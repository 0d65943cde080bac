"""The options of `samecast tune`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samecast.checked import RAW, Option, Takes, Within
from samecast.cli.options.common import DEFAULTS, ExecutorOptions, Out, metrics_option
from samecast.core.settings import RenderSettings
from samecast.metrics import ALIGNMENT


@dataclass(frozen=True)
class TuneOptions(ExecutorOptions):
    """Search the rules that suit one subject: at which steps, at which layers?

    Candidates share their work; the better half goes on to more prompts, until the last are tried on all prompts and
    photos. The front of best trade-offs is shown, and the chosen rules go into a file. For example:

      samecast tune rex.png "a dog running on the beach" "a dog in the snow" --out tuned
      samecast render rex.png "a dog at the lake" --rules tuned/rules.json
    """

    inputs: Annotated[
        tuple[Annotated[str, RAW], ...],
        Option(positional=True, metavar="REFERENCE [REFERENCE ...] PROMPT [PROMPT ...]"),
    ] = ()
    """Photos of the subject, then prompts, as for `samecast render`."""

    noun: Annotated[str, Option("subject", metavar="WORD")] = ""
    """What the subject is, in a word; replaces {noun} in the prompts."""

    axis: Annotated[tuple[str, ...], Option("method", metavar="FIELD=VALUES", repeated=True)] = ()
    """The candidates, as for `samecast study`; by default three starts, six final steps and three sets of layers."""

    favour: Annotated[float, Within(0, 1), Option("method")] = 0.5
    """What counts: 0 is text alignment alone, 1 image alignment alone."""

    seeds: Annotated[int, Within(1, 100_000), Option("sampling")] = 1
    """Pictures of each prompt in the last round; more than one needs --init noise or a blend."""

    settings: Annotated[
        RenderSettings,
        Takes("num_inference_steps", "guidance_scale", "guidance_rescale", "init", "height", "width", "fit"),
    ] = DEFAULTS

    metrics: Annotated[tuple[str, ...], metrics_option(ALIGNMENT)] = ()

    clip: Annotated[str, Option("output", metavar="MODEL", default="the model's")] = ""
    """CLIP that scores alignment, a folder or hub id."""

    out: Out = Path("tuned")
    """Folder for rules.json, front.png and all pictures. A search that was stopped goes on."""
