"""What is worth a warning after a render: settings without effect, and limits met; each in one line."""

import re
from collections.abc import Sequence

from samecast.core.settings import Pairing
from samecast.engine.blanks import Blanks, blank_warnings
from samecast.engine.memory import MemoryPlan
from samecast.models.base import Backbone
from samecast.models.words import says
from samecast.render.quality import Fidelity
from samecast.render.request import Request

_MODIFIER = re.compile(r"<[\w-]+>")
POOR_PSNR = 20.0
POOR_INVERSION = 3.0
"""In dB below the autoencoder: there the inversion doubles the squared error."""


def warnings_of(
    request: Request,
    *,
    autoencoder: Sequence[Fidelity] = (),
    inversion: Sequence[Fidelity] = (),
    changed: bool,
    keeping: MemoryPlan,
    blanks: Blanks,
    pairing: Pairing = "matched",
    idle_words: Sequence[str] = (),
) -> tuple[str, ...]:
    """All warnings of a run.

    Args:
        request: what was asked for.
        autoencoder: how close the replayed sources come to their references.
        inversion: how close the inverted references come when denoised freely, if that was asked for.
        changed: whether control made any difference.
        keeping: what memory allowed to keep of the sources.
        blanks: masks that told nothing apart, and where.
        pairing: the model's own.
        idle_words: what is wrong with modifier tokens, as `idle_words` finds it.
    """
    settings, found = request.settings, list[str]()
    fixed = settings.noise_share == 0 and not request.generated and settings.pairing != "straight"
    if settings.seed is not None and fixed:
        found.append("the seed has no effect with init='inverted': nothing is random; init='noise' or a blend uses it")
    scale = "guidance_scale" if settings.true_cfg_scale is None else "true_cfg_scale"
    if settings.negative_prompt and settings.guidance <= 1:
        found.append(f"the negative prompt has no effect with {scale} <= 1")
    if settings.guidance_rescale and settings.guidance <= 1:
        found.append(f"guidance_rescale has no effect with {scale} <= 1")
    found += idle_words
    found += _poor_autoencoder(autoencoder)
    if settings.check_inversion and not inversion:
        found.append("check_inversion has no effect: no photo is inverted for this request")
    if not request.inverts:
        idle = {
            "fixed_point": bool(settings.fixed_point),
            "pairing": settings.pairing not in (None, "matched", pairing),
        }
        idle |= {"replay=False": not settings.replay}
        found += [f"{name} has no effect: no photo is inverted for this request" for name, on in idle.items() if on]
    if request.photos and not request.inverts:
        found.append("the photo has no effect: no rule reads it, and the pictures start from noise")
    if settings.source_memory is not None and not any(rule.reads_source for rule in request.rules):
        found.append("source_memory has no effect: no rule reads a source, and nothing is kept of one")
    found += _poor_inversion(autoencoder, inversion)
    if request.rules and not changed:
        found.append(
            "control was active and changed nothing: every picture is as it would be without; see what the rules read"
        )
    if keeping.recomputed:
        found.append(f"memory is what limits here: {keeping}, for each batch of pictures: see source_memory")
    return (*found, *blank_warnings(blanks))


def idle_words(request: Request, backbone: Backbone) -> list[str]:
    """Words of the applied concepts that no text says, and words in brackets that are of no concept."""
    words = [word for concept in backbone.identity.concepts for word in concept.words]
    texts = (*request.prompts, request.caption, request.settings.negative_prompt, request.noun)
    found = [
        f"no prompt says {word}, the word of a concept that is applied"
        for word in words
        if not any(says(backbone, text, word) for text in texts)
    ]
    bracketed = dict.fromkeys(word for text in texts for word in _MODIFIER.findall(text))
    unknown = [word for word in bracketed if not any(says(backbone, word, known) for known in words)]
    return found + [f"{word} in the prompt is no word of a concept that is applied" for word in unknown]


def _poor_autoencoder(autoencoder: Sequence[Fidelity]) -> list[str]:
    worst = min((each.psnr for each in autoencoder), default=POOR_PSNR)
    if worst >= POOR_PSNR:
        return []
    return [
        f"this model's autoencoder reproduces the photo at only {worst:.1f} dB; finer detail is lost: try a larger"
        " size, a photo that shows the subject larger, or a model with a better autoencoder"
    ]


def _poor_inversion(autoencoder: Sequence[Fidelity], inversion: Sequence[Fidelity]) -> list[str]:
    pairs = [(one.psnr, two.psnr) for one, two in zip(autoencoder, inversion, strict=False)]
    alone, inverted = max(pairs, key=lambda pair: pair[0] - pair[1], default=(0.0, 0.0))
    if alone - inverted < POOR_INVERSION:
        return []
    return [
        f"inversion is what limits here: denoised freely the photo comes back at {inverted:.1f} dB, from the"
        f" autoencoder alone at {alone:.1f} dB; pictures that start from its latent inherit the error:"
        " try fixed_point=3, more steps, a source_prompt that describes the photo, or init='noise'"
    ]
