"""All live nodes of the tree of shared prefixes advance together, step by step, in batches cut to memory.

A *lineage* is one node: the runs that have had one history so far, the latent they share, and the maps seen on the way.
Before each step a lineage parts where its runs are about to be treated differently. Pictures do not depend on their
company beyond rounding, so the batch is nobody's business: where memory does not suffice it halves, and goes on.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.attention.modes.base import Masks as MasksFrom
from samecast.control.denoise import denoise_step
from samecast.control.looking import Look, MapBook
from samecast.control.plan import Masks, Plan
from samecast.control.rule import Rule
from samecast.control.run import Run
from samecast.control.source import Trajectory
from samecast.control.targets import split_evenly
from samecast.core.branches import Branch, Branches
from samecast.core.masks import SubjectMask
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.core.settings import RenderSettings
from samecast.errors import SamecastError
from samecast.study.tree import action_at, split

Result = TypeVar("Result")
LONGEST_CALL = 60.0
"""Seconds that a call of the denoiser may take, about, as nothing is kept meanwhile; one lineage may take longer."""


@dataclass(frozen=True, eq=False)
class Wish:
    """One picture to make.

    Args:
        key: of its own.
        branch: prompt and negative prompt; its index is 0, for it is alone in its run.
        seed: of its noise.
        plan: who reads whom.
        looks: what its rules want to see.
    """

    key: str
    branch: Branch
    seed: int
    plan: Plan
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True, eq=False)
class Lineage:
    """Wishes that have had one history so far.

    Args:
        wishes: at least one; all of one prompt and seed.
        latent: that they share.
        book: the maps of their picture; None where no rule looks.
    """

    wishes: tuple[Wish, ...]
    latent: Float[Tensor, "channel height width"]
    book: MapBook | None = None

    @property
    def branch(self) -> Branch:
        """Prompt and negative prompt."""
        return self.wishes[0].branch


@dataclass(frozen=True, eq=False)
class Front:
    """How far all have come.

    Args:
        step: the next step to take; the schedule's length when all is done.
        lineages: that are still going.
        failed: why, for each wish that is not, by its key.
        done: how many lineages, from the first on, have taken the step already; these have parted for it.
    """

    step: int
    lineages: tuple[Lineage, ...]
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    done: int = 0


class Lockstep:
    """Denoises wishes that read one trajectory.

    Args:
        run: model, session, schedule and texts; its plan is not used.
        trajectory: the sources'.
        source_masks: found in the sources.
        settings: of the renders.
        rows: most rows in one call of the denoiser, to begin with; it falls where memory does not suffice.
    """

    def __init__(
        self, run: Run, trajectory: Trajectory, source_masks: Masks, settings: RenderSettings, rows: int
    ) -> None:
        self._run = run
        self._trajectory = trajectory
        self._source_masks = source_masks
        self._settings = settings
        self._sources = Branches((), trajectory.sources, settings.guidance, settings.guidance_rescale)
        self._groups = len(self._sources.groups)
        self.rows = rows
        self._pace = 0.0
        """Seconds of a row in the last call."""

    def start(self, wishes: Sequence[Wish]) -> Front:
        """One lineage for each prompt and seed."""
        origins: dict[tuple[Branch, int], list[Wish]] = {}
        for wish in wishes:
            origins.setdefault((wish.branch, wish.seed), []).append(wish)
        return Front(0, tuple(self.lineage(group, self._start(group[0])) for group in origins.values()))

    def lineage(self, wishes: Sequence[Wish], latent: Float[Tensor, "channel height width"]) -> Lineage:
        """Wishes that share a latent, with an empty book where any of them looks."""
        looks = looks_of(wishes)
        return Lineage(tuple(wishes), latent, MapBook(looks, self._run.backbone) if looks else None)

    def run(self, front: Front) -> Iterator[Front]:
        """The front after each batch, and after each step that changes anything, from where it stands to the end."""
        for step in self._run.schedule.working_steps:
            if step < front.step:
                continue
            if not front.done:
                front = replace(front, step=step, lineages=tuple(self._part(front.lineages, step)))
            while front.done < len(front.lineages):
                front = self._advance_some(front)
                yield front
            front = Front(step + 1, front.lineages, front.failed)
            yield front

    def _start(self, wish: Wish) -> Float[Tensor, "channel height width"]:
        """Of several sources the first gives the layout."""
        first = self._trajectory.latents[0, 0]
        channels, height, width = first.shape
        share = self._settings.noise_share
        if share == 0:
            return first
        return spherical_blend(first, seeded_noise((channels, height, width), wish.seed).to(first.device), share)

    def _part(self, lineages: Sequence[Lineage], step: int) -> list[Lineage]:
        found: list[Lineage] = []
        for lineage in lineages:
            parts = split(lineage.wishes, {wish: action_at(wish.plan, step) for wish in lineage.wishes})
            if len(parts) == 1:
                found.append(lineage)
                continue
            for wishes in parts:
                looks = looks_of(wishes)
                book = lineage.book.fork(looks) if lineage.book is not None and looks else None
                found.append(Lineage(wishes, lineage.latent, book))
        return found

    def _advance_some(self, front: Front) -> Front:
        """One batch of those that have not taken the step yet; those that fail at it are left out."""
        step, waiting = front.step, front.lineages[front.done :]
        beside = len(self._sources.layout(targets=()).rows) if self._reads_live(waiting, step) else 0
        batch = split_evenly(waiting, max(1, (self._most_rows() - beside) // self._groups))[0]
        failed: dict[str, str] = {}
        ready: list[tuple[Lineage, Masks]] = []
        for lineage in batch:
            try:
                ready.append((lineage, self._masks(lineage, step)))
            except SamecastError as error:
                failed |= {wish.key: f"step {step}: {error}" for wish in lineage.wishes}
        began = time.monotonic()
        try:
            advanced = self._advance(ready, step) if ready else []
        except (RuntimeError, MemoryError) as error:
            self.rows = self._groups * fewer(len(ready), error)
            return front
        self._pace = (time.monotonic() - began) / (beside + self._groups * max(1, len(ready)))
        sound = [lineage for lineage in advanced if bool(torch.isfinite(lineage.latent).all())]
        for lineage in (lineage for lineage in advanced if lineage not in sound):
            failed |= {wish.key: f"step {step} gave values that are not finite" for wish in lineage.wishes}
        lineages = (*front.lineages[: front.done], *sound, *waiting[len(batch) :])
        return Front(step, lineages, {**front.failed, **failed}, front.done + len(sound))

    def _most_rows(self) -> int:
        """As many as memory allows, and time by the pace of the last call."""
        return int(min(self.rows, LONGEST_CALL / self._pace)) if self._pace > 0 else self.rows

    def _reads_live(self, lineages: Sequence[Lineage], step: int) -> bool:
        """Whether any reads a source that was not kept at a step, so that its rows join the batch."""
        reading = any(lineage.wishes[0].plan.source_sites_at(step) for lineage in lineages)
        return reading and step not in self._trajectory.kept

    def _masks(self, lineage: Lineage, step: int) -> Masks:
        """Where the subject is in the lineage's own picture, as far as this step asks."""
        acting = lineage.book is not None and step in lineage.wishes[0].plan.acting
        return lineage.book.masks() if acting and lineage.book is not None else {}

    def _advance(self, batch: Sequence[tuple[Lineage, Masks]], step: int) -> list[Lineage]:
        lineages = [lineage for lineage, _ in batch]
        targets = tuple(replace(lineage.branch, index=number) for number, lineage in enumerate(lineages))
        masks: dict[tuple[MasksFrom, Branch], SubjectMask] = dict(self._source_masks)
        for target, (_, found) in zip(targets, batch, strict=True):
            masks |= {(tokens, target): mask for (tokens, _), mask in found.items()}
        looked_at = {
            target: lineage.book
            for target, lineage in zip(targets, lineages, strict=True)
            if lineage.book is not None and lineage.book.wanted_at(step)
        }
        latents, maps = denoise_step(
            replace(self._run, plan=joint_plan([lineage.wishes[0].plan for lineage in lineages], step)),
            replace(self._sources, targets=targets),
            torch.stack([lineage.latent for lineage in lineages]),
            self._trajectory,
            step,
            same_start=self._settings.noise_share == 0,
            masks=masks,
            looked_at=tuple(looked_at),
        )
        for target, seen in maps.items():
            looked_at[target].add(step, replace(target, index=0), target.prompt, seen)
        return [replace(lineage, latent=latent) for lineage, latent in zip(lineages, latents, strict=True)]


