"""Who reads whom in a stock pipeline, as the user said it, and what that comes to in one of its calls."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from pathlib import Path

from PIL import Image

from samecast.attention.plan import Masks
from samecast.attention.rule import Rules
from samecast.attention.session import Session
from samecast.core.batch import Branches
from samecast.core.ddim import Schedule
from samecast.core.layers import select_layers
from samecast.core.tokens import SubjectTokens
from samecast.engine.attention_store import AttentionStore
from samecast.engine.checks import wanted_masks
from samecast.engine.given import GivenMask, one_or_more, read_mask, to_subject_mask
from samecast.engine.prepare import Resolved, prepare, resolve
from samecast.errors import SamecastError
from samecast.models.base import StockArguments
from samecast.models.stock import (
    Adopted,
    PipelineCall,
    StockTimeline,
    check_inverts,
    check_takes_photos,
    schedule_from,
    timeline_from,
    weights_state,
)
from samecast.photos import fit_photo, open_photo
from samecast.pipelines.call import Batch, StockRun, lay_out
from samecast.pipelines.replay import Replay, trace_photos

Photo = str | Path | Image.Image
Sources = int | Photo | Sequence[int | Photo]


@dataclass(frozen=True)
class AttachSpec:
    """Who reads whom, checked as far as that can be done before a call.

    Args:
        rules: who reads whom, where and when.
        sources: rows of the list of prompts.
        photos: the sources, where they are photos, as they were opened.
        targets: rows of the list of prompts; None is all but the sources.
        source_masks: given, one for each source or none.
        target_masks: given, one for each target or none.
        class_noun: what the subject is, or nothing.
        memory: most GiB for what is kept of photos; None is half of what is free.

    Raises:
        SamecastError: rows are named twice, or masks and rules do not go together.
    """

    rules: Rules
    sources: tuple[int, ...]
    photos: tuple[Image.Image, ...]
    targets: tuple[int, ...] | None
    source_masks: tuple[GivenMask, ...] = ()
    target_masks: tuple[GivenMask, ...] = ()
    class_noun: str = ""
    memory: float | None = None

    def __post_init__(self) -> None:
        _check_rows(self.sources, "source")
        if self.targets is not None:
            _check_rows(self.targets, "target")
            if not self.targets:
                raise SamecastError("targets must name at least one row; got none")
            if shared := sorted({*self.sources} & {*self.targets}):
                raise SamecastError(f"row {shared[0]} is both source and target; it can be one of them")
        given = (self.source_masks, self.target_masks)
        for role, wants, masks in zip(("source", "target"), wanted_masks(self.rules), given, strict=True):
            if wants and not masks:
                raise SamecastError(f"these rules need masks of the {role}s: give {role}_masks, or let them be found")
            if masks and not wants:
                raise SamecastError(f"{role}_masks were given that no rule reads: leave them out, or mask the method")
        if self.memory is not None and not self.photos:
            raise SamecastError("source_memory was given, and no photo is a source: leave it out")

    @property
    def tokens(self) -> tuple[SubjectTokens, ...]:
        """What rules look for in cross-attention maps."""
        return tuple(rule.tokens for rule in self.rules if isinstance(rule.tokens, SubjectTokens))

    def map_layers(self, backbone: Adopted) -> frozenset[int]:
        """Indices of the cross-attention layers whose maps are wanted.

        Raises:
            SamecastError: some are not there.
        """
        crossed = [bound.layer for bound in backbone.cross_attention()]
        chosen = [select_layers(tokens.selector(crossed), crossed) for tokens in self.tokens]
        return frozenset(layer.index for layers in chosen for layer in layers)

    def begin(
        self,
        backbone: Adopted,
        session: Session,
        call: PipelineCall,
        first: StockArguments,
        replays: dict[Hashable, Replay],
    ) -> StockRun:
        """What it comes to in a call; photos are inverted now, unless they were before.

        Args:
            backbone: the pipeline.
            session: attached to it.
            call: how the batch is made up.
            first: what the denoiser is first called with.
            replays: the photos of the last call that inverted them, by all that the inversion depends on.

        Raises:
            SamecastError: rows, steps, words or masks are not those of the call, or its scheduler cannot invert photos.
        """
        scheduler = backbone.pipeline.scheduler
        timeline, size = timeline_from(scheduler, first.timestep), first.size
        batch = lay_out(call, self.sources, self.targets, len(self.photos))
        number = len(batch.companies[0].targets)
        masks = self._masks(batch, size)
        if self.photos:
            check_inverts(backbone)
            check_takes_photos(backbone)
        steps = schedule_from(backbone, timeline) if self.photos else timeline
        resolved = resolve(backbone, self.rules, steps, targets=number, noun=self.class_noun)
        self._check_looks(backbone, resolved, timeline, batch.companies[0])
        own = AttentionStore(resolved.map_specs, backbone, size[1] / size[0]) if resolved.map_specs else None
        if not isinstance(steps, Schedule):
            return StockRun(call, timeline, batch, resolved.plan, masks, own, None)
        key = (steps, size, call.guided, weights_state(backbone.pipeline))
        if key not in replays:
            replays.clear()
            replays[key] = self._trace(backbone, session, steps, resolved, batch.companies[0], size)
        replay = replays[key]
        return StockRun(
            call, timeline, batch, resolved.plan, masks, replay.store.fork() if replay.store else own, replay
        )

    def _trace(
        self,
        backbone: Adopted,
        session: Session,
        schedule: Schedule,
        resolved: Resolved,
        pairings: Branches,
        size: tuple[int, int],
    ) -> Replay:
        alone, (height, width) = Branches((), pairings.sources, pairings.guidance_scale), size
        prepared = prepare(
            backbone,
            schedule,
            resolved if resolved.plan.masks_sources else replace(resolved, map_specs=()),
            alone,
            height=height,
            width=width,
            session=session,
            steps=range(schedule.steps),
            memory=self.memory,
        )
        photos = [fit_photo(photo, height=height, width=width) for photo in self.photos]
        return trace_photos(prepared, photos, alone)

    def _check_looks(self, backbone: Adopted, resolved: Resolved, timeline: StockTimeline, pairings: Branches) -> None:
        """Refuses what cannot be seen in this call's pictures, or is read before it is seen."""
        sources = pairings.sources if resolved.plan.masks_sources else ()
        resolved.check_words(backbone, (*pairings.targets, *sources))
        for map_spec in resolved.map_specs:
            first = min(min(rule.steps.select(timeline.steps)) for rule in self.rules if rule.tokens == map_spec.tokens)
            # Sources in the batch are first seen in this very call, like targets.
            if not self.photos and min(map_spec.steps) >= first:
                raise SamecastError(
                    f"a rule reads masks at step {first}, before there is a map (maps from step {min(map_spec.steps)}):"
                    " let it start later"
                )

    def _masks(self, batch: Batch, size: tuple[int, int]) -> Masks:
        fitted = partial(read_mask, height=size[0], width=size[1], fit="crop")
        masks: Masks = {}
        for role, given in (("source", self.source_masks), ("target", self.target_masks)):
            photos = [photo.size for photo in self.photos] if role == "source" and self.photos else [None] * len(given)
            read = [
                to_subject_mask(fitted(mask, f"{role} {number}", photo=photo))
                for number, (mask, photo) in enumerate(zip(given, photos, strict=False))
            ]
            for pairings in batch.companies:
                branches = pairings.sources if role == "source" else pairings.targets
                if given and len(given) != len(branches):
                    raise SamecastError(f"{len(branches)} {role}s need as many {role}_masks; got {len(given)}")
                masks = {**masks, **{("given", branch): mask for branch, mask in zip(branches, read, strict=False)}}
        return masks


