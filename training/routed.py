"""Attention in the denoiser's training: halves of a wide canvas that hear captions of their own, and rows that read the
keys and values of others, as mutual self-attention does (Cao et al., 2023)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from samecast.models.unet import walk


class Reading:
    """Which row's keys and values each row reads, and at which self-attention layers, in order of execution: none, but
    within `reading`."""

    def __init__(self) -> None:
        self.rows: torch.Tensor | None = None
        self.layers = range(0)

    @contextmanager
    def reading(self, rows: torch.Tensor, layers: range) -> Iterator[None]:
        """Let row i read row `rows[i]` at some layers."""
        self.rows, self.layers = rows, layers
        try:
            yield
        finally:
            self.rows, self.layers = None, range(0)


class Routed:
    """Attention in which the left and the right half of a wide canvas each read their own caption, where there are two
    for each canvas, left before right; and self-attention in which rows read others, where `reading` says so."""

    def __init__(self, inner: AttnProcessor | AttnProcessor2_0, reading: Reading, layer: int) -> None:
        self.inner, self.reading, self.layer = inner, reading, layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        **given: Any,
    ) -> torch.Tensor:
        """Attend from tokens (n, tokens, width) to themselves or to captions (n or 2 n, 77, context)."""
        if encoder_hidden_states is None:
            rows = self.reading.rows if self.layer in self.reading.layers else None
            return self.inner(attn, hidden_states, hidden_states if rows is None else hidden_states[rows], **given)
        if len(encoder_hidden_states) == len(hidden_states):
            return self.inner(attn, hidden_states, encoder_hidden_states, **given)
        side = math.isqrt(hidden_states.shape[1] // 2)
        halves = hidden_states.unflatten(1, (side, 2, side)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        data = self.inner(attn, halves, encoder_hidden_states, **given)
        return data.unflatten(1, (side, side)).unflatten(0, (-1, 2)).transpose(1, 2).flatten(1, 3)


def route(unet: UNet2DConditionModel, inner: AttnProcessor | AttnProcessor2_0) -> Reading:
    """Put `Routed` at all layers, and return what tells them who reads whom."""
    reading = Reading()
    for kind in ("self", "cross"):
        for held in walk(unet, kind):
            held.module.set_processor(Routed(inner, reading, held.layer.index))
    return reading


def drawn_layers(rng: np.random.Generator, count: int = 16) -> range:
    """Return the layers at which rows read others: from a random one on or up to one, and neither end is favoured."""
    bound = int(rng.integers(count))
    return range(bound, count) if rng.uniform() < 0.5 else range(bound + 1)
