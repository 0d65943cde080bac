"""What a step of the flow transformer is on: latents with captions, alone or as pairs of photos of one subject."""

from argparse import Namespace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch

from samecast.diorama.captions import caption
from training.data import spec_of
from training.flow_data import Shards
from training.samples import LOOK_ALIKES, dropped


class Drawn(NamedTuple):
    """Latents `z` (n, channels, height, width), the shares of parts in each of 16 x 16 tokens (n, parts, 16, 16), and
    captions. Of pairs the first half of the rows are the photos, the second half others of the same subjects."""

    z: torch.Tensor
    parts: torch.Tensor
    texts: list[str]
    how: Literal["alone", "beside", "instead"] = "alone"


class Samples:
    """Draws a step's pictures from its number and the seed. Until step `small` they are of 128 px, four times as many
    to a batch's tokens; from step `pairs_from` on a share of the steps is on diptychs and readings."""

    def __init__(self, given: Namespace) -> None:
        self.given = given
        self.singles = Shards("train")
        self.mates = Shards("mates") if given.diptychs or given.readings else self.singles
        self.spec = cache(spec_of)  # worked out again, it would be most of a GPU's step

    def kind(self, step: int) -> Literal["small", "latents"]:
        """Return which latents a step is on."""
        return "small" if step < self.given.small else "latents"

    def at(self, seed: tuple[int, int], step: int, batch: int) -> Drawn:
        """Draw a step's pictures: `batch` rows of 256 px, twice as many of 128."""
        rng, kind = np.random.default_rng((*seed, 0)), self.kind(step)
        if step % 500 == 0:
            for shards in (self.singles, self.mates):
                shards.refresh()
        what = np.random.default_rng((seed[0], step, 2)).uniform()
        if step >= self.given.pairs_from and what < self.given.diptychs:
            return self.pairs(rng, kind, batch // 2, "beside")
        if step >= self.given.pairs_from and what < self.given.diptychs + self.given.readings:
            return self.pairs(rng, kind, batch // 2, "instead")
        return self.singly(rng, kind, batch * 2 if kind == "small" else batch)

    def singly(self, rng: np.random.Generator, kind: str, count: int) -> Drawn:
        """Draw one picture of each subject; classes that look alike `animals` times as often as others."""
        picks: list[int] = []
        while len(picks) < count:
            pick = int(rng.integers(len(self.singles)))
            alike = self.spec("train", pick).identity.kind in LOOK_ALIKES
            if alike or rng.uniform() * self.given.animals < 1:
                picks.append(pick)
        flip = rng.integers(2, size=count)
        seen = [self.spec("train", pick) for pick in picks]
        texts = [
            caption(spec.mirrored() if mirrored else spec, rng, self.given.bare).text
            for spec, mirrored in zip(seen, flip, strict=True)
        ]
        return Drawn(*self.singles.take(kind, np.array(picks), flip), dropped(texts, rng))

    def pairs(self, rng: np.random.Generator, kind: str, count: int, how: Literal["beside", "instead"]) -> Drawn:
        """Draw `count` photos and as many others of the same subjects. Looks are told in a share `words` of the
        captions; photos that are read *instead* have none."""
        ready = min(len(self.singles), len(self.mates))
        picks, flip = np.sort(rng.integers(ready, size=count)), rng.integers(2, size=count)
        (one, one_parts), (other, other_parts) = (
            self.singles.take(kind, picks, flip),
            self.mates.take(kind, picks, flip),
        )
        photos = [[self.spec("train", pick), self.spec("mates", pick)] for pick in picks.tolist()]
        record = [
            [caption(spec.mirrored() if mirrored else spec, rng, 1 - self.given.words).text for spec in both]
            for both, mirrored in zip(photos, flip, strict=True)
        ]
        texts = [each[0] if how == "beside" else "" for each in record] + [each[1] for each in record]
        texts = dropped(texts, rng)
        return Drawn(torch.cat([one, other]), torch.cat([one_parts, other_parts]), texts, how)
