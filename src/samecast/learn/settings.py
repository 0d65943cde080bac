"""How to learn: one frozen object that is the schema, the command line's meaning and the provenance at once.

Defaults are the papers' (Custom Diffusion, arXiv 2212.04488; Textual Inversion, arXiv 2208.01618; LoRA, arXiv
2106.09685, as diffusers trains it; DreamBooth, arXiv 2208.12242); the embedded model, a hundredth of Stable Diffusion's
size, has its own.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from samecast.checked import Within, check_fields
from samecast.errors import SamecastError

Method = Literal["custom-diffusion", "textual-inversion", "lora", "dreambooth"]
Mode = Literal["kv", "crossattn"]
Precision = Literal["float32", "float16", "bfloat16"]
Optimizer = Literal["adamw", "adamw8bit"]
Augment = Literal["scale", "none"]
_Count = Annotated[int, Within(1, 10_000_000)]
_Rate = Annotated[float, Within(0, 1000)]


@dataclass(frozen=True)
class LearnSettings:
    """How to learn a subject.

    Raises:
        SamecastError: a value is of another type, or out of its range.
    """

    method: Method = "custom-diffusion"
    """What is trained: keys and values of cross-attention and the token; the token alone; low-rank additions to all
    attention and the token; or the whole denoiser."""

    mode: Mode = "kv"
    """For custom-diffusion: `kv` trains keys and values of cross-attention, `crossattn` queries and outputs too."""

    steps: _Count | None = None
    """How many steps to take; None is as many as show each subject `photos_seen` photos."""

    photos_seen: _Count = 1000
    """How many photos are shown of each subject in all, where `steps` does not say otherwise."""

    batch: Annotated[int, Within(1, 10_000)] = 2
    """Photos in one call of the denoiser, on each device. With prior preservation as many class pictures go with
    them."""

    accumulate: Annotated[int, Within(1, 10_000)] = 1
    """Calls whose gradients make up one step."""

    learning_rate: _Rate = 1e-5
    """Rate of the weights, for a step that sees one photo; it grows with the photos of a step."""

    token_rate: _Rate = 1e-5
    """Rate of the modifier tokens, likewise; 0 leaves them as they are initialised."""

    weight_decay: _Rate = 1e-2
    """Decay of the weights; tokens have none."""

    prior_weight: _Rate = 1.0
    """Weight of the loss on class pictures, which keeps the class what it was; 0 does without them."""

    class_images: Annotated[int, Within(1, 100_000)] = 200
    """How many class pictures are generated where none are given."""

    augment: Augment = "scale"
    """`scale` shows photos at 0.4 to 1.4 of their size and says so in the caption, and only pixels of the photo count;
    `none` shows them as they are."""

    flip: bool = True
    """Show every other photo mirrored."""

    varied: bool = False
    """Say captions that begin with "a photo of" in ten ways, so that a token is not tied to one sentence."""

    initializer: str = ""
    """Words at whose mean embedding a modifier token begins; empty takes a rare word, or the noun."""

    views: Annotated[int, Within(0, 100_000)] = 0
    """Different augmented views of each photo, encoded once and kept; 0 makes a new one each time."""

    rank: Annotated[int, Within(1, 4096)] = 4
    """For lora: rank of the additions."""

    optimizer: Optimizer = "adamw"
    """AdamW, or with 8-bit moments (on CUDA, with the extra `8bit`)."""

    precision: Precision = "float32"
    """Of frozen weights and of computing; what is trained is always held in float32."""

    checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, about a third more time."""

    size: Annotated[int, Within(1, 8192)] | None = None
    """Side of the square pictures in pixels; None is the size the model was made for."""

    fit: Literal["crop", "pad"] = "crop"
    """How a photo becomes square: cut to its centre, or padded with white."""

    seed: Annotated[int, Within(0, 2**32 - 1)] = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        check_fields(self)
        tokens_only = self.method == "textual-inversion"
        _require(
            self.token_rate > 0 or not tokens_only, "textual-inversion trains the token alone: token_rate must not be 0"
        )
        _require(
            self.learning_rate > 0 or tokens_only, f"{self.method} trains weights: learning_rate must be above 0; got 0"
        )

    @property
    def trains_tokens(self) -> bool:
        """Whether modifier tokens move."""
        return self.token_rate > 0

    @property
    def preserves(self) -> bool:
        """Whether class pictures are learnt beside the photos."""
        return self.prior_weight > 0

    @property
    def kept_views(self) -> int:
        """How many different views a photo has; 0 is without end."""
        if self.augment == "scale":
            return self.views
        return 2 if self.flip else 1

    def photos_per_step(self, devices: int) -> int:
        """How many photos one step sees."""
        return self.batch * self.accumulate * devices

    def steps_in_all(self, subjects: int, devices: int) -> int:
        """How many steps there are to take for so many subjects."""
        return self.steps or -(-self.photos_seen * subjects // self.photos_per_step(devices))


_PLAIN: dict[str, Any] = {"augment": "none", "prior_weight": 0.0}
_PAPERS: dict[Method, dict[str, Any]] = {
    "custom-diffusion": {},
    "textual-inversion": {**_PLAIN, "learning_rate": 0.0, "token_rate": 5e-4, "photos_seen": 12000, "varied": True},
    "lora": {**_PLAIN, "learning_rate": 1e-4},
    "dreambooth": {"learning_rate": 1e-6, "token_rate": 0.0, "augment": "none"},
}
# Found by `python -m benchmarks.settings --subjects 2`, on subjects that are in neither the training nor the benchmark;
# four photos a step rather than two is for speed.
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
    """What a method does unless told otherwise: as its paper, or as suits the embedded model."""
    return LearnSettings(method=method, **(_PAPERS[method] | (_EMBEDDED[method] if embedded else {})))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SamecastError(otherwise)
