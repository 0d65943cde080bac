"""How to render: one frozen object that is the schema, the command line and the provenance at once."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from samecast.checked import Within, check_fields

Fit = Literal["keep", "crop", "pad"]
Pairing = Literal["matched", "masactrl"]


@dataclass(frozen=True)
class RenderSettings:
    """How to render.

    Raises:
        SamecastError: a value is of another type, or out of its range.
    """

    steps: Annotated[int, Within(1, 10_000)] = 50
    """Denoising steps. More is slower and finer; 50 is what the literature uses."""

    guidance_scale: Annotated[float, Within(0, 1000)] | None = None
    """How strongly the prompt is followed (classifier-free guidance). 1 or less switches it off and halves the work;
    None is what the model is usually sampled with, as `Backbone.default_guidance` tells."""

    guidance_rescale: Annotated[float, Within(0, 1)] = 0.0
    """How far guidance is kept from raising contrast, 0 (not) to 1: the share of each guided prediction that is brought
    back to the deviation of the conditional one (Lin et al. 2024, section 3.4)."""

    seed: Annotated[int, Within(0, 2**63 - 1)] | None = None
    """Seed of the noise, 0 by default. Has no effect with init=inverted on a photo, where nothing is random."""

    init: Literal["inverted", "noise"] | Annotated[float, Within(0, 1)] = "inverted"
    """Where the new pictures start: `inverted` keeps the layout of the reference, `noise` makes a new one for each
    seed, and a number from 0 (inverted) to 1 (noise) blends the two."""

    negative_prompt: str = ""
    """What the pictures should not show."""

    images_per_prompt: Annotated[int, Within(1, 10_000)] = 1
    """Pictures for each prompt; the n-th uses seed + n."""

    height: Annotated[int, Within(1, 8192)] | None = None
    """Height of the pictures in pixels. None follows `fit`; without a photo it is what the model was made for."""

    width: Annotated[int, Within(1, 8192)] | None = None
    """Width of the pictures in pixels; None likewise."""

    fit: Fit = "keep"
    """How the pictures' shape and a photo's are made one. `keep` gives the pictures the shape of the first photo, at
    about the area the model was made for, in multiples that the model takes; what rounding leaves over of the photo is
    cut, and so is what goes beyond a given height and width. `crop` and `pad` make square pictures (or of the given
    height and width), and cut photos to their centre, or fill them up with white."""

    source_prompt: str = ""
    """Caption of the reference. Without a photo, the reference is generated from it."""

    pairing: Pairing = "matched"
    """Which timestep inversion tells the denoiser: `matched` to the latent it is given (least work), or the next one,
    as `masactrl`'s code does (one more evaluation for each controlled step)."""

    replay: bool = True
    """Whether a photo is replayed: at every step its latent is the one that inversion passed through, so that it ends
    as the photo, exactly, and costs nothing more. Without, it is denoised freely from the inverted latent, as
    `masactrl`'s code does, for one more evaluation at each step."""

    fixed_point: Annotated[int, Within(0, 20)] = 0
    """Fixed-point refinements of each inversion step: each costs one more evaluation for each step and photo, and
    brings the inverted latent closer to one that denoises to the photo. 1 to 3 is what pays."""

    check_inversion: bool = False
    """Measure the inversion: denoise the inverted photo freely and compare, for one evaluation more for each step and
    photo. Changes no picture."""

    source_memory: Annotated[float, Within(0, 2**20)] | None = None
    """Most memory, in GiB, for what is kept of the sources for the pictures to read; beyond it the sources are computed
    again beside the pictures, a row for each step and batch. None is half of what is free."""

    batch_rows: Annotated[int, Within(1, 10_000)] | None = None
    """Most rows in one call of the denoiser, to bound memory; a picture takes two under guidance. None chooses by size,
    and a source that has to be computed beside the pictures comes on top."""

    def __post_init__(self) -> None:
        check_fields(self)

    def settled(self, guidance_scale: float) -> "RenderSettings":
        """These settings with the model's scale of guidance where they leave it to the model."""
        return self if self.guidance_scale is not None else replace(self, guidance_scale=guidance_scale)

    @property
    def first_seed(self) -> int:
        """The seed of each prompt's first picture."""
        return self.seed or 0

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
