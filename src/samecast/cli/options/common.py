"""Options that several commands share, as base dataclasses of the commands' options.

Nothing in this package imports torch, so that `samecast --help` is fast. An option left at None is set where it is
used: by the method, the model or the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from samecast.checked import Option, Within
from samecast.cli.words import Command
from samecast.core.embedded import EMBEDDED, INSTEAD, KNOWS
from samecast.core.settings import RenderSettings
from samecast.metrics import METRICS

DEFAULTS = RenderSettings()
Out = Annotated[Path, Option("output", aliases=("-o",), metavar="FOLDER")]
OutFile = Annotated[Path, Option("output", aliases=("-o",), metavar="FILE")]


@dataclass(frozen=True)
class ModelOptions(Command):
    """Which model, and where to compute."""

    model: Annotated[
        str,
        Option(
            "model",
            metavar="MODEL",
            default=f"{EMBEDDED}, the embedded model",
            help="A diffusers directory, a .safetensors file or a hub id of the Stable Diffusion 1.x, 2.x or XL family;"
            " or a directory or hub id of Stable Diffusion 3, FLUX, Z-Image, Qwen-Image or PixArt-Sigma."
            f" The embedded model knows {KNOWS}; {INSTEAD}.",
        ),
    ] = EMBEDDED

    device: Annotated[str, Option("model", metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""


@dataclass(frozen=True)
class LoadOptions(ModelOptions):
    """How to load a model, and its LoRAs and concepts."""

    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], Option("model")] = "auto"
    """Precision of the model; auto is float16 on CUDA and float32 elsewhere."""

    lora: Annotated[tuple[str, ...], Option("model", metavar="FILE[:STRENGTH]", repeated=True)] = ()
    """A LoRA to add to the model, in the format of diffusers, PEFT, kohya or another tool; may be repeated."""

    concept: Annotated[tuple[str, ...], Option("model", metavar="FILE[:STRENGTH]", repeated=True)] = ()
    """A learned concept to apply to the model; prompts use its modifier token: "a <new1> dog". May be repeated."""


@dataclass(frozen=True)
class ExecutorOptions(ModelOptions):
    """Where to run a job with many units."""

    dry_run: Annotated[bool, Option("output")] = False
    """Only print what the job would take."""

    executor: Annotated[Literal["local", "ray"], Option("advanced")] = "local"
    """Where to run: in this process, or with workers of a Ray cluster, one for each device."""

    workers: Annotated[Annotated[int, Within(1, 100_000)] | None, Option("advanced", default="one for each GPU")] = None
    """With --executor ray: number of workers."""

    address: Annotated[str | None, Option("advanced", metavar="ADDRESS", default="a cluster of its own")] = None
    """With --executor ray: the cluster to join, host:port or auto; the folder must be on storage shared by all its
    machines.
    """

    wait: Annotated[float, Within(0, 1e9), Option("advanced", metavar="SECONDS")] = 300.0
    """With --executor ray: how long to wait for a cluster that does not answer or has no free resources."""


def metrics_option(default: Sequence[str]) -> Option:
    """The option that chooses metrics; its help lists all metrics and the default ones."""
    known, taken = ([name for name in names if not METRICS[name].is_detail] for names in (METRICS, default))
    return Option(
        "output", metavar="NAME", default=" ".join(taken), help=f"Metrics to score pictures by: {', '.join(known)}."
    )
