"""The end of a render: pictures are decoded, compared with the photos, and described."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.engine.blanks import Blanks
from samecast.engine.memory import GIB
from samecast.models.backbone import to_pictures
from samecast.render.found import found_masks
from samecast.render.provenance import describe_model, describe_quality, describe_request, finite
from samecast.render.quality import measure
from samecast.render.request import Request
from samecast.render.result import Render, RenderResult
from samecast.render.warnings import idle_words, warnings_of

if TYPE_CHECKING:
    from samecast.render.job import Job


def finish(
    job: "Job",
    clean_sources: Float[Tensor, "source channel height width"] | None,
    latents: Sequence[Float[Tensor, "channel height width"]],
    reconstructed: Sequence[Image.Image],
) -> RenderResult:
    """Decodes and describes what a job made.

    Args:
        job: after its last step.
        clean_sources: latents of the sources, decoded for comparison with the photos.
        latents: of the pictures, in the order of the targets.
        reconstructed: what plain inversion makes of the photos, where that was measured.
    """
    renders: list[Render] = []
    pixels: list[Tensor] = []
    for target, latent in zip(job.targets, latents, strict=False):
        decoded = job.backbone.decode_pixels(latent[None])
        renders.append(Render(to_pictures(decoded)[0], target.branch.prompt, target.seed))
        if job.request.output_type in ("np", "pt"):
            pixels.append(decoded)
        job.progress("decode", len(renders), len(latents))
    sources = () if clean_sources is None else tuple(job.backbone.decode(clean_sources))
    references = job.pictures.references  # a generated source has none
    autoencoder = measure(references, sources) if references else ()
    inversion = measure(references, reconstructed) if reconstructed else ()
    psnr = min((each.psnr for each in autoencoder), default=None)
    found = job.foreign + warnings_of(
        job.request,
        autoencoder=autoencoder,
        inversion=inversion,
        changed=job.session.changed,
        pairing=job.backbone.default_pairing,
        keeping=job.prepared.keeping,
        blanks=_blanks(job),
        idle_words=idle_words(job.request, job.backbone),
    )
    warnings = (*_interventions(job), *found)
    size = job.pictures.height, job.pictures.width
    masks = () if job.store is None else found_masks(job.store.masks(), job.prepared.map_specs, size)
    counts = {
        "evaluations": job.session.evaluations - job.map_evaluations - job.check_evaluations,
        "map_evaluations": job.map_evaluations,
        "check_evaluations": job.check_evaluations,
    }
    provenance = {
        **describe_request(_as_run(job), job.pictures, job.targets),
        **describe_model(job.backbone),
        "batch_shapes": {str(rows): calls for rows, calls in sorted(job.session.batch_shapes.items())},
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
        reference_masks=tuple(mask for mask in job.pictures.reference_masks if mask is not None),
        target_masks=job.pictures.target_masks,
        subject_masks=job.pictures.subject_masks,
        found_masks=masks,
        latents=torch.stack(list(latents)) if latents else None,
        pixels=torch.cat(pixels) if pixels else None,
        output_type=job.request.output_type,
        reused_evaluations=job.reused_evaluations,
        **counts,
    )


def _as_run(job: "Job") -> Request:
    """The request with the size and memory that it took, which a later time may choose otherwise."""
    settings = replace(job.settings, height=job.pictures.height, width=job.pictures.width)
    if settings.source_memory is None and job.prepared.keeping.kept:
        settings = replace(settings, source_memory=job.prepared.keeping.kept / GIB)
    return replace(job.request, settings=settings)


def _interventions(job: "Job") -> list[str]:
    """What the caller did to it on the way."""
    data: list[str] = []
    if job.interrupted:
        steps = f"{job.steps_taken} of {job.steps} steps"
        data.append(f"interrupted after {steps}: the last pictures are unfinished, and others may not be begun")
    if job.replaced:
        data.append("latents were replaced by the caller, which the record cannot repeat")
    return data


def _blanks(job: "Job") -> Blanks:
    given = {key: mask.blank for key, mask in job.given_masks.items()}
    return given if job.store is None else {**given, **job.store.blank()}
