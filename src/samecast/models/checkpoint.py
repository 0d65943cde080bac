"""What a single-file checkpoint says of itself without its weights being read: shapes of tensors, and metadata."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open

from samecast.core.ddim import PredictionType
from samecast.errors import SamecastError
from samecast.models.quiet import first_line

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.text_model.", "cond_stage_model.model."
XL_CLIP, XL_OPEN_CLIP = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
REFINER = "conditioner.embedders.0.model."

Generation = Literal["sd1", "sd2", "xl"]
_STEPS_OF_SD2_BASE = 875_000


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself.

    Args:
        shapes: of each tensor, by key.
        metadata: free text by key; `modelspec.*` where the writer kept to that convention.
        global_step: of its training, where it tells.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    global_step: int | None = None

    def count(self, template: str) -> int:
        """How many numbers, from 0 up without a gap, make a key's beginning of a template with `{}`."""
        number = 0
        while any(key.startswith(template.format(number)) for key in self.shapes):
            number += 1
        return number

    def has(self, prefix: str) -> bool:
        """Whether any key starts so."""
        return any(key.startswith(prefix) for key in self.shapes)

    @property
    def generation(self) -> Generation:
        """Which of the three, by its text encoders."""
        if self.has("conditioner.embedders."):
            return "xl"
        return "sd2" if self.has(OPEN_CLIP) else "sd1"

    @property
    def ends_on_noise(self) -> bool:
        """Whether it was trained with zero terminal signal-to-noise ratio, which its writer marks with a key."""
        return "ztsnr" in self.shapes

    @property
    def is_edm(self) -> bool:
        """Whether its noise levels are EDM's (Karras et al. 2022), as its writer marks with a key."""
        return any(key.startswith(("edm_mean", "edm_std", "edm_vpred", "edm_eps")) for key in self.shapes)

    def prediction_type(self) -> PredictionType | None:
        """What it predicts, as far as it says so; None for a checkpoint of 2.x that is silent.

        Weights cannot tell. Of 2.x there are models of 512 px that predict the noise and of 768 px that predict the
        velocity; diffusers knows the former by the steps its training took, and so do we.
        """
        stated = self.metadata.get("modelspec.prediction_type", "")
        if stated:
            return "v_prediction" if stated.startswith("v") else "epsilon"
        if "v_pred" in self.shapes:
            return "v_prediction"
        if self.generation != "sd2":
            return "epsilon"
        architecture = self.metadata.get("modelspec.architecture", "")
        if "v2-512" in architecture or self.global_step == _STEPS_OF_SD2_BASE:
            return "epsilon"
        return "v_prediction" if "768-v" in architecture else None


def read_header(path: Path) -> Header:
    """The header of a `.safetensors` file.

    Raises:
        SamecastError: it is none.
    """
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            opened: Any = file
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
            step = int(opened.get_tensor("global_step")) if "global_step" in shapes else None
            return Header(shapes, dict(opened.metadata() or {}), step)
    except Exception as error:  # its own error class is private
        raise SamecastError(f"model {path} is not a sound .safetensors file: {first_line(error)}") from error
