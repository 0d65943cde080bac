"""The interface of a denoising model, the same for all families.

All code outside this package works on `Backbone`; a new family is a new class with these members.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from samecast.core.ddim import Schedule
from samecast.core.layers import Layer
from samecast.core.settings import Pairing, RenderSettings
from samecast.core.spans import Spans

Processor = Callable[..., Tensor]
GUIDANCE = "_guidance_scale"
"""Key of a pipeline's index for the model's guidance scale: diffusers ignores keys with a leading underscore."""


@runtime_checkable
class AttentionLayer(Protocol):
    """The part of diffusers' `Attention` module that attention routing uses.

    `query_dim` is the number of input channels, `inner_dim` that of queries, keys and values.
    """

    heads: int
    query_dim: int
    inner_dim: int
    processor: Processor

    def set_processor(self, processor: Processor) -> None:
        """Replaces the processor, which computes the layer's output."""
        ...


@dataclass(frozen=True)
class BoundLayer:
    """A layer address and the module that it names in one model."""

    layer: Layer
    module: AttentionLayer


@dataclass(frozen=True)
class ConceptUse:
    """A concept applied to a model.

    Args:
        path: the file that it was read from; empty for a concept from memory.
        strength: factor of its changes.
        revision: `sha256:` and a hash of its tensors.
        words: its modifier tokens.
    """

    path: str
    strength: float
    revision: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class ModelIdentity:
    """The identity of a model's weights.

    Args:
        id: the model as the user named it: a path, a hub id, or `diorama` for the embedded model.
        revision: hub commit, or `sha256:` and a hash of the contents of its files.
        lora: (path, revision) of each LoRA that the model was loaded with; a strength other than 1 follows both after a
            colon, and the revision is as in `ConceptUse`.
        concepts: concepts currently applied.
    """

    id: str
    revision: str
    lora: tuple[tuple[str, str], ...] = ()
    concepts: tuple[ConceptUse, ...] = ()


GroupOrder = Literal["unconditional first", "conditional first", "two calls"]
"""How a pipeline evaluates both guidance groups: as halves of one call of its denoiser, or one after the other,
the conditional one first."""


@dataclass(frozen=True)
class StockArguments:
    """What the arguments of a pipeline's call of its denoiser say.

    Args:
        rows: of the call.
        timestep: of all rows, one of the scheduler's.
        size: height and width of the pictures in pixels.
    """

    rows: int
    timestep: float
    size: tuple[int, int]


@runtime_checkable
class Backbone(Protocol):
    """A latent diffusion model, ready to run."""

    identity: ModelIdentity

    @property
    def pipeline(self) -> Any:
        """The stock diffusers pipeline behind the adapter."""
        ...

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the denoiser; latents are kept in float32 between steps."""
        ...

    @property
    def denoiser(self) -> torch.nn.Module:
        """The denoiser module; each row of its first argument counts as one evaluation."""
        ...

    @property
    def default_size(self) -> int:
        """The model's native image side in pixels."""
        ...

    @property
    def size_multiple(self) -> int:
        """In pixels: sides that follow a photo's shape are multiples of this."""
        ...

    @property
    def default_guidance(self) -> float:
        """The usual scale of classifier-free guidance for the model."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channel, height, width) of the latent of an image, whose sides are given in pixels.

        Raises:
            SamecastError: the model does not support this size.
        """
        ...

    def schedule(self, steps: int, size: tuple[int, int] | None = None) -> Schedule:
        """The checkpoint's noise levels for a run of `steps` steps.

        Args:
            steps: of the run.
            size: height and width of the pictures in pixels, on which a flow schedule's shift depends; None is the
                model's default.
        """
        ...

    @property
    def default_pairing(self) -> Pairing:
        """How photos become sources, where nothing else is asked for."""
        ...

    def settle(self, settings: RenderSettings) -> RenderSettings:
        """Settings with the model's guidance where they leave it to the model.

        Raises:
            SamecastError: they set guidance that the model has not.
        """
        ...

    def rescale_guided(
        self, guided: Float[Tensor, "row channel height width"], conditional: Float[Tensor, "row channel height width"]
    ) -> Float[Tensor, "row channel height width"]:
        """What the family's pipeline does to a guided prediction, given the conditional one."""
        ...

    def spans(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Spans | None:
        """Where picture and prompt lie among the tokens of a call of the denoiser with these arguments; None where its
        layers of self-attention see the picture alone."""
        ...

    def noise_levels(self) -> Float[Tensor, " timestep"]:
        """Cumulative alphas: the share of the image's variance left at each training timestep."""
        ...

    def self_attention(self) -> tuple[BoundLayer, ...]:
        """All self-attention layers, in execution order."""
        ...

    def cross_attention(self) -> tuple[BoundLayer, ...]:
        """All cross-attention layers, in execution order, with the numbers of their blocks' self-attention; of joint
        attention those layers themselves."""
        ...

    def join_texts(self, texts: Sequence[Any], guidance: Sequence[float]) -> Any:
        """What `predict` takes for rows with these embedded texts.

        Args:
            texts: of each row.
            guidance: of each row, for models whose denoiser takes the guidance scale as an input.
        """
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """The embedded texts, one per prompt; what they are is the family's business.

        Raises:
            SamecastError: a prompt has more tokens than the model supports.
        """
        ...

    def find_words(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Positions, among the prompt's tokens, of all sub-tokens of all occurrences of a phrase.

        Raises:
            SamecastError: the phrase is not in the prompt.
        """
        ...

    def predict(
        self,
        latents: Float[Tensor, "row channel height width"],
        timestep: int | float | Int[Tensor, " row"],
        embeddings: Any,
    ) -> Float[Tensor, "row channel height width"]:
        """One call of the denoiser, with one timestep for all rows or one per row; float32 in, float32 out.

        Args:
            latents: of each row.
            timestep: in the units of the schedule.
            embeddings: as `join_texts` gives them.
        """
        ...

    def encode_image(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        """The latent of a square RGB image: the mean of the VAE's posterior, scaled."""
        ...

    def decode_pixels(
        self, latents: Float[Tensor, "branch channel height width"]
    ) -> Float[Tensor, "branch 3 height_pixel width_pixel"]:
        """Pictures of latents before rounding, from 0 to 1, float32 on the CPU; one at a time, as `decode`."""
        ...

    def decode(self, latents: Float[Tensor, "branch channel height width"]) -> list[Image.Image]:
        """RGB images of latents, decoded one at a time so that no image depends on the rest of the batch."""
        ...

    def describe(self) -> dict[str, Any]:
        """Device, precision and library versions, for provenance; JSON-serialisable."""
        ...
