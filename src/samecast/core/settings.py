"""How to render: one frozen object that is the schema, the command line and the provenance at once."""

from dataclasses import dataclass, replace
from typing import Literal

from samecast.errors import SamecastError

Fit = Literal["crop", "pad"]
Pairing = Literal["matched", "masactrl"]


@dataclass(frozen=True)
class RenderSettings:
    """How to render.

    Raises:
        SamecastError: a value is out of its range.
    """

    steps: int = 50
    """Denoising steps. More is slower and finer; 50 is what the literature uses."""

    guidance_scale: float | None = None
    """How strongly the prompt is followed (classifier-free guidance). 1 or less switches it off and halves the work;
    None is what the model is usually sampled with, as `Backbone.default_guidance` tells."""

    guidance_rescale: float = 0.0
    """How far guidance is kept from raising contrast, 0 (not) to 1: the share of each guided prediction that is brought
    back to the deviation of the conditional one (Lin et al. 2024, section 3.4)."""

    seed: int = 0
    """Seed of the noise. Has no effect with init=inverted on a photo, where nothing is random."""

    init: Literal["inverted", "noise"] | float = "inverted"
    """Where the new pictures start: `inverted` keeps the layout of the reference, `noise` makes a new one for each
    seed, and a number from 0 (inverted) to 1 (noise) blends the two."""

    negative_prompt: str = ""
    """What the pictures should not show."""

    images_per_prompt: int = 1
    """Pictures for each prompt; the n-th uses seed + n."""

    size: int | None = None
    """Side of the square pictures in pixels; None is the size the model was made for."""

    fit: Fit = "crop"
    """How a photo that is not square is made square: `crop` its centre, or `pad` its short sides."""

    source_prompt: str = ""
    """Caption of the reference. Without a photo, the reference is generated from it."""

    pairing: Pairing = "matched"
    """Which timestep inversion tells the denoiser: `matched` to the latent it is given (least work), or the next one,
    as `masactrl`'s code does (one more evaluation for each controlled step)."""

    fixed_point: int = 0
    """Fixed-point refinements of each inversion step: each costs one more evaluation for each step and photo, and
    brings the inverted latent closer to one that denoises to the photo. 1 to 3 is what pays."""

    check_inversion: bool = False
    """Measure the inversion: denoise the inverted photo freely and compare, for one evaluation more for each step and
    photo. Changes no picture."""

    source_memory: float | None = None
    """Most memory, in GiB, for what is kept of the sources for the pictures to read; beyond it the sources are computed
    again beside the pictures, a row for each step and batch. None is half of what is free."""

    batch_rows: int | None = None
    """Most rows in one call of the denoiser, to bound memory; a picture takes two under guidance. None chooses by size,
    and a source that has to be computed beside the pictures comes on top."""

    def __post_init__(self) -> None:
        for name in ("steps", "images_per_prompt", "size", "batch_rows"):
            value: int | None = getattr(self, name)
            _require(value is None or value >= 1, f"{name} must be 1 or more; got {value}")
        _require(self.fixed_point >= 0, f"fixed_point must be 0 or more; got {self.fixed_point}")
        _require(0 <= self.seed < 2**63, f"seed must be 0..2^63-1; got {self.seed}")
        memory = self.source_memory
        _require(memory is None or memory >= 0, f"source_memory must be 0 GiB or more; got {memory}")
        scale = self.guidance_scale
        sound = scale is None or 0 <= scale < float("inf")
        _require(sound, f"guidance_scale must be a number of 0 or more; got {scale}")
        rescale = self.guidance_rescale
        _require(0 <= rescale <= 1, f"guidance_rescale must be 0 to 1; got {rescale}")
        named = self.init in ("inverted", "noise")
        blended = not isinstance(self.init, str) and 0 <= self.init <= 1
        _require(
            named or blended,
            f"init must be 'inverted', 'noise' or a number from 0 (inverted) to 1 (noise); got {self.init!r}",
        )
        _require(self.fit in ("crop", "pad"), f"fit must be 'crop' or 'pad'; got {self.fit!r}")
        _require(
            self.pairing in ("matched", "masactrl"), f"pairing must be 'matched' or 'masactrl'; got {self.pairing!r}"
        )

    def settled(self, guidance_scale: float) -> "RenderSettings":
        """These settings with the model's scale of guidance where they leave it to the model."""
        return self if self.guidance_scale is not None else replace(self, guidance_scale=guidance_scale)

    @property
    def guidance(self) -> float:
        """`guidance_scale` of settled settings.

        Raises:
            ValueError: nothing settled it.
        """
        if self.guidance_scale is None:
            raise ValueError("the scale of guidance is the model's: settle these settings first")
        return self.guidance_scale

    @property
    def noise_share(self) -> float:
        """`init` as a number: 0 is the inverted latent, 1 is noise."""
        if isinstance(self.init, str):
            return 0.0 if self.init == "inverted" else 1.0
        return float(self.init)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SamecastError(otherwise)
