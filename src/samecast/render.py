"""The first job: one subject, any scenes.

photos -> invert -> Trajectory -> Branches -> denoise under rules -> decode. The model is never modified: control is
attached for the length of one call. Work is exact and done once: one edit of 50 steps from an empty source prompt takes
50 evaluations to invert and 100 to denoise, N targets of R references 50 R + 100 N.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.backbones.base import Backbone
from samecast.backbones.loading import EMBEDDED, load_backbone
from samecast.control.checks import check_masks, check_one_batch, check_source, wanted_masks
from samecast.control.denoise import denoise_targets
from samecast.control.given import GivenMask, read_mask, to_subject_mask
from samecast.control.looking import MapBook, look_at_sources, make_looks
from samecast.control.plan import Masks, make_plan
from samecast.control.rule import Rules, rules_to_data
from samecast.control.rules import masactrl
from samecast.control.run import Advance, Run
from samecast.control.session import Session
from samecast.control.source import Trajectory, generate_source, invert_references, join_trajectories
from samecast.control.targets import Target, expand, make_targets, split_evenly
from samecast.core.branches import Branch, Branches
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.core.quality import peak_signal_to_noise
from samecast.core.settings import RenderSettings
from samecast.photos import fit_photo, open_photo
from samecast.subject import Subject

Progress = Callable[[str, int, int], None]
"""Called with the stage's name (`invert`, `source`, `denoise`, `decode`), how much is done, and how much there is."""

MASACTRL = masactrl()
POOR_PSNR = 20.0
# 16 rows of 64 x 64 latents (512 px). Small latents want large batches, as there a call costs more than its rows.
BATCH_TOKENS, LARGEST_BATCH = 16 * 64 * 64, 64


@dataclass(frozen=True)
class Render:
    """One picture.

    Args:
        image: the picture, RGB.
        prompt: what it was to show, as given.
        seed: of its noise; without effect where it started from the inverted latent.
    """

    image: Image.Image
    prompt: str
    seed: int


@dataclass(frozen=True)
class RenderResult:
    """What one call of `Model.render` gave.

    Args:
        renders: the pictures, prompt by prompt.
        sources: the replayed sources as decoded: what the targets could read. Empty where there is none.
        references: the photos as they were fed to the model. Empty where the source was generated.
        source_psnr: of the worst of `sources` against its reference, in dB; replay makes it that of the VAE alone.
        evaluations: rows that went through the denoiser, counted on it.
        provenance: all that it takes to make the pictures again, beside references and masks; JSON-able.
        warnings: settings without effect, and limits met.
        reference_masks: the given masks as they were used, one for each reference; or none.
        target_masks: the given masks as they were used, one for each picture; or none.
        map_evaluations: rows beside these that only showed where the subject is in the sources.
    """

    renders: tuple[Render, ...]
    sources: tuple[Image.Image, ...]
    references: tuple[Image.Image, ...]
    source_psnr: float | None
    evaluations: int
    provenance: dict[str, Any]
    warnings: tuple[str, ...]
    reference_masks: tuple[Image.Image, ...] = ()
    target_masks: tuple[Image.Image, ...] = ()
    map_evaluations: int = 0

    @property
    def source(self) -> Image.Image | None:
        """The first source: where targets start that start from a source."""
        return self.sources[0] if self.sources else None

    @property
    def reference(self) -> Image.Image | None:
        """The first reference."""
        return self.references[0] if self.references else None


def load(
    model: str | Path = EMBEDDED,
    *,
    device: str = "auto",
    dtype: str = "auto",
    lora: Sequence[str | Path] = (),
    revision: str | None = None,
) -> "Model":
    """Loads a model; arguments and errors as for `samecast.backbones.loading.load_backbone`."""
    return Model(load_backbone(model, device=device, dtype=dtype, lora=lora, revision=revision))


