"""Which tokens: masks of the subject, brought to the size of a site, and what they allow.

With hard masks MasaCtrl's two softmaxes and blend (arXiv 2304.08465, section 4.2: foreground queries read foreground
keys, background queries background keys) are one attention in which query i may read key j when
`target_mask[i] == source_mask[j]`. A query that may read nothing reads all, rather than nothing.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Blank = Literal["empty", "full"]


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

    def tokens(self, count: int) -> Bool[Tensor, " token"]:
        """The mask of a square of `count` tokens, row by row; resized bilinearly with antialiasing, then binarised."""
        if count not in self._sizes:
            side = math.isqrt(count)
            if side * side != count:
                raise ValueError(f"{count} tokens are no square; masks are for square pictures")
            self._sizes[count] = (resize_map(self.values, side) >= self.threshold).flatten()
        return self._sizes[count]

    @property
    def coverage(self) -> float:
        """The subject's share of the picture, 0 to 1, at the mask's own resolution."""
        return float((self.values >= self.threshold).float().mean())

    @property
    def blank(self) -> dict[int, Blank]:
        """The sides, in tokens, that were asked for and at which the mask tells nothing apart; and what it is there."""
        shares = {math.isqrt(count): float(mask.float().mean()) for count, mask in self._sizes.items()}
        return {side: "empty" if share == 0 else "full" for side, share in shares.items() if share in (0, 1)}


def tokens_of(mask: SubjectMask | None, count: int) -> Bool[Tensor, " token"]:
    """The tokens of a mask; without one, all."""
    return torch.ones(count, dtype=torch.bool) if mask is None else mask.tokens(count)


def resize_map(values: Float[Tensor, "height width"], side: int) -> Float[Tensor, "side side"]:
    """Bilinear resize with antialiasing; a map of the wanted size passes through."""
    if values.shape == (side, side):
        return values
    resized = torch.nn.functional.interpolate(
        values[None, None].float(), (side, side), mode="bilinear", antialias=True, align_corners=False
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
