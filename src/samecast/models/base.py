"""What the rest of the code may ask of a denoising model, whatever its family.

Everything outside this package works on `Backbone`; a new family is one more class with these members.
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
    """The part of diffusers' `Attention` module that control uses.

    `query_dim` counts the channels that enter it, `inner_dim` those of its queries, keys and values.
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
    """A layer together with the layer that it names in one model."""

    layer: Layer
    module: AttentionLayer


@dataclass(frozen=True)
class ConceptUse:
    """A concept that is applied to a model.

    Args:
        path: the file that it was read from; empty where it came from memory.
        strength: of its changes.
        revision: `sha256:` and a hash of its numbers.
        words: its modifier tokens.
    """

    path: str
    strength: float
    revision: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class ModelIdentity:
    """Which weights these are.

    Args:
        id: what the user asked for: a path, a hub id, or `diorama` for the embedded model.
        revision: hub commit, or `sha256:` and a hash of the contents of its files.
        lora: (path, revision) of each LoRA that the model was loaded with; both with its strength behind a colon where
            that is not 1, and the revision as in `ConceptUse`.
        concepts: others that are applied now.
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
    def device(self) -> torch.device:
        """Where the model lives."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the denoiser; latents are kept in float32 between steps."""
        ...

    @property
    def denoiser(self) -> torch.nn.Module:
        """The module whose first argument's rows are the evaluations to count."""
        ...

    @property
    def default_size(self) -> int:
        """Side in pixels of the pictures the model was made for."""
        ...

    @property
    def size_multiple(self) -> int:
        """In pixels: sides that follow a photo's shape are multiples of this."""
        ...

    @property
    def default_guidance(self) -> float:
        """Scale of classifier-free guidance that the model is usually sampled with."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channel, height, width) of the latent of a picture, whose sides are given in pixels.

        Raises:
            SamecastError: the model cannot make pictures of this size.
        """
        ...

    def schedule(self, steps: int) -> Schedule:
        """The checkpoint's own noise levels, for a run of so many steps."""
        ...

    def noise_levels(self) -> Float[Tensor, " timestep"]:
        """The share of the picture, as a variance, that is left at each timestep the checkpoint was trained at."""
        ...

    def self_attention(self) -> tuple[BoundLayer, ...]:
        """All self-attention layers, in execution order."""
        ...

    def cross_attention(self) -> tuple[BoundLayer, ...]:
        """All cross-attention layers, in execution order; numbered as the self-attention of their blocks."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "prompt token channel"]:
        """What `predict` takes of each text, one matrix each; its form is the family's own.

        Raises:
            SamecastError: a prompt has more tokens than the model reads.
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
        """One call of the denoiser, at one timestep or at one for each row; float32 in, float32 out."""
        ...

    def encode_image(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        """The latent of a square RGB picture: the mean of the VAE's posterior, scaled."""
        ...

    def decode(self, latents: Float[Tensor, "branch channel height width"]) -> list[Image.Image]:
        """RGB pictures of latents, one at a time so that a picture does not depend on its company."""
        ...

    def describe(self) -> dict[str, Any]:
        """Device, precision and library versions, for provenance; JSON-able."""
        ...
