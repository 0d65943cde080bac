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
from samecast.attention.plan import Masks, Plan
from samecast.attention.rule import Rule
from samecast.core.batch import Branch, Branches
from samecast.core.masks import SubjectMask
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.core.settings import RenderSettings
from samecast.engine.attention_store import AttentionStore, MapSpec
from samecast.engine.denoise import denoise_step
from samecast.engine.run import Run
from samecast.engine.source import Trajectory
from samecast.engine.targets import split_evenly
from samecast.errors import SamecastError
from samecast.study.tree import action_at, split

Result = TypeVar("Result")
LONGEST_CALL = 60.0
"""Seconds that a call of the denoiser may take, about, as nothing is kept meanwhile; one lineage may take longer."""


@dataclass(frozen=True, eq=False)
class PictureJob:
    """One picture to make.

    Args:
        key: of its own.
        branch: prompt and negative prompt; its index is 0, for it is alone in its run.
        seed: of its noise.
        plan: who reads whom.
        map_specs: what its rules want to see.
    """

    key: str
    branch: Branch
    seed: int
    plan: Plan
    map_specs: tuple[MapSpec, ...] = ()


@dataclass(frozen=True, eq=False)
class Node:
    """Wishes that have had one history so far.

    Args:
        jobs: at least one; all of one prompt and seed.
        latent: that they share.
        store: the maps of their picture; None where no rule looks.
    """

    jobs: tuple[PictureJob, ...]
    latent: Float[Tensor, "channel height width"]
    store: AttentionStore | None = None

    @property
    def branch(self) -> Branch:
        """Prompt and negative prompt."""
        return self.jobs[0].branch


