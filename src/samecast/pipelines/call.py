"""One call of a stock pipeline: whose each row of its batch is, and what rules come to at each of its steps.

The k-th pictures of all prompts are a *company*: its targets read its own sources and each other, so that a company is
what it would be if the pipeline were called for it alone. The branches of a company are those of our own loop, and so
are plan, routes and maps; only the batch is the pipeline's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from samecast.attention.attend import States
from samecast.attention.plan import Masks, Plan
from samecast.attention.route import Route, join_routes
from samecast.core.batch import Branch, Branches, Layout, Place
from samecast.engine.attention_store import AttentionStore
from samecast.engine.blanks import Blanks
from samecast.errors import SamecastError
from samecast.models.stock import PipelineCall, StockTimeline
from samecast.pipelines.replay import Replay


@dataclass(frozen=True)
class Batch:
    """The rows of a pipeline's calls of its U-Net.

    Args:
        layouts: all rows of each of a step's calls of the denoiser: mostly there is one.
        companies: who reads whom, for each of the pictures that a prompt gets.
    """

    layouts: tuple[Layout, ...]
    companies: tuple[Branches, ...]


def lay_out(
    call: PipelineCall,
    sources: Sequence[int],
    targets: Sequence[int] | None,
    photos: Sequence[str] = (),
    shown: Callable[[str], Sequence[str]] = lambda text: (),
) -> Batch:
    """Says whose the rows are.

    Args:
        call: how the batch is made up.
        sources: prompts whose pictures are read.
        targets: prompts whose pictures read; None is all but the sources.
        photos: the sources outside the batch, each by its subject's name, or an empty text.
        shown: gives the names of the subjects in a prompt.

    Raises:
        SamecastError: a prompt is not there, or nobody is left to read.
    """
    total = len(call.prompts)
    reading = tuple(row for row in range(total) if row not in sources) if targets is None else tuple(targets)
    for role, numbers in (("source", sources), ("target", reading)):
        absent = [number for number in numbers if number >= total]
        if absent:
            data = f"the pipeline was called with {total} prompt{'s' if total > 1 else ''}, 0..{total - 1}"
            raise SamecastError(f"{role} {absent[0]} is not in the batch: {data}")
    if not reading:
        raise SamecastError(
            f"the pipeline was called with {total} prompt{'s' if total > 1 else ''}, all of them sources:"
            " give it prompts for targets too"
        )
    roles = {
        row: Branch("source", sources.index(row), call.prompts[row] or "")
        if row in sources
        else _target(reading.index(row), call.prompts[row] or "", shown)
        if row in reading
        else Branch("bystander", row, call.prompts[row] or "")
        for row in range(total)
    }
    guidance_scale = 2.0 if call.guided else 1.0  # whether, not how much: the pipeline guides
    outside = tuple(Branch("source", number, "", subject=name) for number, name in enumerate(photos))
    companies: list[Branches] = []
    for image in range(call.images_per_prompt):
        everybody = {row: _picture(branch, image) for row, branch in roles.items()}
        inside = tuple(everybody[row] for row in sources)
        companies.append(Branches(tuple(everybody[row] for row in reading), (*inside, *outside), guidance_scale))
    layouts: list[Layout] = []
    for groups in call.parts:
        rows = tuple(
            Place(_picture(roles[prompt], image), group)
            for group in groups
            for prompt in range(total)
            for image in range(call.images_per_prompt)
        )
        layouts.append(Layout(rows, MappingProxyType({place: row for row, place in enumerate(rows)})))
    return Batch(tuple(layouts), tuple(companies))


def _picture(branch: Branch, image: int) -> Branch:
    return replace(branch, image=image)


def _target(index: int, prompt: str, shown: Callable[[str], Sequence[str]]) -> Branch:
    """A target; a pipeline's prompts say a subject's words anywhere."""
    return Branch("target", index, prompt, named=tuple((name, None) for name in shown(prompt)))


@dataclass(frozen=True)
class StockRun:
    """What stays the same through one call of a pipeline.

    Args:
        call: how its batch is made up.
        timeline: its steps.
        batch: whose its rows are.
        plan: what rules come to.
        masks: that were given.
        store: gathers maps where rules find masks by looking.
        replay: the photos, if photos are the sources.
    """

    call: PipelineCall
    timeline: StockTimeline
    batch: Batch
    plan: Plan
    masks: Masks
    store: AttentionStore | None
    replay: Replay | None

    def step_at(self, timestep: float) -> int:
        """The step of a timestep.

        Raises:
            SamecastError: the call has none there.
        """
        if timestep not in self.timeline.timesteps:
            raise SamecastError(
                f"the U-Net was called at timestep {timestep:g}, which is not one of this call's: the step cannot be"
                " told"
            )
        return self.timeline.timesteps.index(timestep)

    def check_rows(self, rows: int, part: int) -> None:
        """Refuses a batch of other rows than prompts, pictures and guidance make, or a call too many at one step.

        Raises:
            SamecastError: so it is.
        """
        if part >= len(self.batch.layouts):
            raise SamecastError(
                f"the pipeline calls its denoiser {part + 1} times at one step, where guidance takes"
                f" {len(self.batch.layouts)}: it cannot be said whose the rows are"
            )
        expected, groups = len(self.batch.layouts[part].rows), len(self.call.parts[part])
        if rows != expected:
            raise SamecastError(
                f"the pipeline calls its U-Net with {rows} rows, where {len(self.call.prompts)} prompts,"
                f" {self.call.images_per_prompt} pictures of each and {'two' if groups > 1 else 'one'} guidance"
                f" group{'s' if groups > 1 else ''} make {expected}: it cannot be said whose they are"
            )

    def kept_at(self, step: int) -> Mapping[int, States]:
        """The photos' states at a step, by layer; this may call the U-Net."""
        return {} if self.replay is None else self.replay.states_at(step)

    def routes(self, step: int, part: int = 0) -> dict[int, Route]:
        """The route at each controlled layer, in one of the step's calls of the denoiser."""
        if step not in self.plan.acting:
            return {}
        known = {**self.masks, **(self.store.masks() if self.store is not None else {})}
        kept_rows = {} if self.replay is None else self.replay.kept_rows
        of_companies = [
            self.plan.routes(step, pairings, self.batch.layouts[part], kept_rows, known)
            for pairings in self.batch.companies
        ]
        layers = sorted({layer for routes in of_companies for layer in routes})
        return {layer: join_routes([routes[layer] for routes in of_companies if layer in routes]) for layer in layers}

    def mapped(self, step: int, part: int = 0) -> tuple[Branch, ...]:
        """The pictures whose maps are taken in one of a step's calls of the denoiser."""
        if self.store is None or not self.store.wanted_at(step):
            return ()
        return tuple(
            branch
            for pairings in self.batch.companies
            for branch in (*pairings.targets, *(pairings.sources if self.plan.masks_sources else ()))
            if Place(branch, "conditional") in self.batch.layouts[part].row_of
        )

    def map_rows(self, step: int, part: int = 0) -> list[int]:
        """Their rows."""
        row_of = self.batch.layouts[part].row_of
        return [row_of[Place(branch, "conditional")] for branch in self.mapped(step, part)]

    def blanks(self) -> Blanks:
        """The masks that were used and told nothing apart."""
        given = {key: mask.blank for key, mask in self.masks.items() if mask.blank}
        return given | dict(self.store.blank() if self.store is not None else {})

    def take_maps(self, step: int, maps: Mapping[int, Any]) -> None:
        """Puts a step's maps, by layer, into the book."""
        for row, branch in enumerate(self.mapped(step)):
            assert self.store is not None
            self.store.add(step, branch, branch.prompt, {layer: values[row] for layer, values in maps.items()})
