"""Who reads whom in a stock pipeline, as the user said it, and what that comes to in one of its calls."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from PIL import Image

from samecast.attention.modes.base import Masks as MasksFrom
from samecast.attention.modes.base import given_for
from samecast.attention.plan import Masks
from samecast.attention.rule import Rules
from samecast.attention.session import Session
from samecast.core.batch import Branch, Branches
from samecast.core.ddim import Schedule
from samecast.core.layers import select_layers
from samecast.core.masks import SubjectMask
from samecast.core.tokens import SubjectTokens
from samecast.engine.attention_store import AttentionStore, check_averages
from samecast.engine.cast import Member, members_of
from samecast.engine.checks import check_named_masks, check_subjects, wanted_masks
from samecast.engine.given import GivenMask, read_mask, to_subject_mask
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
from samecast.models.words import says
from samecast.photos import fit_photo
from samecast.pipelines.call import Batch, StockRun, lay_out
from samecast.pipelines.replay import Replay, trace_photos
from samecast.subject import Subject


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
        subjects: whose photos these are, where that was said.

    Raises:
        SamecastError: rows are named twice, or masks and rules do not go together.
    """

    rules: Rules
    sources: tuple[int, ...]
    photos: tuple[Image.Image, ...]
    targets: tuple[int, ...] | None
    source_masks: tuple[GivenMask, ...] = ()
    target_masks: tuple[GivenMask, ...] | Mapping[str, tuple[GivenMask, ...]] = ()
    class_noun: str = ""
    memory: float | None = None
    subjects: tuple[Subject, ...] = ()

    def __post_init__(self) -> None:
        check_averages(self.rules, "a stock pipeline")
        _check_rows(self.sources, "source")
        if self.targets is not None:
            _check_rows(self.targets, "target")
            if not self.targets:
                raise SamecastError("targets must name at least one row; got none")
            if shared := sorted({*self.sources} & {*self.targets}):
                raise SamecastError(f"row {shared[0]} is both source and target; it can be one of them")
        self._check_subjects()
        given = (self.masks_of_sources, self.target_masks)
        taken = any(rule.mode.by_subject for rule in self.rules)
        for role, wants, masks in zip(("source", "target"), wanted_masks(self.rules), given, strict=True):
            if wants and not masks:
                raise SamecastError(f"these rules need masks of the {role}s: give {role}_masks, or let them be found")
            if masks and not wants and not taken:
                raise SamecastError(f"{role}_masks were given that no rule reads: leave them out, or mask the method")
        if self.memory is not None and not self.photos:
            raise SamecastError("source_memory was given, and no photo is a source: leave it out")

    def _check_subjects(self) -> None:
        """Refuses subjects, names, words and masks that do not go together."""
        members, several = self.members, len(self.subjects) > 1
        names, words = [each.name for each in members], [each.words.casefold() for each in members]
        check_subjects(self.rules, names, names, several=several)
        if self.subjects and (self.class_noun or self.source_masks):
            raise SamecastError("class_noun and source_masks are given with the subjects: leave them out of attach")
        if several and any(rule.mode.by_subject for rule in self.rules):
            for member in members:
                if words.count(member.words.casefold()) > 1:
                    raise SamecastError(
                        f"two subjects are said by {member.words!r}, and the pipeline's prompts do not tell which is"
                        " meant: give each a class_noun of its own"
                    )
        check_named_masks(self.rules, members, self.target_masks)

    @property
    def members(self) -> tuple[Member, ...]:
        """The named subjects."""
        return members_of(self.subjects, self.target_masks if isinstance(self.target_masks, Mapping) else ())

    @property
    def masks_of_sources(self) -> tuple[GivenMask | None, ...]:
        """The given masks of sources, each or None; none where none is given."""
        of_subjects = [mask for each in self.subjects for mask in each.masks or (None,) * len(each.references)]
        return tuple(of_subjects) if any(mask is not None for mask in of_subjects) else self.source_masks

    def _layout(self, backbone: Adopted, call: PipelineCall) -> Batch:
        """Whose the rows of a call are.

        Raises:
            SamecastError: rows are not there, or a subject is in no prompt.
        """

        def shown(text: str) -> list[str]:
            for member in self.members:
                if f"{{{member.name}}}" in text:
                    raise SamecastError(
                        f"a pipeline's prompts are its own: write {member.words!r} in place of {{{member.name}}}"
                    )
            return [member.name for member in self.members if says(backbone, text, member.words)]

        names = [each.name for each in self.subjects for _ in each.references] or [""] * len(self.photos)
        batch = lay_out(call, self.sources, self.targets, names, shown)
        everybody = {name for branch in batch.companies[0].targets for name in branch.shows}
        check_subjects(self.rules, [each.name for each in self.members], everybody, several=len(self.subjects) > 1)
        return batch

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
        batch = self._layout(backbone, call)
        number = len(batch.companies[0].targets)
        masks = self._masks(batch, size)
        if self.photos:
            check_inverts(backbone)
            check_takes_photos(backbone)
        steps = schedule_from(backbone, timeline) if self.photos else timeline
        noun = self.subjects[0].words if len(self.subjects) == 1 else self.class_noun
        resolved = resolve(backbone, self.rules, steps, targets=number, noun=noun, members=self.members)
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
        seen = pairings.sources if resolved.plan.masks_sources else ()
        # Sources in the batch are made under their own prompts, as targets are.
        seen = seen if self.photos else [replace(branch, role="target") for branch in seen]
        resolved.check_words(backbone, (*pairings.targets, *seen))
        for map_spec in () if self.photos else resolved.map_specs:
            first = min(min(rule.steps.select(timeline.steps)) for rule in self.rules if rule.tokens == map_spec.tokens)
            # Sources in the batch are first seen in this very call, like targets.
            if min(map_spec.steps) >= first:
                raise SamecastError(
                    f"a rule reads masks at step {first}, before there is a map (maps from step {min(map_spec.steps)}):"
                    " let it start later"
                )

    def _masks(self, batch: Batch, size: tuple[int, int]) -> Masks:
        fitted = partial(read_mask, height=size[0], width=size[1], fit="crop")

        def read(masks: Sequence[GivenMask | None], role: str) -> list[SubjectMask | None]:
            photos = [photo.size for photo in self.photos] if role == "source" and self.photos else [None] * len(masks)
            return [
                None if mask is None else to_subject_mask(fitted(mask, f"{role} {number}", photo=photo))
                for number, (mask, photo) in enumerate(zip(masks, photos, strict=False), start=1)
            ]

        by_name = self.target_masks if isinstance(self.target_masks, Mapping) else {"": self.target_masks}
        of_sources = read(self.masks_of_sources, "source")
        of_targets = {name: read(masks, "target") for name, masks in by_name.items()}
        found: dict[tuple[MasksFrom, Branch], SubjectMask] = {}
        for pairings in batch.companies:
            found |= _given("", of_sources, pairings.sources, "source")
            for name, masks in of_targets.items():
                spread = masks * len(pairings.targets) if name and len(masks) == 1 else masks
                found |= _given(name, spread, pairings.targets, "target")
        return found


def _given(
    name: str, masks: Sequence[SubjectMask | None], branches: Sequence[Branch], role: str
) -> dict[tuple[MasksFrom, Branch], SubjectMask]:
    """Given masks by what they are kept under, and whose picture they are of."""
    if masks and len(masks) != len(branches):
        raise SamecastError(f"{len(branches)} {role}s need as many {role}_masks; got {len(masks)}")
    pairs = zip(branches, masks, strict=False)
    return {(given_for(name), branch): mask for branch, mask in pairs if mask is not None}


def _check_rows(rows: Sequence[int], role: str) -> None:
    if any(row < 0 for row in rows):
        raise SamecastError(f"{role}s are prompts' numbers, counted from 0; got {list(rows)}")
    if len(set(rows)) != len(rows):
        raise SamecastError(f"{role}s must name each row once; got {list(rows)}")
