"""Whole weights as changes of low rank, and back (Custom Diffusion, arXiv 2212.04488, section 3 and appendix).

What training has changed of a layer, D = W - W0, is close to low rank: kept are the largest singular values as long as
their sum is at most a share of that of all, 0.6 in the paper. Where the first alone is more, none is kept, as in the
authors' code. With all of them the change is a LoRA that is exact up to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.concepts.apply import difference, related_parameters
from samecast.concepts.concept import Change, Concept, LowRank, Value
from samecast.concepts.places import find_pipeline
from samecast.errors import SamecastError

KEEP = 0.6
"""The paper's share of the singular values' sum."""

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much is done, and how much there is."""


@dataclass(frozen=True)
class LayerLoss:
    """What a compression lost of one layer.

    Args:
        name: of the parameter.
        rank: that was kept; 0 where nothing was changed, or the first singular value is more than the share.
        norm: Frobenius norm of D.
        lost: Frobenius norm of what was left out.
    """

    name: str
    rank: int
    norm: float
    lost: float

    @property
    def error(self) -> float:
        """The share that was lost: 0 is nothing, 1 all."""
        return self.lost / self.norm if self.norm else 0.0


@dataclass(frozen=True)
class Compression:
    """What a compression lost and saved.

    Args:
        layers: each that was decomposed.
        bytes_before: of the concept.
        bytes_after: of the compressed concept.
    """

    layers: tuple[LayerLoss, ...]
    bytes_before: int
    bytes_after: int

    @property
    def error(self) -> float:
        """The share of the change that was lost, over all layers: Frobenius norms."""
        norm = sum(layer.norm**2 for layer in self.layers) ** 0.5
        return sum(layer.lost**2 for layer in self.layers) ** 0.5 / norm if norm else 0.0

    @property
    def worst(self) -> LayerLoss:
        """The layer that lost the largest share."""
        return max(self.layers, key=lambda layer: layer.error)


def compress(
    concept: Concept, model: Any, *, keep: float = KEEP, progress: Progress | None = None
) -> tuple[Concept, Compression]:
    """The concept with its whole weights as changes of low rank; what is of low rank already, and biases, stay.

    Args:
        concept: what to compress.
        model: the model that it was learned on, without any concept applied.
        keep: share of the singular values' sum that is kept of each layer, above 0 and at most 1.
        progress: told how far the work is (`compress`).

    Raises:
        SamecastError: `keep` is out of range, the concept is of another model, or there is nothing to compress.
    """
    if not 0 < keep <= 1:
        raise SamecastError(f"the share of singular values to keep must be above 0 and at most 1; got {keep}")
    parameters = related_parameters(find_pipeline(model), concept, "the concept")
    changes: dict[str, Change] = {}
    layers: list[LayerLoss] = []
    for number, (name, change) in enumerate(concept.changes.items(), start=1):
        if isinstance(change, LowRank) or change.value.ndim < 2:
            changes[name] = change
            continue
        pair, loss = _decompose(name, difference(change, parameters[name].detach()).cpu().double().flatten(1), keep)
        layers.append(loss)
        changes[name] = _in_shape(pair, change.value)
        if progress is not None:
            progress("compress", number, len(concept.changes))
    if not layers:
        raise SamecastError("the concept has no whole weights, so that there is nothing to compress")
    if not any(layer.norm for layer in layers):
        raise SamecastError("no weight of the concept differs from the model's, so that there is nothing to compress")
    if not any(layer.rank for layer in layers):
        raise SamecastError(
            f"with a share of {keep} nothing is kept: in every layer the first singular value alone is more; keep more"
        )
    compressed = replace(concept, changes=changes)
    return compressed, Compression(tuple(layers), concept.size, compressed.size)


def materialise(concept: Concept, model: Any) -> Concept:
    """The concept with all its changes as whole weights, in float32; what is whole already stays.

    Args:
        concept: what to make whole.
        model: the model that it was learned on, without any concept applied.

    Raises:
        SamecastError: the concept is of another model.
    """
    parameters = related_parameters(find_pipeline(model), concept, "the concept")
    changes: dict[str, Change] = {}
    for name, change in concept.changes.items():
        base = parameters[name].detach()
        changes[name] = change if isinstance(change, Value) else Value(base.float() + difference(change, base))
    return replace(concept, changes=changes)


def _decompose(name: str, delta: Float[Tensor, "out in"], keep: float) -> tuple[LowRank, LayerLoss]:
    left, values, right = torch.linalg.svd(delta, full_matrices=False)
    floor = values[0] * max(delta.shape) * torch.finfo(values.dtype).eps
    nonzero = int((values > floor).sum())
    shares = values.cumsum(0) / values.sum()
    rank = min(nonzero, int((shares <= keep).sum())) if keep < 1 else nonzero
    loss = LayerLoss(name, rank, float(values.norm()), float(values[rank:].norm()))
    return LowRank(left[:, :rank] * values[:rank], right[:rank]), loss


def _in_shape(pair: LowRank, value: Tensor) -> LowRank:
    """The pair in a weight's precision, and for a convolution's weight in the shape of two convolutions."""
    up, down = pair.up.to(value.dtype), pair.down.to(value.dtype)
    if value.ndim == 2:
        return LowRank(up, down)
    ones = (1,) * (value.ndim - 2)
    return LowRank(up.reshape(*up.shape, *ones), down.reshape(pair.rank, *value.shape[1:]))
