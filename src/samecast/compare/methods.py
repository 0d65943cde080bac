"""What is compared: ways to render, each under the name it has in tables."""

from dataclasses import dataclass, replace

from samecast.attention.methods import Rules, masactrl, masactrl_union
from samecast.learn.settings import LearnSettings, default_settings

FULL_RUN = 50
"""Denoising steps that spans of control are told for."""


@dataclass(frozen=True)
class Method:
    """A way to render.

    Args:
        name: in tables and on the command line.
        title: in words.
        rules: who reads whom, where and when; empty for the prompt alone.
        init: where targets start, as `RenderSettings.init`; None leaves the settings' own.
        shuffled: read a photo of the next subject instead: a negative control, which tells how much of a score is the
            method's reading of this very photo.
        learning: what is learnt of the subject's photos before; None learns nothing.
        strength: of what was learnt, as `Concept.apply` takes it.
        photos: how many of the subject's photos are read.
        drawn: the world draws what was asked for, and nothing is rendered: tells what the judges say of perfection.
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
    """Return the settings of the AIKU study, no control below them, and a negative control above.

    Args:
        steps: denoising steps of each picture; the spans of control keep their share of the run, and `decoder-25` its
            name, which tells the step of 50.
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
    """Training, attention, and both: what `samecast compare` compares.

    What reads a photo starts from the inverted photo, as MasaCtrl was published; all else starts from noise. Reading as
    the two together do, without the training, is a method of its own, so that what the training adds can be told; and
    so are the very scenes as the world draws them, so that what the judges can grant at most is told.

    Args:
        embedded: take the settings that were found for the embedded model, rather than the papers'.
        steps: denoising steps of each picture; the spans of control keep their share of the run.
        learn_steps: steps of every training; None is each method's own.
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
        Method("drawn", "the very scenes, drawn by the world", (), drawn=True),
    )
