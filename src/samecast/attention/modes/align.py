"""Align: queries and own keys take on mean and deviation of the first other row's (StyleAligned).

Hertz et al., CVPR 2024, arXiv 2312.02133, section 3.2: shared attention with AdaIN (equation 3), so that the others'
keys are not outdone by one's own.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from samecast.attention.modes.base import Mode, Part, Reading

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-5  # as instance normalisation has it


@dataclass(frozen=True)
class Align(Mode):
    """Shared attention with AdaIN."""

    name: ClassVar[str] = "align"
    reads_besides: ClassVar[frozenset[Part]] = frozenset({"query"})

    def change(self, reading: Reading) -> None:
        """Aligns queries and own keys of every reader that reads somebody else."""
        query, key = reading.query.clone(), reading.key.clone()
        for row, reader in enumerate(reading.readers):
            if all(reader.own):
                continue
            first = reader.own.index(False)
            query[row] = align(query[row], reading.pool[row][first]["query"])
            style = key[row, :, reading.span(first)]
            for at in (number for number, own in enumerate(reader.own) if own):
                key[row, :, reading.span(at)] = align(key[row, :, reading.span(at)], style)
        reading.query, reading.key = query, key


def align(states: "Tensor", style: "Tensor") -> "Tensor":
    """AdaIN over tokens: `states` (heads, token, channel) with mean and deviation of `style`."""
    mean, deviation = _moments(states)
    style_mean, style_deviation = _moments(style)
    return (states - mean) / deviation * style_deviation + style_mean


def _moments(states: "Tensor") -> "tuple[Tensor, Tensor]":
    variance = states.var(dim=1, keepdim=True)
    return states.mean(dim=1, keepdim=True), (variance + _EPSILON).sqrt()
