"""FLUX.1 dev and schnell (Black Forest Labs, 2024): 19 double and 38 single blocks on packed latents.

The sequence is [text, image]. The prompt is T5's tokens, padded to their full number and attended to with the padding,
and CLIP's pooled embedding. dev was distilled to take the guidance scale as an input; schnell takes none.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.core.layers import Kind, Stage
from samecast.core.spans import Spans
from samecast.models.backbone import common_timestep
from samecast.models.joint import JointBackbone
from samecast.models.texts import Text, pack, unpack, words_in


def flux_layers(indices: Iterable[int], doubles: int = 19) -> tuple[str, ...]:
    """Names of layers that papers number through double and single blocks."""
    return tuple(f"double.{at}" if at < doubles else f"single.{at - doubles}" for at in indices)


class FluxBackbone(JointBackbone):
    """A `FluxPipeline` behind the `Backbone` protocol."""

    group_order = "two calls"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "transformer": ("FluxTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder_2": ("T5EncoderModel",),
        "tokenizer_2": ("T5Tokenizer", "T5TokenizerFast"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    }
    text_length = 512
    skipped = ("image_encoder", "feature_extractor")
    named_sets: ClassVar[Mapping[str, Sequence[str]]] = {
        # Avrahami et al., CVPR 2025, arXiv 2411.14430 (Stable Flow).
        "vital": flux_layers((0, 1, 17, 18, 25, 28, 53, 54, 56)),
        # Wei et al., ICCV 2025 (FreeFlux): little and much changed by moving the keys' positions.
        "content": flux_layers((0, 7, 8, 9, 10, 18, 25, 28, 37, 42, 45, 50, 56)),
        "position": flux_layers((1, 2, 4, 26, 30, 54, 55)),
    }

    whole = (19, 38, 0)

    @property
    def customary_guidance(self) -> float:  # type: ignore[override]
        """diffusers' for dev; schnell takes none."""
        return 3.5 if self.embeds_guidance else 1.0

    @property
    def embeds_guidance(self) -> bool:
        """Whether it is dev."""
        return bool(self.denoiser.config.guidance_embeds)

    @property
    def takes_guidance(self) -> bool:
        """Whether it is dev."""
        return self.embeds_guidance

    @property
    def latent_channels(self) -> int:
        """Of latents before packing."""
        return int(self.denoiser.config.in_channels) // 4

    def blocks(self) -> Iterable[tuple[Stage, int, Kind, Any]]:
        """Double blocks, then single ones."""
        for number, block in enumerate(self.denoiser.transformer_blocks):
            yield "double", number, "joint", block.attn
        for number, block in enumerate(self.denoiser.single_transformer_blocks):
            yield "single", number, "joint", block.attn

    def embed(self, prompt: str) -> Text:
        """T5's tokens and CLIP's pooled embedding."""
        tokens, pooled, _ = self.pipeline.encode_prompt(
            [prompt], None, device=self.device, max_sequence_length=self.text_length
        )
        return Text(tokens[0], pooled[0])

    def count_tokens(self, prompt: str) -> int:
        """T5's."""
        return len(self.pipeline.tokenizer_2(prompt).input_ids)

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Among T5's tokens."""
        return words_in(self.pipeline.tokenizer_2, prompt, phrase)

    def velocity(
        self,
        latents: Float[Tensor, "row channel height width"],
        times: Float[Tensor, " row"],
        texts: Sequence[Text],
    ) -> Float[Tensor, "row channel height width"]:
        """Of packed latents, which have their places in the picture as positions."""
        height, width = latents.shape[-2:]
        tokens = torch.stack([text.tokens for text in texts])
        guidance = torch.tensor([text.guidance for text in texts], device=latents.device, dtype=torch.float32)
        places = torch.zeros(height // 2, width // 2, 3, device=latents.device, dtype=latents.dtype)
        places[..., 1] += torch.arange(height // 2, device=latents.device)[:, None]
        places[..., 2] += torch.arange(width // 2, device=latents.device)
        found = self.denoiser(
            hidden_states=pack(latents),
            timestep=times.to(latents.dtype) / 1000,
            guidance=guidance if self.embeds_guidance else None,
            pooled_projections=torch.stack([text.pooled for text in texts if text.pooled is not None]),
            encoder_hidden_states=tokens,
            txt_ids=torch.zeros(tokens.shape[1], 3, device=latents.device, dtype=latents.dtype),
            img_ids=places.reshape(-1, 3),
            return_dict=False,
        )[0]
        return unpack(found, height, width)

    def time_and_size(self, named: Mapping[str, Any]) -> tuple[float, tuple[int, int]]:
        """Time is in thousands, and the size of the last token's position."""
        rows, columns = (int(side) + 1 for side in named["img_ids"][-1, 1:].tolist())
        size = rows * self.smallest_multiple, columns * self.smallest_multiple
        return 1000 * common_timestep(named["timestep"]), size

    def spans_of(self, named: Mapping[str, Any]) -> Spans | None:
        """Text, then image."""
        text, image = named["encoder_hidden_states"].shape[1], named["hidden_states"].shape[1]
        return Spans(slice(text, text + image), slice(0, text))
