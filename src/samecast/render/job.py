"""One render: photos -> invert -> Trajectory -> Branches -> denoise under rules -> decode.

The model is never modified: control is attached for the length of one call. Work is exact and done once: one edit of 50
steps from an empty source prompt takes 50 evaluations to invert and 100 to denoise, N targets of R references
50 R + 100 N.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.attention.modes.base import given_for
from samecast.attention.plan import Masks
from samecast.core.batch import Branch, Branches, Role
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.engine.checks import check_one_batch
from samecast.engine.denoise import States, denoise_targets, never, reconstruct
from samecast.engine.given import to_subject_mask
from samecast.engine.map_passes import map_sources
from samecast.engine.prepare import prepare, resolve, rows_beside, source_steps
from samecast.engine.source import Trajectory, encode_photos
from samecast.engine.targets import Target, split_evenly
from samecast.models.base import Backbone
from samecast.render.finish import finish
from samecast.render.kept import KeptSources, Sources, sources_key
from samecast.render.request import Request, read_pictures
from samecast.render.result import Progress, RenderResult
from samecast.render.sources import generate, invert, make_counter
from samecast.render.world import foreign_photos

_log = logging.getLogger(__name__)


class Job:
    """One call of `Model.render`: checks everything first, then works.

    Args:
        backbone: the model.
        request: what is asked for.
        progress: told how far the work is.
        kept: holds the sources of an earlier render, and takes these; None makes them anew.

    Raises:
        SamecastError: it cannot be done.
    """

    def __init__(
        self, backbone: Backbone, request: Request, progress: Progress | None, kept: KeptSources | None = None
    ) -> None:
        self.settings = backbone.settle(request.settings)
        self.backbone, self.request = backbone, replace(request, settings=self.settings)
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.targets, self.sources = request.targets(), request.sources()
        self.map_evaluations = self.check_evaluations = 0
        self.steps_taken, self.replaced = 0, False
        self.foreign: tuple[str, ...] = ()
        self.kept, self.reused_evaluations = kept, 0
        schedule = backbone.schedule(self.settings.num_inference_steps)
        resolved = resolve(
            backbone,
            request.rules,
            schedule,
            targets=len(self.targets),
            noun=request.noun,
            caption=request.caption,
            members=request.members,
        )
        seen = self.sources if resolved.plan.masks_sources else ()
        resolved.check_words(backbone, (*seen, *(target.branch for target in self.targets)))
        self.pictures = read_pictures(self.request, backbone)
        schedule = backbone.schedule(self.settings.num_inference_steps, (self.pictures.height, self.pictures.width))
        self.given_masks = self._subject_masks()
        self.sources_key = sources_key(self.request, self.pictures, backbone.identity)
        if kept is not None:
            kept.forget(self.sources_key)
        branches = self._branches(self.targets)
        prepared = self.prepared = prepare(
            backbone,
            schedule,
            resolved,
            branches,
            height=self.pictures.height,
            width=self.pictures.width,
            steps=self._kept_steps(),
            memory=self.settings.source_memory,
            batch_rows=self.settings.batch_rows,
            embedded=self._embedded_guidance(),
        )
        _log.info("%s", prepared.keeping)
        self.run, self.session, self.store = prepared.run, prepared.run.session, prepared.store()
        groups, plan = len(branches.groups), resolved.plan
        together = check_one_batch(request.rules, len(self.targets), groups, prepared.rows)
        beside = rows_beside(plan, branches, frozenset(self._kept_steps()) - prepared.keeping.recomputed)
        room = len(self.targets) if together else max(1, (prepared.rows - beside) // groups)
        self.chunks = split_evenly(self.targets, room)
        self.steps = len(self.chunks) * len(schedule.working_steps)
        self.counter = make_counter(progress, self.run)

    @torch.inference_mode()
    def states(self, stop: Callable[[], bool] = never) -> States[RenderResult]:
        """Inverts, denoises and decodes; yields each state of the pictures.

        Args:
            stop: called after each step; where it returns true, the remaining steps are skipped.

        Raises:
            SamecastError: what is sent cannot be latents of the state.
        """
        self.foreign = foreign_photos(self.backbone, self.request.photos) if self.request.inverts else ()
        with self.session:
            clean_sources, trajectory = self._sources()
            latents = yield from self._denoise(trajectory, stop)
            checks = self.settings.check_inversion and not self.interrupted
            reconstructed = self._reconstruct(trajectory) if checks else ()
        return finish(self, clean_sources, latents, reconstructed)

    @property
    def interrupted(self) -> bool:
        """Whether steps were left out at a caller's request."""
        return self.steps_taken < self.steps

    def _branches(self, targets: Sequence[Target]) -> Branches:
        guidance = self.settings.guidance, self.settings.guidance_rescale
        return Branches(tuple(target.branch for target in targets), self.sources, *guidance)

    def _embedded_guidance(self) -> dict[Role, float]:
        """Guidance scales of branches, for denoisers that take them as an input: photos are inverted without any."""
        scale = self.settings.embedded_guidance
        return {"target": scale, "source": scale if self.request.generated else 1.0}

    def _kept_steps(self) -> range:
        """The steps that the sources' pass evaluates."""
        if self.request.generated:
            return range(self.settings.num_inference_steps)
        return source_steps(self.settings) if self.request.inverts else range(0)

    def _sources(self) -> Sources:
        """The sources, of an earlier render where they are the same; maps are taken of an inversion as it goes."""
        if self.kept is None or (self.store is not None and any(source.prompt for source in self.sources)):
            return self._make_sources()
        found, self.reused_evaluations = self.kept.sources(self.sources_key, self.run, self._make_sources)
        return found

    def _make_sources(self) -> tuple[Float[Tensor, "source channel height width"] | None, Trajectory | None]:
        """The sources' clean latents, and their trajectory where anybody needs that."""
        maps = self.run.plan.masks_sources and self.request.caption  # their own evaluations show a subject they name
        store = self.store if maps else None
        if self.request.generated:
            trajectory = generate(
                self.run, self.sources[0], self.settings, self.prepared.shape, counter=self.counter, store=store
            )
            return trajectory.clean, trajectory
        if not self.pictures.references:
            return None, None
        encoded = encode_photos(self.backbone, self.pictures.references)
        if not self.request.inverts:
            return encoded, None
        trajectory = invert(
            self.run, self.sources, encoded, self.settings, rows=self.prepared.rows, counter=self.counter, store=store
        )
        return trajectory.clean, trajectory

    def _denoise(
        self, trajectory: Trajectory | None, stop: Callable[[], bool]
    ) -> States[list[Float[Tensor, "channel height width"]]]:
        """The targets' last latents: clean ones, unless somebody stops it."""
        advance = self.counter("denoise", len(self.chunks))
        same_start = self.settings.noise_share == 0
        if self.store is not None and trajectory is not None and self.run.plan.masks_sources:
            caption, captions, rows = self.prepared.caption, self.prepared.captions, self.prepared.rows
            self.map_evaluations = map_sources(self.run, self.store, trajectory, caption, captions=captions, rows=rows)
        latents: list[Tensor] = []
        for chunk in self.chunks:
            if stop():
                break
            start = torch.stack([self._start(target, trajectory) for target in chunk])
            states = denoise_targets(
                self.run,
                self._branches(chunk),
                start,
                trajectory,
                same_start=same_start,
                masks=self.given_masks,
                store=self.store,
                stop=stop,
                advance=advance,
            )
            latents += yield from self._watched(states)
        self.map_evaluations += 0 if self.store is None else self.store.evaluations
        return latents

    def _watched(self, states: States[Tensor]) -> States[Tensor]:
        """Passes states on; notes how far they come, and whether somebody replaces their latents."""
        sent: Tensor | None = None
        while True:
            try:
                state = states.send(sent)
            except StopIteration as end:
                return end.value
            self.steps_taken += 1
            sent = yield state
            self.replaced = self.replaced or sent is not None

    def _reconstruct(self, trajectory: Trajectory | None) -> tuple[Image.Image, ...]:
        """What plain inversion makes of the references; nothing where none was inverted."""
        if trajectory is None or self.request.generated:
            return ()
        before = self.session.evaluations
        chunks = split_evenly(self.sources, self.prepared.rows)
        advance = self.counter("check", len(chunks))
        images: list[Image.Image] = []
        for chunk in chunks:
            noise = trajectory.latents[0][[source.index for source in chunk]]
            images += self.backbone.decode(reconstruct(self.run, chunk, noise, advance=advance))
        self.check_evaluations = self.session.evaluations - before
        return tuple(images)

    def _subject_masks(self) -> Masks:
        targets = [target.branch for target in self.targets]
        given: list[tuple[tuple[str, Branch], Image.Image | None]] = []
        for branches, key, masks in (
            (self.sources, "", self.pictures.reference_masks),
            (targets, "", self.pictures.target_masks),
            *((targets, name, masks) for name, masks in self.pictures.subject_masks.items()),
        ):
            given += [((given_for(key), branch), mask) for branch, mask in zip(branches, masks, strict=False)]
        return {key: to_subject_mask(mask) for key, mask in given if mask is not None}

    def _start(self, target: Target, trajectory: Trajectory | None) -> Float[Tensor, "channel height width"]:
        """Of several references the first gives the layout."""
        noise = seeded_noise(self.prepared.shape, target.seed).to(self.backbone.device)
        share = self.settings.noise_share
        return noise if trajectory is None else spherical_blend(trajectory.latents[0, 0], noise, share)
