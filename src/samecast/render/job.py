"""One render: photos -> invert -> Trajectory -> Branches -> denoise under rules -> decode.

The model is never modified: control is attached for the length of one call. Work is exact and done once: one edit of 50
steps from an empty source prompt takes 50 evaluations to invert and 100 to denoise, N targets of R references
50 R + 100 N.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.attention.plan import Masks, Plan, make_plan
from samecast.attention.session import Session
from samecast.core.batch import Branches
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.engine.attention_store import AttentionStore, Blanks, make_map_specs, map_caption, map_sources
from samecast.engine.checks import check_one_batch
from samecast.engine.denoise import denoise_targets
from samecast.engine.given import to_subject_mask
from samecast.engine.memory import GIB, MemoryPlan, plan_memory
from samecast.engine.run import Run
from samecast.engine.source import Trajectory, reconstruct
from samecast.engine.targets import Target, split_evenly
from samecast.models.base import Backbone
from samecast.models.unet import to_pictures
from samecast.render.found import found_masks
from samecast.render.provenance import describe_model, describe_quality, describe_request, finite
from samecast.render.quality import measure
from samecast.render.request import Request, read_pictures
from samecast.render.result import Progress, Render, RenderResult
from samecast.render.sources import encode, generate, invert, largest_batch, make_counter, source_steps
from samecast.render.warnings import idle_words, warnings_of
from samecast.render.world import foreign_photos

_log = logging.getLogger(__name__)


class Job:
    """One call of `Model.render`: checks everything first, then works.

    Args:
        backbone: the model.
        request: what is asked for.
        progress: told how far the work is.

    Raises:
        SamecastError: it cannot be done.
    """

    def __init__(self, backbone: Backbone, request: Request, progress: Progress | None) -> None:
        self.settings = request.settings.settled(backbone.default_guidance)
        self.backbone, self.request = backbone, replace(request, settings=self.settings)
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.targets, self.sources = request.targets(), request.sources()
        self.size = self.settings.size or backbone.default_size
        self.shape = backbone.latent_shape(self.size)
        schedule = backbone.schedule(self.settings.num_inference_steps)
        crossed = [bound.layer for bound in backbone.cross_attention()]
        self.map_specs = make_map_specs(request.rules, crossed, schedule, request.noun)
        self.session = Session(backbone, frozenset(layer for map_spec in self.map_specs for layer in map_spec.layers))
        plan = make_plan(request.rules, self.session.layers, schedule, len(self.targets))
        self.map_evaluations = self.check_evaluations = 0
        self.store = AttentionStore(self.map_specs, backbone) if self.map_specs else None
        self.map_caption = request.caption or map_caption(request.noun, self.map_specs)
        captions = {self.map_caption} if plan.masks_sources else set[str]()
        for map_spec in self.map_specs:
            for text in captions | {target.branch.prompt for target in self.targets}:
                backbone.find_words(text, map_spec.phrase)
        groups = len(Branches((), (), self.settings.guidance).groups)
        self.rows = largest_batch(self.shape, self.settings, groups)
        together = check_one_batch(request.rules, len(self.targets), groups, self.rows)
        self.pictures = read_pictures(request, self.size)
        self.given_masks = self._subject_masks()
        self.keeping = self._plan_keeping(plan)
        _log.info("%s", self.keeping)
        room = len(self.targets) if together else max(1, (self.rows - self._rows_beside(plan)) // groups)
        self.chunks = split_evenly(self.targets, room)
        self.run = Run(backbone, self.session, schedule, plan, self._encode_texts(), self.keeping.recomputed)
        self.counter = make_counter(progress, self.run)

    def work(self) -> RenderResult:
        """Does it all."""
        foreign = foreign_photos(self.backbone, self.request.photos) if self.request.inverts else ()
        with self.session:
            clean_sources, trajectory = self._make_sources()
            latents = self._denoise(trajectory)
            reconstructed = self._reconstruct(trajectory) if self.settings.check_inversion else ()
        renders: list[Render] = []
        pixels: list[Tensor] = []
        for target, latent in zip(self.targets, latents, strict=True):
            decoded = self.backbone.decode_pixels(latent[None])
            renders.append(Render(to_pictures(decoded)[0], target.branch.prompt, target.seed))
            if self.request.output_type in ("np", "pt"):
                pixels.append(decoded)
            self.progress("decode", len(renders), len(self.targets))
        sources = () if clean_sources is None else tuple(self.backbone.decode(clean_sources))
        # A generated source has no reference to be held against.
        references = self.pictures.references
        autoencoder = measure(references, sources) if references else ()
        inversion = measure(references, reconstructed) if reconstructed else ()
        psnr = min((each.psnr for each in autoencoder), default=None)
        warnings = foreign + warnings_of(
            self.request,
            autoencoder=autoencoder,
            inversion=inversion,
            changed=self.session.changed,
            keeping=self.keeping,
            # Before any mask is drawn, which asks it for a size that no layer has.
            blanks=self._blanks(),
            idle_words=idle_words(self.request, self.backbone),
        )
        found = () if self.store is None else found_masks(self.store.masks(), self.map_specs, self.size)
        counts = {
            "evaluations": self.session.evaluations - self.map_evaluations - self.check_evaluations,
            "map_evaluations": self.map_evaluations,
            "check_evaluations": self.check_evaluations,
        }
        provenance = {
            **describe_request(self._as_run(), self.pictures, self.targets, self.size),
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
            found_masks=found,
            latents=torch.stack(latents),
            pixels=torch.cat(pixels) if pixels else None,
            output_type=self.request.output_type,
            **counts,
        )

    def _as_run(self) -> Request:
        """The request with the memory it took in place of what was free, which will be another time."""
        if self.settings.source_memory is not None or not self.keeping.kept:
            return self.request
        return replace(self.request, settings=replace(self.settings, source_memory=self.keeping.kept / GIB))

    def _branches(self, targets: Sequence[Target]) -> Branches:
        branches = tuple(target.branch for target in targets)
        return Branches(branches, self.sources, self.settings.guidance, self.settings.guidance_rescale)

    def _plan_keeping(self, plan: Plan) -> MemoryPlan:
        """What is kept of the sources."""
        return plan_memory(
            self.backbone,
            plan,
            self._branches(()),
            size=self.size,
            steps=self._kept_steps(),
            budget=self.settings.source_memory,
        )

    def _rows_beside(self, plan: Plan) -> int:
        """How many rows of sources join a batch of targets at the step that takes most."""
        kept = frozenset(self._kept_steps()) - self.keeping.recomputed
        live = [step for step in plan.acting if plan.source_layers_at(step) and step not in kept]
        return len(self._branches(()).layout(targets=()).rows) if live else 0

    def _kept_steps(self) -> range:
        """The steps that the sources' pass evaluates."""
        if self.request.generated:
            return range(self.settings.num_inference_steps)
        return source_steps(self.settings) if self.request.inverts else range(0)

    def _encode_texts(self) -> Mapping[str, Float[Tensor, "token channel"]]:
        # One at a time: a text's embedding must not depend on its company, not even in rounding.
        texts = self._branches(self.targets).layout().texts
        watched = (self.map_caption,) if self.map_specs else ()
        return {text: self.backbone.encode_prompts([text])[0] for text in dict.fromkeys((*texts, *watched))}

    def _make_sources(self) -> tuple[Float[Tensor, "source channel height width"] | None, Trajectory | None]:
        """The sources' clean latents, and their trajectory where anybody needs that."""
        settings = self.settings
        # Their own evaluations show the subject, if their prompt names it.
        store = self.store if self.run.plan.masks_sources and self.request.caption else None
        if self.request.generated:
            trajectory = generate(self.run, self.sources[0], settings, self.shape, counter=self.counter, store=store)
            return trajectory.clean, trajectory
        if not self.pictures.references:
            return None, None
        encoded = encode(self.run, self.pictures.references)
        if not self.request.inverts:
            return encoded, None
        trajectory = invert(
            self.run, self.sources, encoded, settings, rows=self.rows, counter=self.counter, store=store
        )
        return trajectory.clean, trajectory

    def _denoise(self, trajectory: Trajectory | None) -> list[Float[Tensor, "channel height width"]]:
        """The targets' clean latents."""
        advance = self.counter("denoise", len(self.chunks))
        same_start = self.settings.noise_share == 0
        if self.store is not None and trajectory is not None and self.run.plan.masks_sources:
            self.map_evaluations = map_sources(self.run, self.store, trajectory, self.map_caption, rows=self.rows)
        latents: list[Tensor] = []
        for chunk in self.chunks:
            start = torch.stack([self._start(target, trajectory) for target in chunk])
            latents += denoise_targets(
                self.run,
                self._branches(chunk),
                start,
                trajectory,
                same_start=same_start,
                masks=self.given_masks,
                store=self.store,
                advance=advance,
            )
        return latents

    def _reconstruct(self, trajectory: Trajectory | None) -> tuple[Image.Image, ...]:
        """What plain inversion makes of the references; nothing where none was inverted."""
        if trajectory is None or self.request.generated:
            return ()
        before = self.session.evaluations
        chunks = split_evenly(self.sources, self.rows)
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
        noise = seeded_noise(self.shape, target.seed).to(self.backbone.device)
        share = self.settings.noise_share
        return noise if trajectory is None else spherical_blend(trajectory.latents[0, 0], noise, share)
