"""What is worth a warning after a render: settings without effect, and limits met; each in one line."""

from samecast.control.looking import Blanks
from samecast.core.branches import name_of
from samecast.render.request import Request

POOR_PSNR = 20.0


def remarks(request: Request, psnr: float | None, *, changed: bool, blanks: Blanks) -> tuple[str, ...]:
    """All warnings of a run.

    Args:
        request: what was asked for.
        psnr: of the worst replayed source against its reference, in dB.
        changed: whether control made any difference.
        blanks: masks that told nothing apart, and where.
    """
    settings, found = request.settings, list[str]()
    if settings.noise_share == 0 and not request.generated:
        found.append("the seed has no effect with init='inverted': nothing is random; init='noise' or a blend uses it")
    if settings.negative_prompt and settings.guidance_scale <= 1:
        found.append("the negative prompt has no effect with guidance_scale <= 1")
    if psnr is not None and psnr < POOR_PSNR:
        found.append(f"this model's autoencoder reproduces the photo at only {psnr:.1f} dB; finer detail is lost")
    if request.rules and not changed:
        found.append(
            "control was active and changed nothing: every picture is as it would be without; see what the rules read"
        )
    return (*found, *_blank_masks(blanks))


def _blank_masks(blanks: Blanks) -> list[str]:
    """One line for all empty masks and one for all full ones."""
    found: list[str] = []
    for kind, consequence in (("empty", "nothing counts as the subject"), ("full", "everything counts as the subject")):
        named = {name_of(branch) for (_, branch), sides in blanks.items() if kind in sides.values()}
        places = {side for sides in blanks.values() for side, what in sides.items() if what == kind}
        if named:
            sizes = " and ".join(f"{side} x {side}" for side in sorted(places))
            found.append(
                f"the mask of {', '.join(sorted(named))} is {kind} at {sizes} tokens, where {consequence};"
                " try another mask, threshold or finer sites"
            )
    return found
