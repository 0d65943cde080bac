"""The interface of a denoising model, the same for all families.

All code outside this package works on `Backbone`; a new family is a new class with these members.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from samecast.core.ddim import Schedule
from samecast.core.layers import Layer

Processor = Callable[..., Tensor]


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

    def schedule(self, steps: int) -> Schedule:
        """The checkpoint's noise levels for a run of `steps` steps."""
        ...

    def noise_levels(self) -> Float[Tensor, " timestep"]:
        """Cumulative alphas: the share of the image's variance left at each training timestep."""
        ...

    def self_attention(self) -> tuple[BoundLayer, ...]:
        """All self-attention layers, in execution order."""
        ...

    def cross_attention(self) -> tuple[BoundLayer, ...]:
        """All cross-attention layers, in execution order, with the numbers of their blocks' self-attention."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "prompt token channel"]:
        """The embeddings for `predict`, one matrix per text; their layout depends on the family.

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
        embeddings: Float[Tensor, "row token channel_text"],
    ) -> Float[Tensor, "row channel height width"]:
        """One call of the denoiser, with one timestep for all rows or one per row; float32 in, float32 out."""
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