def part_sources(sources: Sources | None, rules: Rules) -> tuple[tuple[int, ...], tuple[Image.Image, ...]]:
    """Sources as rows of the list of prompts, and as photos, opened.

    Raises:
        SamecastError: they are both, or rules read none, or there are none to read, or a photo cannot be opened.
    """
    reading = any(rule.reads_source for rule in rules)
    if sources is None:
        return ((0,) if reading else ()), ()
    several = one_or_more(sources, Integral, str, Path, Image.Image)
    rows = tuple(int(source) for source in several if isinstance(source, Integral))
    photos = tuple(
        source if isinstance(source, Image.Image) else open_photo(source)
        for source in several
        if not isinstance(source, Integral)
    )
    if rows and photos:
        raise SamecastError("sources must be rows of the batch or photos, not both")
    if reading != bool(several):
        data = "these rules read a source: name one" if reading else "no rule reads a source: leave out sources"
        raise SamecastError(data)
    return rows, photos


def _check_rows(rows: Sequence[int], role: str) -> None:
    if any(row < 0 for row in rows):
        raise SamecastError(f"{role}s are prompts' numbers, counted from 0; got {list(rows)}")
    if len(set(rows)) != len(rows):
        raise SamecastError(f"{role}s must name each row once; got {list(rows)}")
