"""The options of `samecast tune`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from samecast.checked import RAW, Within
from samecast.cli.options.common import (
    WAIT,
    Address,
    Device,
    DryRun,
    ExecutorName,
    Guidance,
    GuidanceRescale,
    Init,
    Model,
    Size,
    Steps,
    TuneMetrics,
    Wait,
    Workers,
    arg,
)


@dataclass(frozen=True)
class TuneOptions:
    """Search the rules that suit one subject: at which steps, at which layers?

    Candidates share their work; the better half goes on to more prompts, until the last are tried on all prompts and
    photos. The front of best trade-offs is shown, and the chosen rules go into a file. For example:

      samecast tune rex.png "a dog running on the beach" "a dog in the snow" --out tuned
      samecast render rex.png "a dog at the lake" --rules tuned/rules.json
    """

    inputs: Annotated[
        tyro.conf.Positional[tuple[Annotated[str, RAW], ...]],
        arg(metavar="REFERENCE [REFERENCE ...] PROMPT [PROMPT ...]", help_behavior_hint=""),
    ] = ()
    """Photos of the subject, then prompts, as for `samecast render`."""

    axis: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="FIELD=VALUES")] = ()
    """The candidates, as for `samecast study`; by default three starts, six final steps and three sets of layers."""

    favour: Annotated[float, arg(metavar="0-1"), Within(0, 1)] = 0.5
    """What counts: 0 is text alignment alone, 1 image alignment alone."""

    noun: Annotated[str, arg(metavar="WORD", help_behavior_hint="")] = ""
    """What the subject is, in a word; replaces {noun} in the prompts."""

    seeds: Annotated[int, arg(metavar="INT"), Within(1, 100_000)] = 1
    """Pictures of each prompt in the last round; more than one needs --init noise or a blend."""

    init: Init = "inverted"

    size: Size = None

    steps: Steps = 50

    guidance: Guidance = None

    guidance_rescale: GuidanceRescale = 0.0

    model: Model = "diorama"
    """Any model that `samecast render` takes."""

    metrics: TuneMetrics = ()

    clip: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the model's)")] = ""
    """CLIP that scores alignment, a folder or hub id."""

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("tuned")
    """Folder for rules.json, front.png and all pictures. A search that was stopped goes on."""

    dry_run: DryRun = False

    executor: ExecutorName = "local"

    workers: Workers = None

    address: Address = None

    wait: Wait = WAIT

    device: Device = "auto"
