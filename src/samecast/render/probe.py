"""Which layers matter to a model, found by leaving each out: the vital layers of Stable Flow.

Avrahami et al., CVPR 2025, arXiv 2411.14430, section 3.2: a layer is skipped, and the pictures are compared with those
of the whole model. Where they change most, the layer is vital, and reading a source there carries the source over. The
paper bypasses whole blocks and compares DINOv2's features; here a layer's attention puts out nothing (in FLUX.2's fused
single blocks that is the whole block), and pictures are compared pixel by pixel, so that no other model is needed.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy
import torch

from samecast.core.layers import Layer
from samecast.core.settings import RenderSettings
from samecast.errors import SamecastError
from samecast.models.base import BoundLayer
from samecast.render.model import Model

PROMPTS = ("a photo of a dog on the beach", "a photo of a red chair in a room")
"""What is rendered, where nothing else is given."""


@dataclass(frozen=True)
class Probed:
    """What leaving a layer out does.

    Args:
        layer: which.
        change: root of the mean squared difference of the pictures' pixels, 0 to 1.
    """

    layer: Layer
    change: float


def probe_layers(
    model: Model,
    prompts: Sequence[str] = PROMPTS,
    settings: RenderSettings | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Probed, ...]:
    """Every layer of self-attention or joint attention, in execution order, with what leaving it out does.

    Renders all prompts once as they are, and once without each layer, from the same noise.

    Args:
        model: the model; it is as before afterwards.
        prompts: one scene each.
        settings: how to render; `init` is always `noise`.
        progress: called with a stage, the layers done and their number.

    Raises:
        SamecastError: a prompt or a setting cannot be used.
    """
    asked = replace(settings or RenderSettings(), init="noise")

    def pictures() -> numpy.ndarray[Any, Any]:
        return model.render(None, prompts, rules=(), settings=asked, output_type="np").images

    whole, found = pictures(), list[Probed]()
    layers = model.backbone.self_attention()
    for number, bound in enumerate(layers, start=1):
        with _left_out(bound):
            change = float(numpy.sqrt(numpy.mean((pictures() - whole) ** 2)))
        found.append(Probed(bound.layer, change))
        if progress is not None:
            progress("probe", number, len(layers))
    return tuple(found)


def vital_layers(probed: Sequence[Probed], count: int) -> tuple[Layer, ...]:
    """The layers that change pictures most, in execution order.

    Args:
        probed: as `probe_layers` gives them.
        count: how many.

    Raises:
        SamecastError: there are fewer layers.
    """
    if not 1 <= count <= len(probed):
        raise SamecastError(f"the number of vital layers must be 1 to {len(probed)}, the model's layers; got {count}")
    most = sorted(probed, key=lambda each: -each.change)[:count]
    return tuple(sorted((each.layer for each in most), key=lambda layer: layer.index))


@contextmanager
def _left_out(bound: BoundLayer) -> Generator[None]:
    """While it lasts, the layer puts out nothing."""

    def nothing(module: Any, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return tuple(torch.zeros_like(part) for part in cast(tuple[torch.Tensor, ...], output))
        return torch.zeros_like(output)

    handle = cast(torch.nn.Module, bound.module).register_forward_hook(nothing)
    try:
        yield
    finally:
        handle.remove()