def looks_of(wishes: Sequence[Wish]) -> tuple[Look, ...]:
    """All that any of the wishes wants to see."""
    return tuple(dict.fromkeys(look for wish in wishes for look in wish.looks))


def joint_plan(plans: Sequence[Plan], step: int) -> Plan:
    """One plan for a batch at one step, in which the target at each position does as its own plan says."""
    readers: dict[int, dict[Rule, list[int]]] = {}
    for number, plan in enumerate(plans):
        for site, acts in action_at(plan, step):
            for act in acts:
                readers.setdefault(site, {}).setdefault(act, []).append(number)
    if not readers:
        return Plan()
    at_step = {
        site: tuple(replace(act, readers=tuple(numbers)) for act, numbers in acts.items())
        for site, acts in readers.items()
    }
    return Plan({step: at_step})


def halving(count: int, work: Callable[[int], Result]) -> Result:
    """The result of work on so many pictures at once, or on half as many as long as memory does not suffice; raises as
    `fewer`."""
    while True:
        try:
            return work(count)
        except (RuntimeError, MemoryError) as error:
            count = fewer(count, error)


def fewer(count: int, error: Exception) -> int:
    """Half as many pictures, if it was memory that failed for so many, and there is anything to halve.

    Raises:
        SamecastError: there is not.
        Exception: the error itself, where it was something else.
    """
    if not is_out_of_memory(error):
        raise error
    if count == 1:
        raise SamecastError("memory does not suffice for a single picture: take a smaller size or dtype") from None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return count // 2


def why_not(error: Exception) -> str:
    """Why a single picture could not be made: a mistake's words, or memory.

    Raises:
        Exception: the error itself, where it is neither.
    """
    if not isinstance(error, SamecastError) and not is_out_of_memory(error):
        raise error
    return str(error) if isinstance(error, SamecastError) else "memory does not suffice to decode it"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice, on any device."""
    words = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        told in words for told in ("out of memory", "can't allocate memory", "not enough memory")
    )
