"""The first job: one subject, any scenes.

photo -> invert -> Trajectory -> Branches -> denoise under rules -> decode. The model is never modified: control is attached
for the length of one call. Work is exact and done once: one edit of 50 steps from an empty source prompt takes 50
evaluations to invert and 100 to denoise, N targets 50 + 100 N.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.backbones.base import Backbone
from samecast.backbones.loading import EMBEDDED, load_backbone
from samecast.control.denoise import denoise_targets
from samecast.control.plan import Plan, make_plan
from samecast.control.rules import Rules, masactrl, rules_to_data
from samecast.control.session import Session
from samecast.control.source import Advance, Trajectory, generate_source, invert_reference
from samecast.core.branches import Branch, Branches
from samecast.core.ddim import Schedule
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.core.settings import RenderSettings
from samecast.errors import SamecastError
from samecast.photos import fit_photo, load_photo
from samecast.subject import Subject

Progress = Callable[[str, int, int], None]
"""Called with the stage's name (`invert`, `source`, `denoise`, `decode`), how much is done, and how much there is."""

MASACTRL = masactrl()
POOR_PSNR = 20.0
# About what 8 pictures' rows at 512 px take (64 x 64 latents); small latents want large batches, as calls cost more than rows.
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
        source: the replayed source as decoded: what the targets could read. None where there is no source.
        reference: the photo as it was fed to the model. None where the source was generated.
        source_psnr: of `source` against `reference`, in dB; replay makes it that of the VAE alone.
        evaluations: rows that went through the denoiser, counted on it.
        provenance: all that it takes to make the pictures again; JSON-able.
        warnings: settings without effect, and limits met.
    """

    renders: tuple[Render, ...]
    source: Image.Image | None
    reference: Image.Image | None
    source_psnr: float | None
    evaluations: int
    provenance: dict[str, Any]
    warnings: tuple[str, ...]


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
        progress: Progress | None = None,
    ) -> RenderResult:
        """Renders the subject in new scenes.

        Args:
            subject: whom to keep the same; None generates the source from `settings.source_prompt`, or renders without
                any source where the rules are empty and `settings.init` is `noise`.
            prompts: one scene each; `{noun}` stands for the subject's class noun.
            rules: who reads whom, where and when; `()` is no control.
            settings: how to render.
            progress: told how far the work is.

        Raises:
            SamecastError: a prompt, setting, rule or photo cannot be used; said in one line before any work is done.
        """
        return _Job(self.backbone, subject, prompts, rules, settings or RenderSettings(), progress).run()


class _Job:
    """One call of `render`: checks everything first, then works."""

    def __init__(
        self,
        backbone: Backbone,
        subject: Subject | None,
        prompts: Sequence[str],
        rules: Rules,
        settings: RenderSettings,
        progress: Progress | None,
    ) -> None:
        self.backbone, self.subject, self.rules, self.settings = backbone, subject, rules, settings
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.prompts = _check_prompts(prompts)
        self.size = settings.size or backbone.default_size
        self.shape = backbone.latent_shape(self.size)
        self.schedule: Schedule = backbone.schedule(settings.steps)
        self.session = Session(backbone)
        self.generated = subject is None and bool(settings.source_prompt)
        self.reads_source = bool(rules) or settings.noise_share < 1
        _check_source(subject, rules, settings, self.generated)
        self.reference = self._read_reference()
        noun = subject.class_noun if subject is not None else ""
        texts = [_expand(prompt, noun) for prompt in self.prompts for _ in range(settings.images_per_prompt)]
        self.targets = tuple(
            Branch("target", index, text, _expand(settings.negative_prompt, noun)) for index, text in enumerate(texts)
        )
        self.source = Branch("source", 0, _expand(settings.source_prompt, noun))
        first_seed = settings.seed + self.generated  # a generated source takes the seed itself
        self.seeds = [first_seed + index % settings.images_per_prompt for index in range(len(texts))]
        self.plan: Plan = make_plan(rules, self.session.sites, self.schedule, len(texts))
        self.branches = Branches(self.targets, (self.source,), settings.guidance_scale)
        self.embeddings = self._encode_texts()

    def run(self) -> RenderResult:
        with self.session:
            clean_source, trajectory = self._make_source()
            latents = self._denoise(trajectory)
        source = self.backbone.decode(clean_source[None])[0] if clean_source is not None else None
        images: list[Image.Image] = []
        for latent in latents:
            images += self.backbone.decode(latent[None])
            self.progress("decode", len(images), len(self.targets))
        repeated = [prompt for prompt in self.prompts for _ in range(self.settings.images_per_prompt)]
        renders = tuple(
            Render(image, prompt, seed) for image, prompt, seed in zip(images, repeated, self.seeds, strict=True)
        )
        psnr = (
            peak_signal_to_noise(self.reference, source) if self.reference is not None and source is not None else None
        )
        warnings = self._warnings(psnr)
        return RenderResult(
            renders=renders,
            source=source,
            reference=self.reference,
            source_psnr=psnr,
            evaluations=self.session.evaluations,
            provenance=self._provenance(psnr, warnings),
            warnings=warnings,
        )

    def _read_reference(self) -> Image.Image | None:
        if self.subject is None:
            return None
        if len(self.subject.references) > 1:
            raise SamecastError(f"render reads one reference photo; got {len(self.subject.references)}")
        photo = self.subject.references[0]
        if isinstance(photo, Image.Image):
            return fit_photo(photo, size=self.size, fit=self.settings.fit)
        return load_photo(photo, size=self.size, fit=self.settings.fit)

    def _encode_texts(self) -> Mapping[str, Float[Tensor, "token channel_text"]]:
        # One at a time: a text's embedding must not depend on its company, not even in rounding.
        places = self.branches.layout(sources=None if self.generated or self.reference is not None else ()).texts
        return {text: self.backbone.encode_prompts([text])[0] for text in dict.fromkeys(places)}

    def _make_source(self) -> tuple[Float[Tensor, "channel height width"] | None, Trajectory | None]:
        """The source's clean latent, and its trajectory where anybody needs that."""
        common = (self.backbone, self.session, self.schedule, self.plan, self.branches, self.embeddings)
        if self.generated:
            noise = seeded_noise(self.shape, self.settings.seed).to(self.backbone.device)
            trajectory = generate_source(*common, noise, advance=self._counter("source", 1))
            return trajectory.clean, trajectory
        if self.reference is None:
            return None, None
        encoded = self.backbone.encode_image(self.reference)
        if not self.reads_source:
            return encoded, None
        trajectory = invert_reference(
            *common, encoded, pairing=self.settings.pairing, advance=self._counter("invert", 1)
        )
        return trajectory.clean, trajectory

    def _denoise(self, trajectory: Trajectory | None) -> list[Float[Tensor, "channel height width"]]:
        rows = self.settings.batch_rows or min(LARGEST_BATCH, BATCH_TOKENS // (self.shape[1] * self.shape[2]))
        chunks = _split(self.targets, max(1, rows // len(self.branches.groups)))
        advance = self._counter("denoise", len(chunks))
        latents: list[Tensor] = []
        for chunk in chunks:
            latents += denoise_targets(
                self.backbone,
                self.session,
                self.schedule,
                self.plan,
                Branches(chunk, (self.source,), self.settings.guidance_scale),
                self.embeddings,
                torch.stack([self._start(target, trajectory) for target in chunk]),
                trajectory,
                same_start=self.settings.noise_share == 0,
                advance=advance,
            )
        return latents

    def _start(self, target: Branch, trajectory: Trajectory | None) -> Float[Tensor, "channel height width"]:
        noise = seeded_noise(self.shape, self.seeds[target.index]).to(self.backbone.device)
        share = self.settings.noise_share
        return noise if trajectory is None else spherical_blend(trajectory.latents[0], noise, share)

    def _counter(self, stage: str, rounds: int) -> Advance:
        total = rounds * len(self.schedule.working_steps)
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
            "seeds": self.seeds,
            "class_noun": self.subject.class_noun if self.subject is not None else "",
            "references": [_describe_reference(photo) for photo in self.subject.references] if self.subject else [],
            "reference_pixels": _pixel_hash(self.reference) if self.reference is not None else None,
            "rules": rules_to_data(self.rules),
            "settings": asdict(self.settings),
            "size": self.size,
            "model": asdict(self.backbone.identity),
            **self.backbone.describe(),
            "batch_shapes": {str(rows): calls for rows, calls in sorted(self.session.batch_shapes.items())},
            "evaluations": self.session.evaluations,
            "source_psnr": psnr if psnr is not None and math.isfinite(psnr) else None,
            "warnings": list(warnings),
        }


def peak_signal_to_noise(reference: Image.Image, other: Image.Image) -> float:
    """PSNR in dB of two RGB pictures of one size, over 8-bit values; infinite where they are equal."""
    difference = numpy.asarray(reference, dtype=numpy.float64) - numpy.asarray(other, dtype=numpy.float64)
    error = float(numpy.mean(difference**2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _check_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    if isinstance(prompts, str):
        raise SamecastError(f"prompts must be a list of texts; got the one text {prompts[:40]!r}")
    if not prompts:
        raise SamecastError("at least one prompt is needed; got none")
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise SamecastError(f"prompt {number} is empty; say what the picture is to show")
    return tuple(prompts)


def _check_source(subject: Subject | None, rules: Rules, settings: RenderSettings, generated: bool) -> None:
    if subject is None and not generated:
        if rules:
            raise SamecastError("control needs a source to read: give a subject with a photo, or a source_prompt")
        if settings.noise_share < 1:
            raise SamecastError("there is no source to start from: give a subject or a source_prompt, or init='noise'")
    if settings.images_per_prompt > 1 and settings.noise_share == 0:
        raise SamecastError(
            f"images_per_prompt={settings.images_per_prompt} would repeat one picture: with init='inverted' nothing is"
            " random; use init='noise' or a blend such as 0.3"
        )


def _expand(text: str, noun: str) -> str:
    if "{noun}" in text and not noun:
        raise SamecastError(f"{text[:40]!r} speaks of {{noun}}, but the subject has no class_noun")
    return text.replace("{noun}", noun)


def _split(targets: tuple[Branch, ...], largest: int) -> list[tuple[Branch, ...]]:
    """Consecutive chunks, as few as the limit allows and as equal as they can be: a small last call wastes its overhead."""
    count = math.ceil(len(targets) / largest)
    size = math.ceil(len(targets) / count)
    return [targets[at : at + size] for at in range(0, len(targets), size)]


def _describe_reference(photo: str | Path | Image.Image) -> str | None:
    """Its path as given; None for a picture that came from memory."""
    return None if isinstance(photo, Image.Image) else str(photo)


def _pixel_hash(image: Image.Image) -> str:
    return "sha256:" + sha256(image.tobytes()).hexdigest()
