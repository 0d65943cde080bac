"""What all families share: a stock diffusers pipeline, which is never changed, behind the `Backbone` protocol."""

import importlib.metadata
import platform
from abc import ABC, abstractmethod
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.core.ddim import PredictionType
from samecast.core.settings import Pairing, RenderSettings
from samecast.errors import SamecastError
from samecast.models.base import GUIDANCE, GroupOrder, ModelIdentity
from samecast.models.finite import check_finite

LIBRARIES = ("samecast", "torch", "diffusers", "transformers")


class PipelineBackbone(ABC):
    """A pipeline of any family.

    Args:
        pipeline: the loaded pipeline, on its device; never modified.
        identity: the identity of its weights.
    """

    customary_guidance: float
    """Guidance scale of papers and diffusers for the family."""

    group_order: GroupOrder = "unconditional first"
    """How the family's pipeline evaluates both guidance groups."""

    prediction_type: PredictionType
    """What the denoiser predicts."""

    def __init__(self, pipeline: Any, identity: ModelIdentity) -> None:
        self.pipeline = pipeline
        self.identity = identity

    @property
    def device(self) -> torch.device:
        """The device that the parts compute on, also for offloaded parts."""
        return self.pipeline._execution_device

    @property
    @abstractmethod
    def denoiser(self) -> Any:
        """The denoiser module."""

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the denoiser."""
        return self.denoiser.dtype

    @property
    def latent_dtype(self) -> torch.dtype:
        """The precision of latents between steps: float32, or the denoiser's if higher."""
        return torch.promote_types(torch.float32, self.dtype)

    @property
    def default_guidance(self) -> float:
        """The guidance scale in the pipeline's index, else the family's default."""
        return float(self.pipeline.config.get(GUIDANCE, self.customary_guidance))

    @property
    def default_pairing(self) -> Pairing:
        """An inversion, replayed."""
        return "matched"

    def settle(self, settings: RenderSettings) -> RenderSettings:
        """Settings with the model's guidance scale, which is that of classifier-free guidance."""
        settled = settings.settled(self.default_guidance, self.default_pairing)
        if settings.true_cfg_scale not in (None, settled.guidance_scale):
            raise SamecastError(
                f"true_cfg_scale {settings.true_cfg_scale:g} would have no effect: guidance_scale is that of"
                " classifier-free guidance in this model, so set that alone"
            )
        return settled

    def rescale_guided(
        self, guided: Float[Tensor, "row channel height width"], conditional: Float[Tensor, "row channel height width"]
    ) -> Float[Tensor, "row channel height width"]:
        """Nothing."""
        return guided

    @property
    def smallest_multiple(self) -> int:
        """In pixels: what sides have to be multiples of."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def latent_channels(self) -> int:
        """Of the denoiser's latents."""
        return int(self.denoiser.config.in_channels)

    @property
    def pixels_per_latent(self) -> int:
        """Along each side, per entry of the denoiser's latents."""
        return int(self.pipeline.vae_scale_factor)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channel, height, width); refuses sides in pixels that are no whole number of latent pixels or patches."""
        multiple = self.smallest_multiple
        for name, side in (("height", height), ("width", width)):
            if side % multiple:
                nearest = max(multiple, round(side / multiple) * multiple)
                raise SamecastError(
                    f"{name} must be a multiple of {multiple} for this model; got {side}, try {nearest}"
                )
        return self.latent_channels, height // self.pixels_per_latent, width // self.pixels_per_latent

    def encode_image(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        """Latent of a picture: the mean of the autoencoder's posterior, scaled."""
        vae = self.pipeline.vae
        pixels = self.pipeline.image_processor.preprocess(image).to(self.device, vae.dtype)
        latent = self.to_latent(vae, pixels)[0].to(self.latent_dtype)
        check_finite(latent, "autoencoder", vae.dtype, self.identity)
        return latent

    def to_latent(self, vae: Any, pixels: Tensor) -> Tensor:
        """Latents of pixels from -1 to 1, (row, channel, height, width)."""
        return (vae.encode(pixels).latent_dist.mean - _shift(vae)) * vae.config.scaling_factor

    def to_pixels(self, vae: Any, latents: Tensor) -> Tensor:
        """Pixels from -1 to 1 of latents; the inverse of `to_latent`."""
        return vae.decode((latents / vae.config.scaling_factor + _shift(vae)).to(vae.dtype), return_dict=False)[0]

    def decode_pixels(
        self, latents: Float[Tensor, "branch channel height width"]
    ) -> Float[Tensor, "branch 3 height_pixel width_pixel"]:
        """Pictures of latents before rounding."""
        vae = self.pipeline.vae
        found: list[Tensor] = []
        for latent in latents:
            # In the autoencoder's own precision, even if training uses another for the rest.
            with torch.autocast(self.device.type, enabled=False):
                pixels = self.to_pixels(vae, latent[None])
            check_finite(pixels, "autoencoder", vae.dtype, self.identity)
            found.append(self.pipeline.image_processor.postprocess(pixels.float(), output_type="pt").cpu())
        return torch.cat(found)

    def decode(self, latents: Float[Tensor, "branch channel height width"]) -> list[Image.Image]:
        """Pictures of latents."""
        return to_pictures(self.decode_pixels(latents)) if len(latents) else []

    def describe(self) -> dict[str, Any]:
        """Device, precision, threads and versions."""
        return {
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "prediction_type": self.prediction_type,
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES},
        }


def common_timestep(timestep: Any) -> float:
    """The one timestep of a call's rows.

    Raises:
        SamecastError: they have several.
    """
    if not isinstance(timestep, Tensor):
        return float(timestep)
    values = timestep.detach().flatten()
    if not bool((values == values[0]).all()):
        raise SamecastError("the pipeline's rows have different timesteps; attach needs one timestep for all rows")
    return float(values[0])


def to_pictures(pixels: Float[Tensor, "branch 3 height width"]) -> list[Image.Image]:
    """Pictures of pixels from 0 to 1, rounded to 8 bits as diffusers does."""
    return VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy(pixels))


def _shift(vae: Any) -> float:
    return vae.config.get("shift_factor") or 0.0


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
