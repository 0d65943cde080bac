"""What a step of the denoiser is on: latents of one subject, or on wide canvases of two photos of one subject or of
two subjects in one scene, with captions and with where the subjects' parts are."""

from argparse import Namespace
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from samecast.diorama.captions import BACKGROUND_PHRASES, LOOKS, caption, duo_caption, facts, phrase
from samecast.diorama.scenes import sample_duo
from training.clip import Specs
from training.data import Pictures, mate
from training.loop import Recipe

LOOK_ALIKES = ("dog", "cat", "bear")  # four legs and a head: the classes that are mistaken for one another


def cumulative_odds(specs: Specs, animals: float) -> np.ndarray:
    """Return the running sum of each picture's odds to be drawn, those of classes that look alike `animals` times the
    others'."""
    odds = np.array([animals if spec.identity.kind in LOOK_ALIKES else 1.0 for spec in specs.specs])
    return np.cumsum(odds / odds.sum())


PARTS = (1, 2, 3)
"""Of `Picture.parts`, what is drawn in an identity's colours: base, second, accessory."""


def each_part_alike(shares: torch.Tensor, least: float = 2.0) -> torch.Tensor:
    """Return what tokens count beyond others, so that every part of a subject counts the same in all, however small:
    (n, 1, 16, width), of the shares of tokens that its parts cover (n, parts, 16, width).

    A collar is five tokens in 256, and tells a dog from another as much as its coat does. A picture's weights add up to
    the tokens that its parts cover; parts of less than `least` tokens count as if they had so many.
    """
    sizes = shares.sum(dim=(2, 3), keepdim=True)
    there = (sizes > 0).sum(1, keepdim=True).clamp(min=1)
    return (shares / sizes.clamp(min=least)).sum(1, keepdim=True) * sizes.sum(1, keepdim=True) / there


