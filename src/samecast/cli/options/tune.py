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
    """Search for the steps and layers that suit one subject.

    Candidates share their work; the better half of each round is tried on more prompts, the last on all prompts and
    photos. The best trade-offs are printed, and the chosen rules are written to a file. For example:

      samecast tune rex.png "a dog running on the beach" "a dog in the snow" --out tuned
      samecast render rex.png "a dog at the lake" --rules tuned/rules.json
    """

    inputs: Annotated[
        tuple[Annotated[str, RAW], ...],
        Option(positional=True, metavar="REFERENCE [REFERENCE ...] PROMPT [PROMPT ...]"),
    ] = ()
    """Photos of the subject, then prompts, as for `samecast render`."""

    noun: Annotated[str, Option("subject", metavar="WORD")] = ""
    """The class of the subject, such as dog; replaces {noun} in the prompts."""

    axis: Annotated[tuple[str, ...], Option("method", metavar="FIELD=VALUES", repeated=True)] = ()
    """The candidates, as for `samecast study`; by default three starts, six final steps and three sets of layers."""

    favour: Annotated[float, Within(0, 1), Option("method")] = 0.5
    """Weight of image alignment: 0 is text alignment alone, 1 image alignment alone."""

    seeds: Annotated[int, Within(1, 100_000), Option("sampling")] = 1
    """Pictures per prompt in the last round; more than one needs --init noise or a blend."""

    settings: Annotated[
        RenderSettings,
        Takes("num_inference_steps", "guidance_scale", "guidance_rescale", "init", "height", "width", "fit"),
    ] = DEFAULTS

    metrics: Annotated[tuple[str, ...], metrics_option(ALIGNMENT)] = ()

    clip: Annotated[str, Option("output", metavar="MODEL", default="the model's")] = ""
    """CLIP model that scores alignment, a folder or hub id."""

    out: Out = Path("tuned")
    """Folder for rules.json, front.png and all pictures. A stopped search is resumed."""
