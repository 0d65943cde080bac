"""Which tokens a rule speaks of, and what it does with them; plain data, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from samecast.checked import Option, check_fields
from samecast.core.layers import Layer
from samecast.core.steps import Steps
from samecast.errors import SamecastError

Threshold = float | Literal["otsu"]
MASACTRL_THRESHOLD = 0.1
"""The paper's."""
_LARGE_LATENT = 64


@dataclass(frozen=True)
class SubjectTokens:
    """Which maps say where the subject is.

    Args:
        phrase: the words whose maps are taken, as they stand in the prompt; every sub-token of every occurrence. By
            default the subject's class noun.
        layers: cross-attention layers whose maps are taken, written as for `layers` of a rule. By default MasaCtrl's
            choice: those at a quarter of the latent's side, or the two finest levels where latents are below 64. In a
            transformer, whose layers are of one resolution, all.
        steps: at which maps are taken. A target's mask at a step is made of the maps of the steps before it.
        threshold: attention threshold for the subject, of the normalised map, from 0 to 1, or `otsu`, which chooses
            one for each map. MasaCtrl's is 0.1.
        average: over which steps maps are averaged: `steps`, those so far, of a source all; or `step`, the current one
            alone, as in the paper, for which each picture is evaluated once more without control in each step that
            reads it. Maps of one step are noisier, and follow a subject that moves between steps.

    Raises:
        SamecastError: a value is of another type, the threshold is out of range, or maps of the current step alone are
            asked for at given steps.
    """

    phrase: Annotated[str, Option("method", name="map-words", default="the noun")] = ""
    layers: Annotated[str, Option("method", name="map-layers", metavar="LAYERS", default="MasaCtrl's choice")] = ""
    steps: Steps = field(default_factory=Steps)
    threshold: Annotated[Threshold, Option("method", metavar="0-1|otsu")] = "otsu"
    average: Annotated[Literal["steps", "step"], Option("method", name="map-average")] = "steps"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.average == "step" and self.steps != Steps():
            raise SamecastError("maps of the current step alone are taken when they are read: leave out their steps")
        if not isinstance(self.threshold, str) and not 0 < self.threshold < 1:
            raise SamecastError(f"threshold must be between 0 and 1, or 'otsu'; got {self.threshold!r}")

    def selector(self, layers: Sequence[Layer]) -> str:
        """The layers to take maps of, given all there are."""
        if self.layers:
            return self.layers
        sides = {layer.resolution for layer in layers}
        if len(sides) == 1:
            return "all"
        if max(sides) < _LARGE_LATENT:
            return "@1/1,@1/2"
        # XL does not attend at its latent's own side: its finest layer is at half of it.
        return "@1/4" if max(sides) // 4 in sides else "@1/2"
