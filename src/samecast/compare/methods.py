"""The methods that are compared, with their names in tables."""

from dataclasses import dataclass, replace

from samecast.attention.methods import Rules, masactrl, masactrl_union
from samecast.learn.settings import LearnSettings, default_settings

FULL_RUN = 50
"""The number of denoising steps that spans of control refer to."""


@dataclass(frozen=True)
class Method:
    """A way to render, with or without training.

    Args:
        name: its name in tables and on the command line.
        title: its description.
        rules: rules of attention; empty for the prompt alone.
        init: initial latents, as `RenderSettings.init`; None keeps that of the settings.
        shuffled: read a photo of the next subject instead: a negative control, which shows how much of a score is due
            to reading the subject's own photo.
        learning: settings of a training on the subject's photos; None for no training.
        strength: strength of the learned concept, as in `Concept.apply`.
        photos: number of the subject's photos that are read.
        drawn: use the world's drawing of the scene in place of a render: an upper bound of the scores.
    """

    name: str
    title: str
    rules: Rules
    init: str | float | None = None
    shuffled: bool = False
    learning: LearnSettings | None = None
    strength: float = 1.0
    photos: int = 1
    drawn: bool = False


def placements(steps: int = FULL_RUN) -> tuple[Method, ...]:
    """The settings of the AIKU study, with no control as a lower bound and a negative control.

    Args:
        steps: denoising steps of each picture. Spans of control scale with it; `decoder-25` keeps its name, which is
            the step of 50.
    """
    start, middle = (round(step * steps / FULL_RUN) for step in (4, 25))
    whole, half = f"steps {start}-{steps}", f"steps {start}-{middle}"
    reading = masactrl(start)
    return (
        Method("prompt", "prompt alone", ()),
        Method("decoder", f"decoder 10-15, {whole}", reading),
        Method("decoder-25", f"decoder 10-15, {half}", masactrl(start, middle)),
        Method("encoder", f"encoder 0-7, {whole}", masactrl(start, layers="0-7")),
        Method("all", f"all layers 0-15, {whole}", masactrl(start, layers="0-15")),
        Method("union", f"decoder 10-15 and oneself, {whole}", masactrl_union(start)),
        Method("shuffled", f"decoder 10-15, {whole}, another subject's photo", reading, shuffled=True),
    )


def contest(*, embedded: bool, steps: int = FULL_RUN, learn_steps: int | None = None) -> tuple[Method, ...]:
    """The methods of `samecast compare`: training, attention, and both.

    Methods that read a photo start from the inverted photo, as in MasaCtrl; all others start from noise. Two more rows
    help to read the table: the attention of the combined method without its training, and the scenes as drawn by the
    world, an upper bound of the scores.

    Args:
        embedded: use the settings found for the embedded model instead of the papers'.
        steps: denoising steps of each picture; spans of control scale with it.
        learn_steps: steps of every training; None for each method's default.
    """
    start, final = (round(step * steps / FULL_RUN) for step in (4, 35))
    reading, spanned = masactrl(start, final), f"steps {start}-{final}"
    trainings = {
        name: replace(default_settings(name, embedded=embedded), steps=learn_steps)
        for name in ("textual-inversion", "lora", "dreambooth", "custom-diffusion")
    }
    return (
        Method("prompt", "prompt alone", (), "noise"),
        Method("textual-inversion", "Textual Inversion", (), "noise", learning=trainings["textual-inversion"]),
        Method("lora", "LoRA", (), "noise", learning=trainings["lora"]),
        Method("dreambooth", "DreamBooth, whole denoiser", (), "noise", learning=trainings["dreambooth"]),
        Method("custom-diffusion", "Custom Diffusion", (), "noise", learning=trainings["custom-diffusion"]),
        Method("masactrl", f"MasaCtrl, one photo, from step {start}", masactrl(start), "inverted"),
        Method("masactrl-photos", f"MasaCtrl, four photos, {spanned}", reading, "inverted", photos=4),
        Method(
            "custom-diffusion-masactrl",
            f"Custom Diffusion at half strength with MasaCtrl, four photos, {spanned}",
            reading,
            "inverted",
            learning=trainings["custom-diffusion"],
            strength=0.5,
            photos=4,
        ),
        Method("drawn", "the scenes drawn by the world", (), drawn=True),
    )