class Model:
    """A diffusion model that renders subjects.

    Args:
        backbone: the model behind its family's adapter.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @torch.inference_mode()
    def render(
        self,
        subject: Subject | None,
        prompts: Sequence[str],
        *,
        rules: Rules = MASACTRL,
        settings: RenderSettings | None = None,
        target_masks: Sequence[GivenMask] = (),
        progress: Progress | None = None,
    ) -> RenderResult:
        """Renders the subject in new scenes.

        Args:
            subject: whom to keep the same; None generates the source from `settings.source_prompt`, or renders without
                any source where the rules are empty and `settings.init` is `noise`.
            prompts: one scene each; `{noun}` stands for the subject's class noun.
            rules: who reads whom, where and when; `()` is no control.
            settings: how to render.
            target_masks: where the subject is to be in each prompt's pictures, for rules that take given masks: one for
                each prompt, or one for all.
            progress: told how far the work is.

        Raises:
            SamecastError: a prompt, setting, rule or photo cannot be used; said in one line before any work is done.
        """
        settings = settings or RenderSettings()
        return _Job(self.backbone, subject, prompts, rules, settings, tuple(target_masks), progress).work()


class _Job:
    """One call of `render`: checks everything first, then works."""

    def __init__(
        self,
        backbone: Backbone,
        subject: Subject | None,
        prompts: Sequence[str],
        rules: Rules,
        settings: RenderSettings,
        target_masks: tuple[GivenMask, ...],
        progress: Progress | None,
    ) -> None:
        self.backbone, self.subject, self.rules, self.settings = backbone, subject, rules, settings
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.prompts = tuple(prompts)
        self.noun = subject.class_noun if subject is not None else ""
        self.generated = subject is None and bool(settings.source_prompt)
        check_source(rules, settings, source=subject is not None or self.generated)
        # A generated source takes the seed itself, so that fresh noise is not its noise again.
        first_seed = settings.seed + self.generated
        self.targets = make_targets(prompts, settings, noun=self.noun, first_seed=first_seed)
        caption = expand(settings.source_prompt, self.noun)
        photos = subject.references if subject is not None else (None,)
        self.sources = tuple(Branch("source", index, caption) for index in range(len(photos)))
        self.size = settings.size or backbone.default_size
        self.shape = backbone.latent_shape(self.size)
        schedule = backbone.schedule(settings.steps)
        crossed = [bound.site for bound in backbone.cross_attention()]
        self.looks = make_looks(rules, crossed, schedule, self.noun)
        self.session = Session(backbone, frozenset(site for look in self.looks for site in look.sites))
        plan = make_plan(rules, self.session.sites, schedule, len(self.targets))
        self.map_evaluations = 0
        self.watch_caption = caption or f"a photo of a {self.noun}"
        for look in self.looks:
            for text in {self.watch_caption, *(target.branch.prompt for target in self.targets)}:
                backbone.find_words(text, look.phrase)
        self.groups = Branches((), (), settings.guidance_scale).groups
        largest = min(LARGEST_BATCH, BATCH_TOKENS // (self.shape[1] * self.shape[2]))
        self.rows = max(len(self.groups), settings.batch_rows or largest)
        self.together = check_one_batch(rules, len(self.targets), len(self.groups), self.rows)
        self.references = self._read_references()
        self.reference_masks, self.target_masks = self._read_masks(target_masks)
        self.run = Run(backbone, self.session, schedule, plan, self._encode_texts())

    def work(self) -> RenderResult:
        """Does it all."""
        with self.session:
            clean_sources, trajectory = self._make_sources()
            latents = self._denoise(trajectory)
        renders: list[Render] = []
        for target, latent in zip(self.targets, latents, strict=True):
            image = self.backbone.decode(latent[None])[0]
            renders.append(Render(image, target.prompt, target.seed))
            self.progress("decode", len(renders), len(self.targets))
        sources = () if clean_sources is None else tuple(self.backbone.decode(clean_sources))
        # A generated source has no reference to be held against.
        psnr = min(map(peak_signal_to_noise, self.references, sources), default=None)
        warnings = self._warnings(psnr)
        return RenderResult(
            renders=tuple(renders),
            sources=sources,
            references=self.references,
            source_psnr=psnr,
            evaluations=self.session.evaluations - self.map_evaluations,
            map_evaluations=self.map_evaluations,
            provenance=self._provenance(psnr, warnings),
            warnings=warnings,
            reference_masks=self.reference_masks,
            target_masks=self.target_masks,
        )

    def _read_references(self) -> tuple[Image.Image, ...]:
        fit, photos = self.settings.fit, self.subject.references if self.subject is not None else ()
        return tuple(
            fit_photo(photo if isinstance(photo, Image.Image) else open_photo(photo), size=self.size, fit=fit)
            for photo in photos
        )

    def _read_masks(self, of_prompts: Sequence[GivenMask]) -> tuple[tuple[Image.Image, ...], tuple[Image.Image, ...]]:
        """The given masks of the references and of the pictures; those that no rule asks for are refused."""
        photos = self.subject.references if self.subject is not None else ()
        of_photos = self.subject.masks if self.subject is not None else ()
        wanted = wanted_masks(self.rules)
        check_masks(wanted, references=len(of_photos), targets=len(of_prompts), prompts=len(self.prompts))
        read = partial(read_mask, size=self.size, fit=self.settings.fit)
        references = tuple(
            read(
                mask, f"reference {number}", photo=(photo if isinstance(photo, Image.Image) else open_photo(photo)).size
            )
            for number, (mask, photo) in enumerate(zip(of_photos, photos, strict=False), start=1)
        )
        pictures = tuple(read(mask, f"prompt {number}", photo=None) for number, mask in enumerate(of_prompts, start=1))
        spread = pictures if len(pictures) != 1 else pictures * len(self.prompts)
        return references, tuple(mask for mask in spread for _ in range(self.settings.images_per_prompt))

    def _masks(self) -> Masks:
        targets = [target.branch for target in self.targets]
        of_branches = [
            *zip(self.sources, self.reference_masks, strict=False),
            *zip(targets, self.target_masks, strict=False),
        ]
        return {("given", branch): to_subject_mask(mask) for branch, mask in of_branches}

    def _branches(self, targets: Sequence[Target]) -> Branches:
        branches = tuple(target.branch for target in targets)
        return Branches(branches, self.sources, self.settings.guidance_scale)

    def _encode_texts(self) -> Mapping[str, Float[Tensor, "token channel"]]:
        # One at a time: a text's embedding must not depend on its company, not even in rounding.
        texts = self._branches(self.targets).layout().texts
        watched = (self.watch_caption,) if self.looks else ()
        return {text: self.backbone.encode_prompts([text])[0] for text in dict.fromkeys((*texts, *watched))}

    def _make_sources(self) -> tuple[Float[Tensor, "source channel height width"] | None, Trajectory | None]:
        """The sources' clean latents, and their trajectory where anybody needs that."""
        if self.generated:
            noise = seeded_noise(self.shape, self.settings.seed).to(self.backbone.device)
            advance = self._counter("source", 1)
            trajectory = generate_source(self.run, self._branches(()), noise, advance=advance)
            return trajectory.clean, trajectory
        if not self.references:
            return None, None
        encoded = torch.stack([self.backbone.encode_image(reference) for reference in self.references])
        if not any(rule.reads_source for rule in self.rules) and self.settings.noise_share == 1:
            return encoded, None  # nobody reads them or starts from them
        chunks = split_evenly(self.sources, self.rows)
        advance = self._counter("invert", len(chunks))
        parts: list[Trajectory] = []
        for chunk in chunks:
            branches = Branches((), chunk, self.settings.guidance_scale)
            latents = encoded[[branch.index for branch in chunk]]
            pairing = self.settings.pairing
            parts.append(invert_references(self.run, branches, latents, pairing=pairing, advance=advance))
        trajectory = join_trajectories(parts)
        return trajectory.clean, trajectory

    def _denoise(self, trajectory: Trajectory | None) -> list[Float[Tensor, "channel height width"]]:
        largest = len(self.targets) if self.together else self.rows // len(self.groups)
        chunks = split_evenly(self.targets, largest)
        advance = self._counter("denoise", len(chunks))
        same_start = self.settings.noise_share == 0
        masks = self._masks()
        book = MapBook(self.looks, self.backbone) if self.looks else None
        if book is not None and trajectory is not None:
            self.map_evaluations = look_at_sources(self.run, book, trajectory, self.watch_caption)
        latents: list[Tensor] = []
        for chunk in chunks:
            start = torch.stack([self._start(target, trajectory) for target in chunk])
            latents += denoise_targets(
                self.run,
                self._branches(chunk),
                start,
                trajectory,
                same_start=same_start,
                masks=masks,
                book=book,
                advance=advance,
            )
        return latents

    def _start(self, target: Target, trajectory: Trajectory | None) -> Float[Tensor, "channel height width"]:
        """Of several references the first gives the layout."""
        noise = seeded_noise(self.shape, target.seed).to(self.backbone.device)
        share = self.settings.noise_share
        return noise if trajectory is None else spherical_blend(trajectory.latents[0, 0], noise, share)

    def _counter(self, stage: str, rounds: int) -> Advance:
        total = rounds * len(self.run.schedule.working_steps)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            self.progress(stage, done, total)

        return advance

    def _warnings(self, psnr: float | None) -> tuple[str, ...]:
        settings, found = self.settings, list[str]()
        if settings.noise_share == 0 and not self.generated:
            found.append(
                "the seed has no effect with init='inverted': nothing is random; init='noise' or a blend uses it"
            )
        if settings.negative_prompt and settings.guidance_scale <= 1:
            found.append("the negative prompt has no effect with guidance_scale <= 1")
        if psnr is not None and psnr < POOR_PSNR:
            found.append(f"this model's autoencoder reproduces the photo at only {psnr:.1f} dB; finer detail is lost")
        return tuple(found)

    def _provenance(self, psnr: float | None, warnings: Sequence[str]) -> dict[str, Any]:
        return {
            "prompts": list(self.prompts),
            "seeds": [target.seed for target in self.targets],
            "class_noun": self.noun,
            "references": [_describe_reference(photo) for photo in self.subject.references] if self.subject else [],
            "reference_pixels": [_pixel_hash(reference) for reference in self.references],
            "reference_masks": [_pixel_hash(mask) for mask in self.reference_masks],
            "target_masks": [_pixel_hash(mask) for mask in self.target_masks],
            "rules": rules_to_data(self.rules),
            "settings": asdict(self.settings),
            "size": self.size,
            "model": asdict(self.backbone.identity),
            **self.backbone.describe(),
            "batch_shapes": {str(rows): calls for rows, calls in sorted(self.session.batch_shapes.items())},
            "evaluations": self.session.evaluations - self.map_evaluations,
            "map_evaluations": self.map_evaluations,
            "source_psnr": psnr if psnr is not None and math.isfinite(psnr) else None,
            "warnings": list(warnings),
        }


def _describe_reference(photo: str | Path | Image.Image) -> str | None:
    """Its path as given; None for a picture that came from memory."""
    return None if isinstance(photo, Image.Image) else str(photo)


def _pixel_hash(image: Image.Image) -> str:
    return "sha256:" + sha256(image.tobytes()).hexdigest()
