"""Cross-attention maps: where the denoiser looks when it reads a word (Hertz et al., arXiv 2208.01626), made masks.

A map of a row and layer is the softmax over the prompt's tokens, averaged over heads: each image token's probabilities
sum to 1. Maps of a word are averaged over layers, its tokens and steps, min-max normalised, and thresholded: MasaCtrl
(arXiv 2304.08465, section 4.2) at 0.1, or by Otsu's method (1979), which parts the values where the two classes differ
most.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.core.masks import grid_of, resize_map
from samecast.core.tokens import Threshold
from samecast.errors import SamecastError

_CONSTANT = 1e-6
_BINS = 256


def probabilities(
    query: Float[Tensor, "row heads pixel channel"],
    key: Float[Tensor, "row heads text channel"],
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Float[Tensor, "row pixel text"]:
    """softmax(Q K' / sqrt d), averaged over heads; in float32.

    Args:
        query: of each row.
        key: likewise.
        mask: as scaled dot-product attention takes it: what is added to the logits, or where a query may read; it
            broadcasts to (row, heads, pixel, text).
        scale: of the logits; None is 1 / sqrt d.
    """
    scores = query.float() @ key.float().transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1).mean(dim=1)


def combine_maps(
    maps: Sequence[Float[Tensor, "_ text"]], columns: Sequence[int], aspect: float = 1.0
) -> Float[Tensor, "height width"]:
    """The mean over layers and tokens, at the resolution of the finest layer.

    Args:
        maps: of one row at each layer.
        columns: the tokens of the words.
        aspect: the picture's width over its height.
    """
    means = [values[:, list(columns)].mean(dim=1).unflatten(0, grid_of(len(values), aspect)) for values in maps]
    finest = max((tuple(mean.shape) for mean in means), key=lambda shape: shape[0])
    return torch.stack([resize_map(mean, (finest[0], finest[1])) for mean in means]).mean(dim=0)


def normalise(values: Float[Tensor, "height width"], what: str) -> Float[Tensor, "height width"]:
    """Min-max to 0..1.

    Raises:
        SamecastError: the map is constant, so that it says nothing.
    """
    low, high = values.min(), values.max()
    if high - low < _CONSTANT:
        raise SamecastError(f"the attention map of {what} is {float(high):.3g} everywhere: it shows no subject")
    return (values - low) / (high - low)


def threshold_of(values: Float[Tensor, "height width"], threshold: Threshold) -> float:
    """The number that parts a normalised map."""
    return otsu(values) if threshold == "otsu" else threshold


def otsu(values: Float[Tensor, "height width"]) -> float:
    """Otsu's threshold of values in 0..1: that which maximises the variance between the two classes.

    Where several do, as in the gap between two values, it is the middle of them.
    """
    counts = torch.histc(values.float(), _BINS, 0, 1).double()
    middles = (torch.arange(_BINS, dtype=torch.float64) + 0.5) / _BINS
    below, total = counts.cumsum(0), counts.sum()
    mass = (counts * middles).cumsum(0)
    mean_below = mass / below.clamp(min=1)
    mean_above = (mass[-1] - mass) / (total - below).clamp(min=1)
    between = below * (total - below) * (mean_below - mean_above) ** 2
    best = (between >= between.max() * (1 - 1e-9)).nonzero().flatten().double()
    return float((best.mean() + 1) / _BINS)
