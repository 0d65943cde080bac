"""Which tokens: masks of the subject, brought to the size of a layer, and what they allow.

With hard masks MasaCtrl's two softmaxes and blend (arXiv 2304.08465, section 4.2: foreground queries read foreground
keys, background queries background keys) are one attention in which query i may read key j when
`target_mask[i] == source_mask[j]`. A query that may read nothing reads all, rather than nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_LEAST = 1e-6
Blank = Literal["empty", "full"]
Grid = tuple[int, int]
"""Height and width of a picture in tokens."""


@dataclass(frozen=True, eq=False)
class SubjectMask:
    """Where in a picture the subject is, at any resolution.

    Args:
        values: 0 (background) to 1 (subject); on the CPU.
        threshold: a token belongs to the subject where the resized value is at least this.
    """

    values: Float[Tensor, "height width"]
    threshold: float = 0.5
    _sizes: dict[int, Tensor] = field(default_factory=dict[int, Tensor], repr=False)
    _won: dict[int, Tensor] = field(default_factory=dict[int, Tensor], repr=False)

    @property
    def aspect(self) -> float:
        """Width of the picture over its height."""
        return self.values.shape[1] / self.values.shape[0]

    def tokens(self, count: int) -> Bool[Tensor, " token"]:
        """The mask of a picture of `count` tokens, row by row; resized bilinearly with antialiasing, then binarised."""
        if count not in self._sizes:
            self._sizes[count] = self.resized(count) >= self.threshold
        return self._sizes[count]

    def resized(self, count: int) -> Float[Tensor, " token"]:
        """The values at the size of a picture of `count` tokens, row by row."""
        return resize_map(self.values, grid_of(count, self.aspect)).flatten()

    def keep_won(self, count: int, tokens: Bool[Tensor, " token"]) -> None:
        """Notes what is left of the mask where others compete with it, for `blank` to report."""
        self._won[count] = tokens

    @property
    def coverage(self) -> float:
        """The subject's share of the picture, 0 to 1, at the mask's own resolution."""
        return float((self.values >= self.threshold).float().mean())

    @property
    def blank(self) -> dict[Grid, Blank]:
        """The grids of tokens that were asked for and at which the mask separates nothing; and what it is there."""
        used = self._sizes | self._won
        shares = {grid_of(count, self.aspect): float(mask.float().mean()) for count, mask in used.items()}
        return {grid: "empty" if share == 0 else "full" for grid, share in shares.items() if share in (0, 1)}


def exclusive(masks: Sequence[SubjectMask], count: int) -> Bool[Tensor, "mask token"]:
    """Masks of several subjects in one picture of `count` tokens, such that each token belongs to one at most.

    A token that any mask claims goes to the mask whose value there is the largest, compared with the mean of its values
    over all tokens that are claimed; of equal ones to the first. So a map that is strong everywhere does not win
    everywhere, and of given masks that overlap the smaller one is in front.
    """
    values = torch.stack([mask.resized(count).double() for mask in masks])
    claimed = torch.stack([mask.tokens(count) for mask in masks]).any(dim=0)
    mean = values[:, claimed].mean(dim=1, keepdim=True).clamp(min=_LEAST)
    best = (values / mean).argmax(dim=0)
    won = torch.stack([claimed & (best == number) for number in range(len(masks))])
    for mask, tokens in zip(masks, won, strict=True):
        mask.keep_won(count, tokens)
    return won


@lru_cache
def grid_of(count: int, aspect: float) -> Grid:
    """The (height, width) in tokens of a picture of `count` tokens: of all whose product that is, the one whose width
    over height is nearest to `aspect`."""
    heights = (height for height in range(1, count + 1) if count % height == 0)
    height = min(heights, key=lambda height: abs(math.log(count / height / height / aspect)))
    return height, count // height


def tokens_of(mask: SubjectMask | None, count: int) -> Bool[Tensor, " token"]:
    """The tokens of a mask; without one, all."""
    return torch.ones(count, dtype=torch.bool) if mask is None else mask.tokens(count)


def resize_map(values: Float[Tensor, "_ _"], size: Grid) -> Float[Tensor, "height width"]:
    """Bilinear resize to (height, width) with antialiasing; a map of the wanted size passes through."""
    if values.shape == size:
        return values
    resized = torch.nn.functional.interpolate(
        values[None, None].float(), size, mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0, 0].to(values.dtype)


def separate(query: Bool[Tensor, " query"], keys: Bool[Tensor, " key"]) -> Bool[Tensor, "query key"]:
    """MasaCtrl's masks: subject reads subject, background reads background."""
    of_background_and_subject = open_empty(torch.stack([~keys, keys]))  # queries are of two kinds
    return of_background_and_subject[query.long()]


def open_empty(allowed: Bool[Tensor, "query key"]) -> Bool[Tensor, "query key"]:
    """Lets a query that may read nothing read all."""
    return allowed | ~allowed.any(dim=-1, keepdim=True)


def dropped(count: int, share: float, seed: int) -> Bool[Tensor, " token"]:
    """Tokens to leave out, each with probability `share`; drawn on the CPU, so that the device changes nothing."""
    return torch.rand(count, generator=torch.Generator("cpu").manual_seed(seed)) < share