@dataclass(frozen=True, eq=False)
class Frontier:
    """How far all have come.

    Args:
        step: the next step to take; the schedule's length when all is done.
        nodes: that are still going.
        failed: why, for each wish that is not, by its key.
        done: how many lineages, from the first on, have taken the step already; these have parted for it.
    """

    step: int
    nodes: tuple[Node, ...]
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

    def start(self, jobs: Sequence[PictureJob]) -> Frontier:
        """One lineage for each prompt and seed."""
        origins: dict[tuple[Branch, int], list[PictureJob]] = {}
        for job in jobs:
            origins.setdefault((job.branch, job.seed), []).append(job)
        return Frontier(0, tuple(self.node(group, self._start(group[0])) for group in origins.values()))

    def node(self, jobs: Sequence[PictureJob], latent: Float[Tensor, "channel height width"]) -> Node:
        """Wishes that share a latent, with an empty book where any of them looks."""
        map_specs, aspect = map_specs_of(jobs), latent.shape[-1] / latent.shape[-2]
        return Node(tuple(jobs), latent, AttentionStore(map_specs, self._run.backbone, aspect) if map_specs else None)

    def run(self, frontier: Frontier) -> Iterator[Frontier]:
        """The front after each batch, and after each step that changes anything, from where it stands to the end."""
        for step in self._run.schedule.working_steps:
            if step < frontier.step:
                continue
            if not frontier.done:
                frontier = replace(frontier, step=step, nodes=tuple(self._part(frontier.nodes, step)))
            while frontier.done < len(frontier.nodes):
                frontier = self._advance_some(frontier)
                yield frontier
            frontier = Frontier(step + 1, frontier.nodes, frontier.failed)
            yield frontier

    def _start(self, job: PictureJob) -> Float[Tensor, "channel height width"]:
        """Of several sources the first gives the layout."""
        first = self._trajectory.latents[0, 0]
        channels, height, width = first.shape
        share = self._settings.noise_share
        if share == 0:
            return first
        return spherical_blend(first, seeded_noise((channels, height, width), job.seed).to(first.device), share)

    def _part(self, nodes: Sequence[Node], step: int) -> list[Node]:
        found: list[Node] = []
        for node in nodes:
            parts = split(node.jobs, {job: action_at(job.plan, step) for job in node.jobs})
            if len(parts) == 1:
                found.append(node)
                continue
            for jobs in parts:
                map_specs = map_specs_of(jobs)
                store = node.store.fork(map_specs) if node.store is not None and map_specs else None
                found.append(Node(jobs, node.latent, store))
        return found

    def _advance_some(self, frontier: Frontier) -> Frontier:
        """One batch of those that have not taken the step yet; those that fail at it are left out."""
        step, waiting = frontier.step, frontier.nodes[frontier.done :]
        beside = len(self._sources.layout(targets=()).rows) if self._reads_live(waiting, step) else 0
        batch = split_evenly(waiting, max(1, (self._most_rows() - beside) // self._groups))[0]
        failed: dict[str, str] = {}
        ready: list[tuple[Node, Masks]] = []
        for node in batch:
            try:
                ready.append((node, self._masks(node, step)))
            except SamecastError as error:
                failed |= {job.key: f"step {step}: {error}" for job in node.jobs}
        began = time.monotonic()
        try:
            advanced = self._advance(ready, step) if ready else []
        except (RuntimeError, MemoryError) as error:
            self.rows = self._groups * fewer(len(ready), error)
            return frontier
        self._pace = (time.monotonic() - began) / (beside + self._groups * max(1, len(ready)))
        sound = [node for node in advanced if bool(torch.isfinite(node.latent).all())]
        for node in (node for node in advanced if node not in sound):
            failed |= {job.key: f"step {step} gave values that are not finite" for job in node.jobs}
        nodes = (*frontier.nodes[: frontier.done], *sound, *waiting[len(batch) :])
        return Frontier(step, nodes, {**frontier.failed, **failed}, frontier.done + len(sound))

    def _most_rows(self) -> int:
        """As many as memory allows, and time by the pace of the last call."""
        return int(min(self.rows, LONGEST_CALL / self._pace)) if self._pace > 0 else self.rows

    def _reads_live(self, nodes: Sequence[Node], step: int) -> bool:
        """Whether any reads a source that was not kept at a step, so that its rows join the batch."""
        reading = any(node.jobs[0].plan.source_layers_at(step) for node in nodes)
        return reading and step not in self._trajectory.kept

    def _masks(self, node: Node, step: int) -> Masks:
        """Where the subject is in the lineage's own picture, as far as this step asks."""
        acting = node.store is not None and step in node.jobs[0].plan.acting
        return node.store.masks() if acting and node.store is not None else {}

    def _advance(self, batch: Sequence[tuple[Node, Masks]], step: int) -> list[Node]:
        nodes = [node for node, _ in batch]
        targets = tuple(replace(node.branch, index=number) for number, node in enumerate(nodes))
        masks: dict[tuple[MasksFrom, Branch], SubjectMask] = dict(self._source_masks)
        for target, (_, found) in zip(targets, batch, strict=True):
            masks |= {(tokens, target): mask for (tokens, _), mask in found.items()}
        mapped = {
            target: node.store
            for target, node in zip(targets, nodes, strict=True)
            if node.store is not None and node.store.wanted_at(step)
        }
        state = denoise_step(
            replace(self._run, plan=joint_plan([node.jobs[0].plan for node in nodes], step)),
            replace(self._sources, targets=targets),
            torch.stack([node.latent for node in nodes]),
            self._trajectory,
            step,
            same_start=self._settings.noise_share == 0,
            masks=masks,
            mapped=tuple(mapped),
        )
        for target, seen in state.maps.items():
            mapped[target].add(step, replace(target, index=0), target.prompt, seen)
        return [replace(node, latent=latent) for node, latent in zip(nodes, state.latents, strict=True)]


def map_specs_of(jobs: Sequence[PictureJob]) -> tuple[MapSpec, ...]:
    """All that any of the wishes wants to see."""
    return tuple(dict.fromkeys(map_spec for job in jobs for map_spec in job.map_specs))


def joint_plan(plans: Sequence[Plan], step: int) -> Plan:
    """One plan for a batch at one step, in which the target at each position does as its own plan says."""
    readers: dict[int, dict[Rule, list[int]]] = {}
    for number, plan in enumerate(plans):
        for layer, acts in action_at(plan, step):
            for act in acts:
                readers.setdefault(layer, {}).setdefault(act, []).append(number)
    if not readers:
        return Plan()
    at_step = {
        layer: tuple(replace(act, readers=tuple(numbers)) for act, numbers in acts.items())
        for layer, acts in readers.items()
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
        data in words for data in ("out of memory", "can't allocate memory", "not enough memory")
    )
