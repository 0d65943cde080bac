"""FLUX.2 dev and klein (Black Forest Labs, 2025): double and fused single blocks on latents of 128 channels.

The sequence is [text, image], with positions (reference, row, column, word). dev takes the guidance scale as an input;
klein base is guided by a negative prompt; klein that was distilled takes no guidance.
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
from samecast.models.texts import Text, within, words_in


class Flux2Backbone(JointBackbone):
    """A `Flux2Pipeline` or `Flux2KleinPipeline` behind the `Backbone` protocol."""

    group_order = "two calls"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "transformer": ("Flux2Transformer2DModel",),
        "vae": ("AutoencoderKLFlux2",),
        "text_encoder": ("Mistral3ForConditionalGeneration", "Qwen3ForCausalLM", "Qwen3Model"),
        "tokenizer": ("PixtralProcessor", "AutoProcessor", "Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    }
    text_length = 512

    @property
    def customary_guidance(self) -> float:  # type: ignore[override]
        """diffusers'; without guidance 1."""
        return 4.0 if self.takes_guidance else 1.0

    @property
    def _klein(self) -> bool:
        return type(self.pipeline).__name__ == "Flux2KleinPipeline"

    @property
    def embeds_guidance(self) -> bool:
        """Whether it is dev."""
        return not self._klein

    @property
    def takes_guidance(self) -> bool:
        """Whether it is anything but a distilled klein."""
        return not (self._klein and self.pipeline.config.is_distilled)

    @property
    def pixels_per_latent(self) -> int:
        """A latent has 2 x 2 of the autoencoder's side by side as channels."""
        return self.smallest_multiple

    @property
    def vae_channels(self) -> int:
        """Of the autoencoder's latents, 2 x 2 side by side."""
        return 4 * int(self.pipeline.vae.config.latent_channels)

    def shift(self, steps: int, tokens: int) -> float:
        """As fitted by the authors to tokens and steps."""
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        return compute_empirical_mu(tokens, steps)

    def blocks(self) -> Iterable[tuple[Stage, int, Kind, Any]]:
        """Double blocks, then single ones."""
        for number, block in enumerate(self.denoiser.transformer_blocks):
            yield "double", number, "joint", block.attn
        for number, block in enumerate(self.denoiser.single_transformer_blocks):
            yield "single", number, "joint", block.attn

    def embed(self, prompt: str) -> Text:
        """Hidden states of several layers of the language model, side by side, padded."""
        tokens, _ = self.pipeline.encode_prompt([prompt], self.device, max_sequence_length=self.text_length)
        return Text(tokens[0])

    def _templated(self, prompt: str) -> str:
        tokenizer = self.pipeline.tokenizer
        if self._klein:
            return tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        messages = format_input(prompts=[prompt], system_message=self.pipeline.system_message)
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)[0]

    @property
    def _tokenizer(self) -> Any:
        """dev has one within a processor."""
        return getattr(self.pipeline.tokenizer, "tokenizer", self.pipeline.tokenizer)

    def count_tokens(self, prompt: str) -> int:
        """With the template's."""
        return len(self._tokenizer(self._templated(prompt)).input_ids)

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Within the template."""
        whole, begin, end = within(self._templated, prompt)
        found = words_in(self._tokenizer, whole, phrase, begin, end)
        # Texts are padded on the side that the tokenizer says.
        left = self._tokenizer.padding_side == "left"
        return tuple(at + (self.text_length - self.count_tokens(prompt) if left else 0) for at in found)

    def velocity(
        self,
        latents: Float[Tensor, "row channel height width"],
        times: Float[Tensor, " row"],
        texts: Sequence[Text],
    ) -> Float[Tensor, "row channel height width"]:
        """Of latents as tokens."""
        height, width = latents.shape[-2:]
        tokens = torch.stack([text.tokens for text in texts])
        guidance = torch.tensor([text.guidance for text in texts], device=latents.device, dtype=torch.float32)
        one = torch.arange(1)
        words = torch.cartesian_prod(one, one, one, torch.arange(tokens.shape[1])).to(latents.device)
        places = torch.cartesian_prod(one, torch.arange(height), torch.arange(width), one).to(latents.device)
        found = self.denoiser(
            hidden_states=latents.flatten(2).mT,
            timestep=times.to(latents.dtype) / 1000,
            guidance=guidance if self.embeds_guidance else None,
            encoder_hidden_states=tokens,
            txt_ids=words.expand(len(latents), -1, -1),
            img_ids=places.expand(len(latents), -1, -1),
            return_dict=False,
        )[0]
        return found.mT.unflatten(2, (height, width))

    def time_and_size(self, named: Mapping[str, Any]) -> tuple[float, tuple[int, int]]:
        """Time is in thousands, and the size of the last token's position."""
        rows, columns = (int(side) + 1 for side in named["img_ids"].reshape(-1, 4)[-1, 1:3].tolist())
        size = rows * self.smallest_multiple, columns * self.smallest_multiple
        return 1000 * common_timestep(named["timestep"]), size

    def spans_of(self, named: Mapping[str, Any]) -> Spans | None:
        """Text, then image."""
        text, image = named["encoder_hidden_states"].shape[1], named["hidden_states"].shape[1]
        return Spans(slice(text, text + image), slice(0, text))

    def to_latent(self, vae: Any, pixels: Tensor) -> Tensor:
        """The mean, 2 x 2 side by side, normalised by the running statistics of a batch norm."""
        mean, deviation = _moments(vae, pixels)
        rows, channels, height, width = (means := vae.encode(pixels).latent_dist.mode()).shape
        parts = means.view(rows, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return (parts.reshape(rows, channels * 4, height // 2, width // 2) - mean) / deviation

    def to_pixels(self, vae: Any, latents: Tensor) -> Tensor:
        """The inverse."""
        mean, deviation = _moments(vae, latents)
        rows, channels, height, width = latents.shape
        parts = (latents * deviation + mean).reshape(rows, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        means = parts.reshape(rows, channels // 4, height * 2, width * 2)
        return vae.decode(means.to(vae.dtype), return_dict=False)[0]


def _moments(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, (1, channel, 1, 1)."""
    variance = vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps
    return vae.bn.running_mean.view(1, -1, 1, 1).to(like), variance.sqrt().to(like)
