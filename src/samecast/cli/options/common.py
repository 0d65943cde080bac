"""Options that several commands take alike: their types, and their help where it is the same everywhere."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from samecast.checked import Within
from samecast.metrics import ALIGNMENT, BENCHMARK, DEFAULT, METRICS

arg = tyro.conf.arg

On = tyro.conf.FlagCreatePairsOff[bool]
"""A switch that is off unless it is given."""

Model = Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")]
"""Which models will do is told by each command."""

Steps = Annotated[int, arg(metavar="INT", help="Denoising steps."), Within(1, 10_000)]

Guidance = Annotated[
    float | None,
    arg(
        metavar="SCALE",
        help="How closely to follow the prompt (classifier-free guidance): 7.5 is usual for Stable Diffusion, 5 for XL;"
        " 1 is without, and twice as fast.",
        help_behavior_hint="(default: the model's)",
    ),
    Within(0, 1000),
]

GuidanceRescale = Annotated[
    float, arg(metavar="0-1", help="How far guidance is kept from raising contrast."), Within(0, 1)
]

Init = Annotated[
    Literal["inverted", "noise"] | float,
    arg(
        metavar="inverted|noise|0-1",
        help="Where pictures start: the photo's inverted latent, which keeps its layout, fresh noise, or from 0 (photo)"
        " to 1 (noise) between.",
    ),
    Within(0, 1),
]

Size = Annotated[
    int | None,
    arg(metavar="PIXELS", help="Side of the pictures.", help_behavior_hint="(default: the model's)"),
    Within(1, 8192),
]

Lora = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    arg(
        metavar="FILE[:STRENGTH]",
        help="A LoRA to add to the model, of diffusers, PEFT, kohya or another tool; may be repeated.",
    ),
]


def _metrics(default: Sequence[str]) -> Any:
    """Help that lists what there is, and what is taken by default; details are not listed."""
    listed, taken = ([name for name in names if not METRICS[name].is_detail] for names in (METRICS, default))
    return arg(
        metavar="NAME",
        help=f"What to score pictures by: {', '.join(listed)}.",
        help_behavior_hint=f"(default: {' '.join(taken)})",
    )


StudyMetrics = Annotated[tuple[str, ...], _metrics(DEFAULT)]
TuneMetrics = Annotated[tuple[str, ...], _metrics(ALIGNMENT)]
BenchmarkMetrics = Annotated[tuple[str, ...], _metrics(BENCHMARK)]

Device = Annotated[str, arg(metavar="auto|cpu|cuda|mps", help="Where to compute.")]

Dtype = Annotated[
    Literal["auto", "float32", "float16", "bfloat16"],
    arg(metavar="TYPE", help="Precision of the model: auto, float32, float16 or bfloat16."),
]

ExecutorName = Annotated[
    Literal["local", "ray"],
    arg(help="Where to work: in this process, or with workers of a Ray cluster, one for each device."),
]

Workers = Annotated[
    int | None,
    arg(metavar="INT", help="With --executor ray: how many workers.", help_behavior_hint="(default: one for each GPU)"),
]

Address = Annotated[
    str | None,
    arg(
        metavar="ADDRESS",
        help="With --executor ray: the cluster to join, host:port or auto; the folder must be on storage that all its"
        " machines share.",
        help_behavior_hint="(default: a cluster of its own)",
    ),
]

Wait = Annotated[
    float,
    arg(
        metavar="SECONDS",
        help="With --executor ray: how long to wait for a cluster that does not answer or has no room, before giving"
        " up.",
    ),
]

WAIT = 300.0

DryRun = Annotated[On, arg(help="Only tell what it would take.", help_behavior_hint="")]
