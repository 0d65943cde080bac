"""Training settings: one frozen object is the schema, the command line's options and the provenance.

Defaults are the papers' (Custom Diffusion, arXiv 2212.04488; Textual Inversion, arXiv 2208.01618; LoRA, arXiv
2106.09685, as diffusers trains it; DreamBooth, arXiv 2208.12242); the embedded model, a hundredth of Stable Diffusion's
size, has its own defaults.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from samecast.checked import Option, Within, check_fields
from samecast.errors import SamecastError

Method = Literal["custom-diffusion", "textual-inversion", "lora", "dreambooth"]
METHODS: tuple[Method, ...] = get_args(Method)
Mode = Literal["kv", "crossattn"]
Precision = Literal["float32", "float16", "bfloat16"]
Optimizer = Literal["adamw", "adamw8bit"]
Augment = Literal["scale", "none"]
_Count = Annotated[int, Within(1, 10_000_000)]
_Rate = Annotated[float, Within(0, 1000), Option(metavar="RATE")]


@dataclass(frozen=True)
class LearnSettings:
    """Settings for training a concept.

    Raises:
        SamecastError: a value has the wrong type or is out of range.
    """

    method: Method = "custom-diffusion"
    """What is trained: keys and values of cross-attention and the token; the token alone; low-rank changes of all
    attention and the token; or the whole denoiser."""

    mode: Mode = "kv"
    """For custom-diffusion: `kv` trains keys and values of cross-attention, `crossattn` also queries and outputs."""

    steps: Annotated[_Count | None, Option(default="as many as show --photos-seen photos")] = None
    """Number of steps."""

    photos_seen: _Count = 1000
    """Number of photos seen per subject over the run, if the number of steps is not given."""

    batch: Annotated[int, Within(1, 10_000)] = 2
    """Photos per denoiser call and device. Prior preservation adds as many class images."""

    accumulate: Annotated[int, Within(1, 10_000)] = 1
    """Denoiser calls per step (gradient accumulation)."""

    learning_rate: _Rate = 1e-5
    """Learning rate of the weights for one photo per step; multiplied by the photos per step."""

    token_rate: _Rate = 1e-5
    """Learning rate of the modifier tokens, scaled likewise; 0 keeps their initial embedding."""

    weight_decay: _Rate = 1e-2
    """Weight decay; not applied to tokens."""

    prior_weight: _Rate = 1.0
    """Weight of the loss on class images, which preserves the class; 0 turns prior preservation off."""

    class_images: Annotated[int, Within(1, 100_000)] = 200
    """Number of class images to generate if none are given."""

    augment: Augment = "scale"
    """`scale` resizes photos by 0.4 to 1.4, names the size in the caption and limits the loss to the photo's pixels;
    `none` keeps their size."""

    flip: bool = True
    """Mirror each photo every second time that it is used; `--no-flip` is for subjects with text on them."""

    varied: bool = False
    """Vary captions that start with "a photo of" over ten templates, so that a token is not tied to one sentence."""

    initializer: Annotated[str, Option(default="a rare word, or the noun")] = ""
    """Words whose mean embedding initialises a modifier token."""

    views: Annotated[int, Within(0, 100_000)] = 0
    """With augment=scale: number of views of each photo, encoded once and cached; 0 draws a new view every time."""

    rank: Annotated[int, Within(1, 4096)] = 4
    """For lora: rank of the changes."""

    optimizer: Annotated[Optimizer, Option("advanced")] = "adamw"
    """AdamW, or AdamW with 8-bit moments (on CUDA, with the extra `8bit`)."""

    precision: Annotated[Precision, Option("advanced")] = "float32"
    """Precision of frozen weights and computation; trained parameters are always float32."""

    checkpointing: Annotated[bool, Option("advanced")] = False
    """Recompute activations instead of storing them (gradient checkpointing): less memory, about a third more time."""

    size: Annotated[Annotated[int, Within(1, 8192)] | None, Option(metavar="PIXELS", default="the model's")] = None
    """Side of the square training images in pixels."""

    fit: Annotated[Literal["crop", "pad"], Option("subject")] = "crop"
    """How a photo becomes square: centre crop, or white padding."""

    seed: Annotated[int, Within(0, 2**32 - 1)] = 0
    """Random seed of the run."""

    def __post_init__(self) -> None:
        check_fields(self)
        tokens_only = self.method == "textual-inversion"
        _require(
            self.token_rate > 0 or not tokens_only, "textual-inversion trains the token: token_rate must be above 0"
        )
        _require(
            self.learning_rate > 0 or tokens_only, f"{self.method} trains weights: learning_rate must be above 0; got 0"
        )

    @property
    def trains_tokens(self) -> bool:
        """Whether modifier tokens are trained."""
        return self.token_rate > 0

    @property
    def preserves(self) -> bool:
        """Whether prior preservation is on."""
        return self.prior_weight > 0

    @property
    def kept_views(self) -> int:
        """Number of different views of a photo; 0 is unlimited."""
        if self.augment == "scale":
            return self.views
        return 2 if self.flip else 1

    def photos_per_step(self, devices: int) -> int:
        """Photos per step over all devices."""
        return self.batch * self.accumulate * devices

    def steps_in_all(self, subjects: int, devices: int) -> int:
        """The number of steps for a number of subjects."""
        return self.steps or -(-self.photos_seen * subjects // self.photos_per_step(devices))


_PLAIN: dict[str, Any] = {"augment": "none", "prior_weight": 0.0}
_PAPERS: dict[Method, dict[str, Any]] = {
    "custom-diffusion": {},
    "textual-inversion": {**_PLAIN, "learning_rate": 0.0, "token_rate": 5e-4, "photos_seen": 12000, "varied": True},
    "lora": {**_PLAIN, "learning_rate": 1e-4},
    "dreambooth": {"learning_rate": 1e-6, "token_rate": 0.0, "augment": "none"},
}
# Found by `python -m benchmarks.settings --subjects 2`, on subjects outside training and benchmark; four photos per
# step instead of two is for speed.
_EMBEDDED: dict[Method, dict[str, Any]] = {
    "custom-diffusion": {
        "mode": "crossattn",
        "learning_rate": 3e-5,
        "token_rate": 1e-3,
        "class_images": 32,
        "photos_seen": 800,
        "batch": 4,
        "augment": "none",
    },
    "textual-inversion": {"token_rate": 5e-3, "photos_seen": 1200, "batch": 4},
    "lora": {"learning_rate": 3e-4, "token_rate": 1e-3, "class_images": 32, "photos_seen": 800, "batch": 4},
    "dreambooth": {"learning_rate": 6e-5, "token_rate": 1e-3, "class_images": 32, "photos_seen": 2000, "batch": 4},
}


def default_settings(method: Method, *, embedded: bool) -> LearnSettings:
    """The default settings of a method: its paper's, or those for the embedded model."""
    return LearnSettings(method=method, **(_PAPERS[method] | (_EMBEDDED[method] if embedded else {})))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SamecastError(otherwise)
