"""How to render: one frozen object that is the schema, the command line and the provenance at once.

Names are those of diffusers' pipelines where these have the same thing.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from samecast.checked import Option, Within, check_fields
from samecast.errors import SamecastError

Fit = Literal["keep", "crop", "pad"]
Pairing = Literal["matched", "masactrl", "straight"]
Seed = Annotated[int, Within(0, 2**63 - 1)]

RENAMED: dict[str, str | tuple[str, ...]] = {
    "steps": "num_inference_steps",
    "images_per_prompt": "num_images_per_prompt",
    "size": ("height", "width"),
}
"""Former names of settings, for messages."""


@dataclass(frozen=True)
class RenderSettings:
    """How to render.

    Raises:
        SamecastError: a value is of another type, or out of its range.
    """

    num_inference_steps: Annotated[int, Within(1, 10_000), Option("sampling", aliases=("--steps",))] = 50
    """Denoising steps. More is slower and finer; 50 is what the literature uses."""

    guidance_scale: Annotated[
        Annotated[float, Within(0, 1000)] | None,
        Option(
            "sampling",
            aliases=("--guidance",),
            metavar="SCALE",
            default="the model's, such as 5 for the embedded model and XL, 7.5 for Stable Diffusion 1.x and 2.x",
        ),
    ] = None
    """How closely the prompt is followed (classifier-free guidance). 1 or less switches it off and halves the work."""

    true_cfg_scale: Annotated[
        Annotated[float, Within(0, 1000)] | None, Option("advanced", metavar="SCALE", default="none")
    ] = None
    """Classifier-free guidance of models that take guidance_scale as an input (FLUX.1 dev) or take none: above 1 the
    negative prompt is evaluated too, which doubles the work."""

    guidance_rescale: Annotated[float, Within(0, 1), Option("advanced")] = 0.0
    """How far guidance is kept from raising contrast, 0 (not) to 1: the share of each guided prediction that is brought
    back to the deviation of the conditional one (Lin et al. 2024, section 3.4)."""

    seed: Annotated[
        Seed | tuple[Seed, ...] | None, Option("sampling", metavar="INT", default="0", given_as=Seed | None)
    ] = None
    """Seed of the noise: picture n of each prompt uses seed + n. Has no effect with init=inverted on a photo, where
    nothing is random."""

    init: Annotated[
        Literal["inverted", "noise"] | Annotated[float, Within(0, 1)],
        Option("sampling", metavar="inverted|noise|0-1"),
    ] = "inverted"
    """Where the new pictures start: `inverted` keeps the layout of the reference, `noise` makes a new one for each
    seed, and a number from 0 (inverted) to 1 (noise) blends the two."""

    negative_prompt: Annotated[str, Option("sampling")] = ""
    """What the pictures should not show."""

    num_images_per_prompt: Annotated[int, Within(1, 10_000), Option("sampling", aliases=("--images-per-prompt",))] = 1
    """Pictures for each prompt; more than one needs init=noise or a blend."""

    height: Annotated[
        Annotated[int, Within(1, 8192)] | None, Option("sampling", metavar="PIXELS", default="by --fit")
    ] = None
    """Height of the pictures in pixels. By default it follows `fit`; without a photo it is the model's own."""

    width: Annotated[
        Annotated[int, Within(1, 8192)] | None, Option("sampling", metavar="PIXELS", default="by --fit")
    ] = None
    """Width of the pictures in pixels, likewise."""

    fit: Annotated[Fit, Option("subject")] = "keep"
    """How photos and pictures get one shape. `keep` gives the pictures the shape of the first photo, at about the area
    the model was made for, in multiples that the model takes; what rounding leaves over of the photo is cut, and so is
    what goes beyond a given height and width. `crop` and `pad` make square pictures (or of the given height and width)
    and cut photos to their centre, or pad them with white."""

    source_prompt: Annotated[str, Option("subject")] = ""
    """Caption of the reference. Without a photo, the reference is generated from it."""

    pairing: Annotated[
        Pairing | None,
        Option("advanced", default="the model's: straight for models distilled to a few steps, matched for all others"),
    ] = None
    """Which timestep inversion gives the denoiser: `matched` to the latent it is given (least work), or `masactrl`, the
    next one, as the code of MasaCtrl and of the AIKU study does (one more evaluation for each controlled step).
    `straight` does not invert: a photo's latent at each step is the photo's and one fixed noise, mixed, which takes an
    evaluation for each controlled step; the noise is the seed's."""

    replay: Annotated[bool, Option("advanced")] = True
    """Replay photos: at every step a photo's latent is the one that inversion passed through, so that it ends as the
    photo, exactly, and costs nothing more. `--no-replay` denoises it freely from the inverted latent, as MasaCtrl's
    code does, for one more evaluation at each step."""

    fixed_point: Annotated[int, Within(0, 20), Option("advanced")] = 0
    """Fixed-point refinements of each inversion step: each costs one more evaluation for each step and photo, and
    brings the inverted latent closer to one that denoises to the photo. 1 to 3 is what pays."""

    check_inversion: Annotated[bool, Option("advanced")] = False
    """Measure the inversion: denoise the inverted photo freely and compare, for one evaluation more for each step and
    photo. Changes no picture."""

    source_memory: Annotated[
        Annotated[float, Within(0, 2**20)] | None,
        Option("advanced", metavar="GIB", default="half of what is free"),
    ] = None
    """Most memory, in GiB, for what is kept of the sources for the pictures to read; beyond it the sources are computed
    again beside the pictures, a row for each step and batch."""

    batch_rows: Annotated[Annotated[int, Within(1, 10_000)] | None, Option("advanced", default="by size")] = None
    """Most rows in one call of the denoiser, to bound memory; a picture takes two under guidance. A source that has to
    be computed beside the pictures comes on top."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.seed == ():
            raise SamecastError("seed must be one number, or at least one; got none")
        if self.pairing == "straight":
            idle = {"replay=False": not self.replay, "fixed_point": self.fixed_point}
            idle |= {"check_inversion": self.check_inversion}
            for name, on in idle.items():
                if on:
                    raise SamecastError(f"{name} would have no effect with pairing='straight', which inverts nothing")

    def settled(self, guidance_scale: float, pairing: Pairing = "matched") -> "RenderSettings":
        """These settings with the model's scale of guidance and pairing where they leave them to the model."""
        scale = guidance_scale if self.guidance_scale is None else self.guidance_scale
        inverts = not self.replay or self.fixed_point or self.check_inversion
        return replace(self, guidance_scale=scale, pairing=self.pairing or ("matched" if inverts else pairing))

    @property
    def first_seed(self) -> int:
        """The seed of each prompt's first picture; of several seeds the first."""
        return self.seed[0] if isinstance(self.seed, tuple) else self.seed or 0

    def seeds(self, prompts: int) -> tuple[int, ...]:
        """The seed of each picture of so many prompts, prompt by prompt.

        Raises:
            SamecastError: several seeds are given, and they are not one for each picture.
        """
        count = self.num_images_per_prompt
        if not isinstance(self.seed, tuple):
            return tuple(self.first_seed + number for _ in range(prompts) for number in range(count))
        if len(self.seed) not in (count, count * prompts):
            each = f"{count} pictures of each prompt" if count > 1 else "one picture of each prompt"
            raise SamecastError(
                f"{len(self.seed)} seeds for {prompts} prompts with {each}: give one seed, {count} (for each picture of"
                f" a prompt) or {count * prompts} (for each picture)"
            )
        return self.seed if len(self.seed) == count * prompts else self.seed * prompts

    @property
    def guidance(self) -> float:
        """The scale of classifier-free guidance of settled settings; at most 1 is none.

        Raises:
            ValueError: nothing settled it.
        """
        return self.embedded_guidance if self.true_cfg_scale is None else self.true_cfg_scale

    @property
    def embedded_guidance(self) -> float:
        """`guidance_scale` of settled settings, as denoisers take it that have it as an input.

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
