"""Compress whole weights to low-rank changes, and expand them (Custom Diffusion, arXiv 2212.04488, section 3,
appendix).

The trained change of a layer, D = W - W0, is close to low rank: the largest singular values are kept while their sum is
at most a share of the total, 0.6 in the paper. Where the first alone exceeds it, none is kept, as in the authors' code.
Keeping all gives a LoRA that is exact up to rounding.
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
"""Called with the stage's name, the units done and the total."""


@dataclass(frozen=True)
class LayerLoss:
    """The loss of one layer's compression.

    Args:
        name: the parameter's name.
        rank: the rank kept; 0 for an unchanged layer, or where the first singular value exceeds the share.
        norm: Frobenius norm of D.
        lost: Frobenius norm of the discarded part.
    """

    name: str
    rank: int
    norm: float
    lost: float

    @property
    def error(self) -> float:
        """The share lost, 0 to 1."""
        return self.lost / self.norm if self.norm else 0.0


@dataclass(frozen=True)
class Compression:
    """Losses and sizes of a compression.

    Args:
        layers: the decomposed layers.
        bytes_before: size of the concept.
        bytes_after: size of the compressed concept.
    """

    layers: tuple[LayerLoss, ...]
    bytes_before: int
    bytes_after: int

    @property
    def error(self) -> float:
        """The share of the change lost over all layers, in Frobenius norms, 0 to 1."""
        norm = sum(layer.norm**2 for layer in self.layers) ** 0.5
        return sum(layer.lost**2 for layer in self.layers) ** 0.5 / norm if norm else 0.0

    @property
    def worst(self) -> LayerLoss:
        """The layer that lost the largest share."""
        return max(self.layers, key=lambda layer: layer.error)


def compress(
    concept: Concept, model: Any, *, keep: float = KEEP, progress: Progress | None = None
) -> tuple[Concept, Compression]:
    """The concept with its whole weights as low-rank changes; existing low-rank changes and biases are kept.

    Args:
        concept: the concept to compress.
        model: the model that it was trained on, without any concept applied.
        keep: share of each layer's sum of singular values to keep, above 0 and at most 1.
        progress: called with progress (stage `compress`).

    Raises:
        SamecastError: `keep` is out of range, the concept belongs to another model, or there is nothing to compress.
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
        raise SamecastError("the concept has no whole weights: there is nothing to compress")
    if not any(layer.norm for layer in layers):
        raise SamecastError("no weight of the concept differs from the model's: there is nothing to compress")
    if not any(layer.rank for layer in layers):
        raise SamecastError(
            f"with a share of {keep} nothing is kept: in every layer the first singular value alone exceeds it; raise"
            f" it"
        )
    compressed = replace(concept, changes=changes)
    return compressed, Compression(tuple(layers), concept.size, compressed.size)


def materialise(concept: Concept, model: Any) -> Concept:
    """The concept with all changes as whole weights; low-rank changes become float32, whole weights are kept.

    Args:
        concept: the concept to expand.
        model: the model that it was trained on, without any concept applied.

    Raises:
        SamecastError: the concept belongs to another model.
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
    """The pair in the weight's precision; for a convolution, shaped as two convolutions."""
    up, down = pair.up.to(value.dtype), pair.down.to(value.dtype)
    if value.ndim == 2:
        return LowRank(up, down)
    ones = (1,) * (value.ndim - 2)
    return LowRank(up.reshape(*up.shape, *ones), down.reshape(pair.rank, *value.shape[1:]))