class Cached:
    """What is cached of a set of pictures: latents (n, 2, channels, 16, width), plain and mirrored, and parts."""

    def __init__(self, name: str) -> None:
        pictures = Pictures(name)
        self.latents = np.load(pictures.folder / "latents.npy", mmap_mode="r")
        self.parts = pictures.parts

    def take(self, picks: np.ndarray, flip: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents of pictures, and how much of each token is one of `PARTS` (n, 3, 16, width); mirrored where
        `flip` is 1."""
        z = torch.from_numpy(self.latents[picks, flip].astype(np.float32))
        seen = np.stack([self.parts[i][:, ::-1] if f else self.parts[i] for i, f in zip(picks, flip, strict=True)])
        shares = np.stack([seen == part for part in PARTS], axis=1).astype(np.float32)
        return z, F.avg_pool2d(torch.from_numpy(shares), 8)


class Drawn(NamedTuple):
    """Latents `z` (n, channels, 16, width), the shares of each token that the subject's parts cover (n, 3, 16, width),
    and captions: one of each canvas, or one of each of its halves, left before right.

    `astray` is what to add to latents so that one half shows another's looks in the same scene; nought in the other
    half, and in canvases that stay as they are. Of rows that read others, the first `read` are those they read.
    """

    z: torch.Tensor
    shares: torch.Tensor
    texts: list[str]
    astray: torch.Tensor | None = None
    read: int = 0

    def judged(self) -> torch.Tensor:
        """Return which columns are to be judged (n, 1, 1, width): of a canvas with one half astray that half alone, for
        which of two halves is to be believed, nothing in them tells; of rows that read others, the readers."""
        if self.astray is None or self.read:
            reads = torch.arange(len(self.z)) >= self.read
            return reads[:, None, None, None].expand(-1, 1, 1, self.z.shape[3])
        moved = (self.astray != 0).unflatten(3, (2, -1)).any(dim=4).any(dim=2).any(dim=1)
        seen = moved | ~moved.any(1, keepdim=True)
        return seen.repeat_interleave(self.z.shape[3] // 2, dim=1)[:, None, None]

    def counts(self, subject: float, *, agrees: bool = False) -> torch.Tensor:
        """Return what each token counts where it is judged (n, 1, 16, width): one and, on a subject's parts, `subject`
        times more; where the denoiser agrees with itself, or reads another picture, the subject alone. What becomes of
        the background of a picture that reads another is not taught, as it is not in models that were never shown
        one."""
        parts = each_part_alike(self.shares)
        return parts if agrees or self.read else 1 + subject * parts


@dataclass(frozen=True)
class Album:
    """Photos (n, channels, 16, 16) of subjects with an accessory, each beside another photo of the subject and one of a
    stranger of its class: how much better the first helps is what self-attention carries. The halves' captions name the
    class alone. `strays` are the photos with other looks, where there are any."""

    photos: torch.Tensor
    strays: torch.Tensor
    mates: torch.Tensor
    strangers: torch.Tensor
    shares: torch.Tensor
    texts: list[str]


class Samples:
    """What a step is on, drawn from a seed: one subject, or on wide canvases two photos of one subject or two subjects
    in one scene. A tenth of the captions is empty."""

    def __init__(self, given: Namespace) -> None:
        self.given = given
        self.singles = Cached("train")
        self.mates = Cached("mates") if given.diptychs or given.readings else self.singles
        self.strays = Cached("strays") if given.astray else self.singles
        self.pairs = Cached("duos") if given.duos else self.singles
        self.specs = Specs(0, len(self.singles.latents))
        self.odds = cumulative_odds(self.specs, given.animals)

    def one(self, rng: np.random.Generator, count: int, *, all_records: bool = False) -> Drawn:
        """Draw pictures of one subject each; `all_records` leaves no caption empty."""
        picks = np.sort(np.searchsorted(self.odds, rng.uniform(size=count))).clip(max=len(self.specs.specs) - 1)
        flip = rng.integers(2, size=count)
        seen = [self.specs.at(i, bool(f)) for i, f in zip(picks, flip, strict=True)]
        texts = [caption(spec, rng, self.given.bare).text for spec in seen]
        return Drawn(*self.singles.take(picks, flip), texts if all_records else dropped(texts, rng))

    def diptychs(self, rng: np.random.Generator, count: int, *, all_records: bool = False) -> Drawn:
        """Draw canvases with two photos of one subject each, and a caption of either photo. Looks are told in a share
        `words` of the captions, and what one leaves out the other may tell. In a share `astray` of the canvases the
        second photo goes astray."""
        picks, flip = np.sort(rng.integers(len(self.mates.latents), size=count)), rng.integers(2, size=count)
        first = torch.from_numpy(rng.uniform(size=(count, 1, 1, 1)) < 0.5)

        def beside(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.where(first, one, other), torch.where(first, other, one)], dim=-1)

        (one, one_shares), (other, other_shares) = self.singles.take(picks, flip), self.mates.take(picks, flip)
        texts: list[str] = []
        for i, f, one_left in zip(picks, flip, first.flatten().tolist(), strict=True):
            photos = self.specs.at(i, bool(f)), mate(i).mirrored() if f else mate(i)
            both = [caption(spec, rng, 1 - self.given.words).text for spec in photos]
            texts += both if one_left else both[::-1]
        record = texts if all_records else dropped(texts, rng, halves=2)
        astray = beside(torch.zeros_like(one), self.gone_astray(rng, picks, flip, other))
        return Drawn(beside(one, other), beside(one_shares, other_shares), record, astray)

    def gone_astray(
        self, rng: np.random.Generator, picks: np.ndarray, flip: np.ndarray, mates: torch.Tensor
    ) -> torch.Tensor:
        """Return what leads mates to their strays (n, channels, 16, 16), in a share `astray` of them; else nought."""
        chosen = torch.from_numpy(rng.uniform(size=(len(picks), 1, 1, 1)) < self.given.astray)
        return chosen * (self.strays.take(picks, flip)[0] - mates)

    def readings(self, rng: np.random.Generator, count: int, *, all_records: bool = False) -> Drawn:
        """Draw `count` photos without captions, then as many others of the same subjects, each with its own, which are
        to read them. In a share `astray` of the pairs the second photo goes astray."""
        picks, flip = np.sort(rng.integers(len(self.mates.latents), size=count)), rng.integers(2, size=count)
        (one, one_shares), (other, other_shares) = self.singles.take(picks, flip), self.mates.take(picks, flip)
        photos = [mate(i).mirrored() if f else mate(i) for i, f in zip(picks, flip, strict=True)]
        texts = [caption(spec, rng, 1 - self.given.words).text for spec in photos]
        record = [""] * count + (texts if all_records else dropped(texts, rng))
        astray = torch.cat([torch.zeros_like(one), self.gone_astray(rng, picks, flip, other)])
        return Drawn(torch.cat([one, other]), torch.cat([one_shares, other_shares]), record, astray, read=count)

    def duos(self, rng: np.random.Generator, count: int) -> Drawn:
        """Draw scenes with two subjects each."""
        picks, flip = np.sort(rng.integers(len(self.pairs.latents), size=count)), rng.integers(2, size=count)
        seen = [sample_duo(i).mirrored() if f else sample_duo(i) for i, f in zip(picks, flip, strict=True)]
        texts = dropped([duo_caption(duo, rng, self.given.bare) for duo in seen], rng)
        return Drawn(*self.pairs.take(picks, flip), texts)

    def album(self, count: int) -> Album:
        """Return `count` photos, always the same, of the last subjects that have mates."""
        numbers = range(len(self.mates.latents) - 8 * count, len(self.mates.latents))
        by_class: dict[str, list[int]] = {}
        for number in numbers:
            identity = self.specs.specs[number].identity
            if identity.accessory != "none":
                by_class.setdefault(identity.kind, []).append(number)
        pairs = [(a, b) for held in by_class.values() for a, b in zip(held, held[1:] + held[:1], strict=True) if a != b]
        picks, others = (np.array(side) for side in zip(*pairs[:count], strict=True))
        plain = np.zeros(len(picks), dtype=int)
        photos, shares = self.mates.take(picks, plain)
        mates, strangers = self.singles.take(picks, plain)[0], self.singles.take(others, plain)[0]
        texts = [phrase({"kind": self.specs.specs[i].identity.kind}) for i in picks for _ in range(2)]
        return Album(photos, self.strays.take(picks, plain)[0], mates, strangers, shares, texts)

    def contradicted(self, count: int) -> tuple[torch.Tensor, list[str], list[str]]:
        """Return the first pictures with captions that tell class and scene, and with others that tell another
        background: how much the second hurt is how much words weigh."""
        rng, plain = np.random.default_rng(0), np.zeros(count, dtype=int)
        right, wrong = list[str](), list[str]()
        for spec in self.specs.specs[:count]:
            record = {name: word for name, word in facts(spec).items() if name not in LOOKS}
            elsewhere = [place for place in BACKGROUND_PHRASES if place != spec.scene.background]
            right.append(phrase(record))
            wrong.append(phrase(record | {"background": str(rng.choice(elsewhere))}))
        return self.singles.take(np.arange(count), plain)[0], right, wrong

    def at(self, made: Recipe, step: int) -> tuple[str, bool, Drawn]:
        """Return what a step is on, `eps` for one subject, whether it is one of those on which the denoiser without
        captions learns from itself with them, and what is drawn; all processes draw the same kind."""
        drawn, agreeing = np.random.default_rng((made.seed, step, 2)).uniform(size=2)
        rng, agrees = np.random.default_rng(made.draws(step)), bool(agreeing < self.given.agree)
        if drawn < self.given.duos:
            return "duos", False, self.duos(rng, made.batch // 2)
        if drawn < self.given.duos + self.given.diptychs:
            return "diptychs", agrees, self.diptychs(rng, made.batch // 2, all_records=agrees)
        if drawn < self.given.duos + self.given.diptychs + self.given.readings:
            return "readings", agrees, self.readings(rng, made.batch // 2, all_records=agrees)
        return "eps", agrees, self.one(rng, made.batch, all_records=agrees)


def dropped(texts: list[str], rng: np.random.Generator, halves: int = 1) -> list[str]:
    """Empty the captions of a tenth of the canvases, of which each has one for each of its halves, in turn; for
    classifier-free guidance."""
    kept = np.repeat(rng.uniform(size=len(texts) // halves) > 0.1, halves)
    return [text if stays else "" for text, stays in zip(texts, kept, strict=True)]
