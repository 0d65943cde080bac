"""What is compared: ways to render, each under the name it has in tables."""

from dataclasses import dataclass

from samecast.control.rules import Rules, masactrl, masactrl_union


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
    """

    name: str
    title: str
    rules: Rules
    init: str | float | None = None
    shuffled: bool = False


METHODS: tuple[Method, ...] = (
    Method("prompt", "prompt alone", ()),
    Method("decoder", "decoder 10-15, steps 4-50", masactrl()),
    Method("decoder-25", "decoder 10-15, steps 4-25", masactrl(final=25)),
    Method("encoder", "encoder 0-7, steps 4-50", masactrl(sites="0-7")),
    Method("all", "all sites 0-15, steps 4-50", masactrl(sites="0-15")),
    Method("union", "decoder 10-15 and oneself, steps 4-50", masactrl_union()),
    Method("shuffled", "decoder 10-15, steps 4-50, another subject's photo", masactrl(), shuffled=True),
)
"""The settings of the AIKU study, no control below them, and a negative control above."""
