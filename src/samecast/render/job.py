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

from samecast.attention.plan import Masks
from samecast.core.batch import Branches
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.engine.attention_store import Blanks, map_sources
from samecast.engine.checks import check_one_batch
from samecast.engine.denoise import States, denoise_targets, never, reconstruct
from samecast.engine.given import to_subject_mask
from samecast.engine.memory import GIB
from samecast.engine.prepare import prepare, resolve, rows_beside, source_steps
from samecast.engine.source import Trajectory, encode_photos
from samecast.engine.targets import Target, split_evenly
from samecast.models.base import Backbone
from samecast.models.unet import to_pictures
from samecast.render.found import found_masks
from samecast.render.kept import KeptSources, Sources, sources_key
from samecast.render.provenance import describe_model, describe_quality, describe_request, finite
from samecast.render.quality import measure
from samecast.render.request import Request, read_pictures
from samecast.render.result import Progress, Render, RenderResult
from samecast.render.sources import generate, invert, make_counter
from samecast.render.warnings import idle_words, warnings_of
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
        self.settings = request.settings.settled(backbone.default_guidance)
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
        )
        captions = (resolved.caption,) if resolved.plan.masks_sources else ()
        resolved.check_words(backbone, (*captions, *(target.branch.prompt for target in self.targets)))
        self.pictures = read_pictures(self.request, backbone)
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
        )
        _log.info("%s", prepared.keeping)
        self.run, self.session, self.store = prepared.run, prepared.run.session, prepared.store()
        groups, plan = len(branches.groups), resolved.plan
        together = check_one_batch(request.rules, len(self.targets), groups, prepared.rows)
        beside = rows_beside(plan, branches, frozenset(self._kept_steps()) - prepared.keeping.recomputed)
        room = len(self.targets) if together else max(1, (prepared.rows - beside) // groups)
        self.chunks = split_evenly(self.targets, room)
        self.counter = make_counter(progress, self.run)

    @torch.inference_mode()
    def states(self, stop: Callable[[], bool] = never) -> States[RenderResult]:
        """Does it all, and yields each state of the pictures on the way.

        Args:
            stop: asked after each step whether to leave out the rest; then pictures come as they are.

        Raises:
            SamecastError: what is sent cannot be latents of the state.
        """
        self.foreign = foreign_photos(self.backbone, self.request.photos) if self.request.inverts else ()
        with self.session:
            clean_sources, trajectory = self._sources()
            latents = yield from self._denoise(trajectory, stop)
            checks = self.settings.check_inversion and not self._interrupted
            reconstructed = self._reconstruct(trajectory) if checks else ()
        return self._result(clean_sources, latents, reconstructed)

    def _result(
        self,
        clean_sources: Float[Tensor, "source channel height width"] | None,
        latents: Sequence[Float[Tensor, "channel height width"]],
        reconstructed: Sequence[Image.Image],
    ) -> RenderResult:
        """All decoded and described."""
        renders: list[Render] = []
        pixels: list[Tensor] = []
        for target, latent in zip(self.targets, latents, strict=False):
            decoded = self.backbone.decode_pixels(latent[None])
            renders.append(Render(to_pictures(decoded)[0], target.branch.prompt, target.seed))
            if self.request.output_type in ("np", "pt"):
                pixels.append(decoded)
            self.progress("decode", len(renders), len(latents))
        sources = () if clean_sources is None else tuple(self.backbone.decode(clean_sources))
        # A generated source has no reference to be held against.
        references = self.pictures.references
        autoencoder = measure(references, sources) if references else ()
        inversion = measure(references, reconstructed) if reconstructed else ()
        psnr = min((each.psnr for each in autoencoder), default=None)
        found = self.foreign + warnings_of(
            self.request,
            autoencoder=autoencoder,
            inversion=inversion,
            changed=self.session.changed,
            keeping=self.prepared.keeping,
            blanks=self._blanks(),
            idle_words=idle_words(self.request, self.backbone),
        )
        warnings = (*self._interventions(), *found)
        masks = () if self.store is None else found_masks(self.store.masks(), self.prepared.map_specs, self._size)
        counts = {
            "evaluations": self.session.evaluations - self.map_evaluations - self.check_evaluations,
            "map_evaluations": self.map_evaluations,
            "check_evaluations": self.check_evaluations,
        }
        provenance = {
            **describe_request(self._as_run(), self.pictures, self.targets),
            **describe_model(self.backbone),
            "batch_shapes": {str(rows): calls for rows, calls in sorted(self.session.batch_shapes.items())},
            **counts,
            "source_psnr": finite(psnr),
            "autoencoder": describe_quality(autoencoder),
            "inversion": describe_quality(inversion),
            "warnings": list(warnings),
        }
        return RenderResult(
            renders=tuple(renders),
            sources=sources,
            references=references,
            autoencoder=autoencoder,
            inversion=inversion,
            source_psnr=psnr,
            provenance=provenance,
            warnings=warnings,
            reference_masks=self.pictures.reference_masks,
            target_masks=self.pictures.target_masks,
            found_masks=masks,
            latents=torch.stack(list(latents)) if latents else None,
            pixels=torch.cat(pixels) if pixels else None,
            output_type=self.request.output_type,
            reused_evaluations=self.reused_evaluations,
            **counts,
        )

    @property
    def _size(self) -> tuple[int, int]:
        return self.pictures.height, self.pictures.width

    def _as_run(self) -> Request:
        """The request with the size and memory that it took, which a later time may choose otherwise."""
        settings = replace(self.settings, height=self.pictures.height, width=self.pictures.width)
        if settings.source_memory is None and self.prepared.keeping.kept:
            settings = replace(settings, source_memory=self.prepared.keeping.kept / GIB)
        return replace(self.request, settings=settings)

    @property
    def _interrupted(self) -> bool:
        """Whether somebody stopped it before the last step of the last picture."""
        return self.steps_taken < len(self.chunks) * len(self.run.schedule.working_steps)

    def _interventions(self) -> list[str]:
        """What the caller did to it on the way."""
        data: list[str] = []
        if self._interrupted:
            steps = f"{self.steps_taken} of {len(self.chunks) * len(self.run.schedule.working_steps)} steps"
            data.append(f"interrupted after {steps}: the last pictures are unfinished, and others may not be begun")
        if self.replaced:
            data.append("latents were replaced by the caller, which the record cannot repeat")
        return data

    def _branches(self, targets: Sequence[Target]) -> Branches:
        branches = tuple(target.branch for target in targets)
        return Branches(branches, self.sources, self.settings.guidance, self.settings.guidance_rescale)

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
        settings = self.settings
        # Their own evaluations show the subject, if their prompt names it.
        store = self.store if self.run.plan.masks_sources and self.request.caption else None
        if self.request.generated:
            trajectory = generate(
                self.run, self.sources[0], settings, self.prepared.shape, counter=self.counter, store=store
            )
            return trajectory.clean, trajectory
        if not self.pictures.references:
            return None, None
        encoded = encode_photos(self.backbone, self.pictures.references)
        if not self.request.inverts:
            return encoded, None
        trajectory = invert(
            self.run, self.sources, encoded, settings, rows=self.prepared.rows, counter=self.counter, store=store
        )
        return trajectory.clean, trajectory

    def _denoise(
        self, trajectory: Trajectory | None, stop: Callable[[], bool]
    ) -> States[list[Float[Tensor, "channel height width"]]]:
        """The targets' last latents: clean ones, unless somebody stops it."""
        advance = self.counter("denoise", len(self.chunks))
        same_start = self.settings.noise_share == 0
        if self.store is not None and trajectory is not None and self.run.plan.masks_sources:
            caption, rows = self.prepared.caption, self.prepared.rows
            self.map_evaluations = map_sources(self.run, self.store, trajectory, caption, rows=rows)
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
            inverted = trajectory.latents[0][[source.index for source in chunk]]
            images += self.backbone.decode(reconstruct(self.run, chunk, inverted, advance=advance))
        self.check_evaluations = self.session.evaluations - before
        return tuple(images)

    def _subject_masks(self) -> Masks:
        targets = [target.branch for target in self.targets]
        of_branches = [
            *zip(self.sources, self.pictures.reference_masks, strict=False),
            *zip(targets, self.pictures.target_masks, strict=False),
        ]
        return {("given", branch): to_subject_mask(mask) for branch, mask in of_branches}

    def _blanks(self) -> Blanks:
        given = {key: mask.blank for key, mask in self.given_masks.items()}
        return given if self.store is None else {**given, **self.store.blank()}

    def _start(self, target: Target, trajectory: Trajectory | None) -> Float[Tensor, "channel height width"]:
        """Of several references the first gives the layout."""
        noise = seeded_noise(self.prepared.shape, target.seed).to(self.backbone.device)
        share = self.settings.noise_share
        return noise if trajectory is None else spherical_blend(trajectory.latents[0, 0], noise, share)
