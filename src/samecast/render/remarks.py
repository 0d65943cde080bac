"""What is worth a warning after a render: settings without effect, and limits met; each in one line."""

from samecast.render.request import Request

POOR_PSNR = 20.0


def remarks(request: Request, psnr: float | None) -> tuple[str, ...]:
    """All warnings of a run.

    Args:
        request: what was asked for.
        psnr: of the worst replayed source against its reference, in dB.
    """
    settings, found = request.settings, list[str]()
    if settings.noise_share == 0 and not request.generated:
        found.append("the seed has no effect with init='inverted': nothing is random; init='noise' or a blend uses it")
    if settings.negative_prompt and settings.guidance_scale <= 1:
        found.append("the negative prompt has no effect with guidance_scale <= 1")
    if psnr is not None and psnr < POOR_PSNR:
        found.append(f"this model's autoencoder reproduces the photo at only {psnr:.1f} dB; finer detail is lost")
    return tuple(found)
