"""How much memory takes what is kept of the sources, known before the run; beyond a budget they are computed again.

Kept is what is read of each controlled layer, mostly its keys and values: at every step at which a source is read, for
every such layer, 2 x rows x tokens x channels numbers. One photo at 50 steps under MasaCtrl comes to 2 GiB with Stable
Diffusion 1.x in float32, and to 7.2 GiB with XL at 1024 px from layer 44 on in float16.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil
import torch

from samecast.attention.modes.base import Part
from samecast.attention.plan import Plan
from samecast.core.batch import Branches
from samecast.models.base import Backbone

GIB = 2**30
_SHARE_OF_FREE = 0.5  # the rest is for the denoiser's own work


@dataclass(frozen=True)
class MemoryPlan:
    """What is kept of the sources' pass.

    Args:
        recomputed: the steps at which sources are read but not kept, for want of memory: there their rows join each
            batch of targets.
        kept: bytes that the rest takes.
        wanted: bytes that all would take.
    """

    recomputed: frozenset[int] = frozenset()
    kept: int = 0
    wanted: int = 0

    def __str__(self) -> str:
        whole = f"{self.wanted / GIB:.3g} GiB"
        if not self.recomputed:
            return f"{whole} of the sources kept"
        return (
            f"{self.kept / GIB:.3g} of {whole} of the sources kept; computed again at {len(self.recomputed)} step"
            f"{'s' * (len(self.recomputed) > 1)}"
        )


def plan_memory(
    backbone: Backbone,
    plan: Plan,
    branches: Branches,
    *,
    size: tuple[int, int],
    steps: Iterable[int],
    budget: float | None,
) -> MemoryPlan:
    """Chooses the steps to keep: as many as fit, for a step that is not kept costs the same whatever its size.

    Args:
        backbone: the model.
        plan: who reads whom.
        branches: whose sources are kept.
        size: height and width of the pictures in pixels.
        steps: those that the sources' pass evaluates.
        budget: most memory in GiB; None is half of what is free.
    """
    rows = len(branches.layout(targets=()).rows)
    sizes = {step: rows * _row_bytes(backbone, plan.kept_parts_at(step), size) for step in steps}
    sizes = {step: taken for step, taken in sizes.items() if taken}
    limit = _SHARE_OF_FREE * free_memory(backbone.device) if budget is None else budget * GIB
    kept, recomputed = 0, set[int]()
    for step in sorted(sizes, key=lambda step: (sizes[step], step)):
        if kept + sizes[step] <= limit:
            kept += sizes[step]
        else:
            recomputed.add(step)
    return MemoryPlan(frozenset(recomputed), kept, sum(sizes.values()))


def _row_bytes(backbone: Backbone, parts: Mapping[int, frozenset[Part]], size: tuple[int, int]) -> int:
    """What one row leaves at some layers of one step."""
    total = 0
    for bound in backbone.self_attention():
        # The layer's share of the picture's pixels along each side, rounded up as layers of stride 2 do.
        rows, columns = (-(-bound.layer.resolution * side // backbone.default_size) for side in size)
        for part in parts.get(bound.layer.index, ()):
            total += rows * columns * (bound.module.query_dim if part == "hidden" else bound.module.inner_dim)
    return total * backbone.dtype.itemsize


def free_memory(device: torch.device) -> int:
    """Bytes that could be allocated on a device: of CUDA's also those that torch holds and does not use."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
