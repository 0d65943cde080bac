"""Qwen-Image (Alibaba, arXiv 2508.02324): 60 double blocks on packed latents and a prompt of any length.

The sequence is [text, image]; texts are padded to the longest of the batch under a mask. What guidance gives is brought
back to the norm of the conditional prediction, token by token.
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
from samecast.models.texts import Text, pack, stack_tokens, unpack, words_in


class QwenImageBackbone(JointBackbone):
    """A `QwenImagePipeline` behind the `Backbone` protocol."""

    group_order = "two calls"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "transformer": ("QwenImageTransformer2DModel",),
        "vae": ("AutoencoderKLQwenImage",),
        "text_encoder": ("Qwen2_5_VLForConditionalGeneration",),
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    }
    customary_guidance = 4.0
    text_length = 512

    @property
    def latent_channels(self) -> int:
        """Of latents before packing."""
        return int(self.denoiser.config.in_channels) // 4

    @property
    def vae_channels(self) -> int:
        """Of the autoencoder's latents."""
        return int(self.pipeline.vae.config.z_dim)

    def blocks(self) -> Iterable[tuple[Stage, int, Kind, Any]]:
        """All are double."""
        for number, block in enumerate(self.denoiser.transformer_blocks):
            yield "double", number, "joint", block.attn

    def rescale_guided(
        self, guided: Float[Tensor, "row channel height width"], conditional: Float[Tensor, "row channel height width"]
    ) -> Float[Tensor, "row channel height width"]:
        """Each token at the norm that it has in the conditional prediction."""
        tokens, norm = pack(guided), pack(conditional).norm(dim=-1, keepdim=True)
        height, width = guided.shape[-2:]
        return unpack(tokens * (norm / tokens.norm(dim=-1, keepdim=True)), height, width)

    def embed(self, prompt: str) -> Text:
        """Tokens of the prompt within its template, whose beginning is dropped."""
        tokens, _ = self.pipeline.encode_prompt([prompt], self.device, max_sequence_length=self.text_length)
        return Text(tokens[0])

    @property
    def _dropped(self) -> int:
        return int(self.pipeline.prompt_template_encode_start_idx)

    def count_tokens(self, prompt: str) -> int:
        """With the template's end."""
        return len(self.pipeline.tokenizer(self._templated(prompt)).input_ids) - self._dropped

    def _templated(self, prompt: str) -> str:
        return self.pipeline.prompt_template_encode.format(prompt)

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Within what is left of the template."""
        begin = self.pipeline.prompt_template_encode.index("{}")
        found = words_in(self.pipeline.tokenizer, self._templated(prompt), phrase, begin, begin + len(prompt))
        return tuple(at - self._dropped for at in found if at >= self._dropped)

    def velocity(
        self,
        latents: Float[Tensor, "row channel height width"],
        times: Float[Tensor, " row"],
        texts: Sequence[Text],
    ) -> Float[Tensor, "row channel height width"]:
        """Of packed latents."""
        height, width = latents.shape[-2:]
        tokens, mask = stack_tokens(texts)
        found = self.denoiser(
            hidden_states=pack(latents),
            timestep=times.to(latents.dtype) / 1000,
            encoder_hidden_states=tokens,
            encoder_hidden_states_mask=mask,
            img_shapes=[[(1, height // 2, width // 2)]] * len(latents),
            return_dict=False,
        )[0]
        return unpack(found, height, width)

    def time_and_size(self, named: Mapping[str, Any]) -> tuple[float, tuple[int, int]]:
        """Time is in thousands, and the size in tokens."""
        shapes = named["img_shapes"][0]
        _, rows, columns = shapes[0] if isinstance(shapes, list) else shapes
        size = rows * self.smallest_multiple, columns * self.smallest_multiple
        return 1000 * common_timestep(named["timestep"]), size

    def spans_of(self, named: Mapping[str, Any]) -> Spans | None:
        """Text with padding, then image."""
        text, image = named["encoder_hidden_states"].shape[1], named["hidden_states"].shape[1]
        mask = named.get("encoder_hidden_states_mask")
        lengths = None if mask is None else tuple(int(count) for count in mask.sum(dim=1).tolist())
        return Spans(slice(text, text + image), slice(0, text), lengths)

    def to_latent(self, vae: Any, pixels: Tensor) -> Tensor:
        """The mean, normalised channel by channel; the autoencoder is a video's, and a picture one frame."""
        mean, deviation = _moments(vae, pixels)
        return ((vae.encode(pixels.unsqueeze(2)).latent_dist.mean - mean) / deviation).squeeze(2)

    def to_pixels(self, vae: Any, latents: Tensor) -> Tensor:
        """The first frame."""
        mean, deviation = _moments(vae, latents)
        return vae.decode((latents.unsqueeze(2) * deviation + mean).to(vae.dtype), return_dict=False)[0][:, :, 0]


def _moments(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, (1, channel, 1, 1, 1)."""
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1, 1).to(like)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, deviation
