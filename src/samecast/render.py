"""The first job: one subject, any scenes.

photo -> invert -> Trajectory -> Branches -> denoise under rules -> decode. The model is never modified: control is
attached for the length of one call. Work is exact and done once: one edit of 50 steps from an empty source prompt takes
50 evaluations to invert and 100 to denoise, N targets 50 + 100 N.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.backbones.base import Backbone
from samecast.backbones.loading import EMBEDDED, load_backbone
from samecast.control.denoise import denoise_targets
from samecast.control.plan import make_plan
from samecast.control.rules import Rules, masactrl, rules_to_data
from samecast.control.run import Advance, Run
from samecast.control.session import Session
from samecast.control.source import Trajectory, generate_source, invert_reference
from samecast.control.targets import Target, expand, make_targets, split_targets
from samecast.core.branches import Branch, Branches
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.core.quality import peak_signal_to_noise
from samecast.core.settings import RenderSettings
from samecast.errors import SamecastError
from samecast.photos import fit_photo, load_photo
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
        return _Job(self.backbone, subject, prompts, rules, settings or RenderSettings(), progress).work()


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
        self.prompts = tuple(prompts)
        self.noun = subject.class_noun if subject is not None else ""
        self.generated = subject is None and bool(settings.source_prompt)
        _check_source(subject, rules, settings, self.generated)
        # A generated source takes the seed itself, so that fresh noise is not its noise again.
        first_seed = settings.seed + self.generated
        self.targets = make_targets(prompts, settings, noun=self.noun, first_seed=first_seed)
        self.source = Branch("source", 0, expand(settings.source_prompt, self.noun))
        self.size = settings.size or backbone.default_size
        self.shape = backbone.latent_shape(self.size)
        self.session = Session(backbone)
        schedule = backbone.schedule(settings.steps)
        plan = make_plan(rules, self.session.sites, schedule, len(self.targets))
        self.reference = self._read_reference()
        self.run = Run(backbone, self.session, schedule, plan, self._encode_texts())

    def work(self) -> RenderResult:
        """Does it all."""
        with self.session:
            clean_source, trajectory = self._make_source()
            latents = self._denoise(trajectory)
        renders: list[Render] = []
        for target, latent in zip(self.targets, latents, strict=True):
            image = self.backbone.decode(latent[None])[0]
            renders.append(Render(image, target.prompt, target.seed))
            self.progress("decode", len(renders), len(self.targets))
        source = None if clean_source is None else self.backbone.decode(clean_source[None])[0]
        reference = self.reference
        psnr = None if reference is None or source is None else peak_signal_to_noise(reference, source)
        warnings = self._warnings(psnr)
        return RenderResult(
            renders=tuple(renders),
            source=source,
            reference=reference,
            source_psnr=psnr,
            evaluations=self.session.evaluations,
            provenance=self._provenance(psnr, warnings),
            warnings=warnings,
        )

    def _read_reference(self) -> Image.Image | None:
        if self.subject is None:
            return None
        photo, *others = self.subject.references
        if others:
            raise SamecastError(f"render reads one reference photo; got {1 + len(others)}")
        if isinstance(photo, Image.Image):
            return fit_photo(photo, size=self.size, fit=self.settings.fit)
        return load_photo(photo, size=self.size, fit=self.settings.fit)

    def _branches(self, targets: Sequence[Target]) -> Branches:
        branches = tuple(target.branch for target in targets)
        return Branches(branches, (self.source,), self.settings.guidance_scale)

    def _encode_texts(self) -> Mapping[str, Float[Tensor, "token channel"]]:
        # One at a time: a text's embedding must not depend on its company, not even in rounding.
        texts = self._branches(self.targets).layout().texts
        return {text: self.backbone.encode_prompts([text])[0] for text in dict.fromkeys(texts)}

    def _make_source(self) -> tuple[Float[Tensor, "channel height width"] | None, Trajectory | None]:
        """The source's clean latent, and its trajectory where anybody needs that."""
        branches = self._branches(())
        if self.generated:
            noise = seeded_noise(self.shape, self.settings.seed).to(self.backbone.device)
            trajectory = generate_source(self.run, branches, noise, advance=self._counter("source", 1))
            return trajectory.clean, trajectory
        if self.reference is None:
            return None, None
        encoded = self.backbone.encode_image(self.reference)
        if not self.rules and self.settings.noise_share == 1:
            return encoded, None  # nobody reads it or starts from it
        pairing, advance = self.settings.pairing, self._counter("invert", 1)
        trajectory = invert_reference(self.run, branches, encoded, pairing=pairing, advance=advance)
        return trajectory.clean, trajectory

    def _denoise(self, trajectory: Trajectory | None) -> list[Float[Tensor, "channel height width"]]:
        rows = self.settings.batch_rows or min(LARGEST_BATCH, BATCH_TOKENS // (self.shape[1] * self.shape[2]))
        groups = self._branches(self.targets).groups
        chunks = split_targets(self.targets, max(1, rows // len(groups)))
        advance = self._counter("denoise", len(chunks))
        same_start = self.settings.noise_share == 0
        latents: list[Tensor] = []
        for chunk in chunks:
            start = torch.stack([self._start(target, trajectory) for target in chunk])
            branches = self._branches(chunk)
            latents += denoise_targets(self.run, branches, start, trajectory, same_start=same_start, advance=advance)
        return latents

    def _start(self, target: Target, trajectory: Trajectory | None) -> Float[Tensor, "channel height width"]:
        noise = seeded_noise(self.shape, target.seed).to(self.backbone.device)
        share = self.settings.noise_share
        return noise if trajectory is None else spherical_blend(trajectory.latents[0], noise, share)

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


def _describe_reference(photo: str | Path | Image.Image) -> str | None:
    """Its path as given; None for a picture that came from memory."""
    return None if isinstance(photo, Image.Image) else str(photo)


def _pixel_hash(image: Image.Image) -> str:
    return "sha256:" + sha256(image.tobytes()).hexdigest()
