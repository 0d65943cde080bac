"""The header of a single-file checkpoint: tensor shapes and metadata, read without the weights."""

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
    """The header of a checkpoint.

    Args:
        shapes: the shape of each tensor, by key.
        metadata: text by key; `modelspec.*` where the file follows that convention.
        global_step: training steps, where stated.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    global_step: int | None = None

    def count(self, template: str) -> int:
        """The count of consecutive numbers from 0 for which the template, with the number for `{}`, is a key's
        prefix."""
        number = 0
        while any(key.startswith(template.format(number)) for key in self.shapes):
            number += 1
        return number

    def has(self, prefix: str) -> bool:
        """Whether any key starts with the prefix."""
        return any(key.startswith(prefix) for key in self.shapes)

    @property
    def generation(self) -> Generation:
        """The generation (1.x, 2.x or XL), by the text encoders."""
        if self.has("conditioner.embedders."):
            return "xl"
        return "sd2" if self.has(OPEN_CLIP) else "sd1"

    @property
    def ends_on_noise(self) -> bool:
        """Whether it was trained with zero terminal signal-to-noise ratio, which a key marks."""
        return "ztsnr" in self.shapes

    @property
    def is_edm(self) -> bool:
        """Whether it uses EDM's noise levels (Karras et al. 2022), which a key marks."""
        return any(key.startswith(("edm_mean", "edm_std", "edm_vpred", "edm_eps")) for key in self.shapes)

    def prediction_type(self) -> PredictionType | None:
        """The prediction type, where stated or implied; None for a checkpoint of 2.x that does not state it.

        Weights do not show it: 2.x has 512 px models that predict noise and 768 px models that predict velocity. Like
        diffusers, this recognises the former by the number of training steps.
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
        SamecastError: the file is not a valid `.safetensors` file.
    """
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            opened: Any = file
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
            step = int(opened.get_tensor("global_step")) if "global_step" in shapes else None
            return Header(shapes, dict(opened.metadata() or {}), step)
    except Exception as error:  # safetensors' error class is private
        raise SamecastError(f"model {path} is not a valid .safetensors file: {first_line(error)}") from error
