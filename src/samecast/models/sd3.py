"""Stable Diffusion 3 and 3.5 (Esser et al., arXiv 2403.03206): double blocks on latents that stay a picture.

The sequence is [image, text]. The prompt is CLIP's 77 tokens of both encoders side by side, then T5's; padding is
attended to. 3.5 medium has in its first blocks a second layer, `dual`, through which the picture goes alone.
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
from samecast.models.texts import Text, words_in


class SD3Backbone(JointBackbone):
    """A `StableDiffusion3Pipeline` behind the `Backbone` protocol."""

    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "transformer": ("SD3Transformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModelWithProjection", "CLIPTextModel"),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder_2": ("CLIPTextModelWithProjection", "CLIPTextModel"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder_3": ("T5EncoderModel",),
        "tokenizer_3": ("T5Tokenizer", "T5TokenizerFast"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    }
    customary_guidance = 7.0
    text_length = 256
    skipped = ("image_encoder", "feature_extractor")
    named_sets: ClassVar[Mapping[str, Sequence[str]]] = {
        # Avrahami et al., CVPR 2025, arXiv 2411.14430 (Stable Flow), of SD3 medium's 24 blocks.
        "vital": ("double.0", "double.7", "double.8", "double.9"),
    }
    whole = (24, 0, 0)

    @property
    def smallest_multiple(self) -> int:
        """In pixels: one patch."""
        return int(self.pipeline.vae_scale_factor) * int(self.denoiser.config.patch_size)

    def sigmas(self, steps: int) -> Sequence[float] | None:
        """The scheduler's own, which it has shifted once when it shifts them again."""
        return None

    def blocks(self) -> Iterable[tuple[Stage, int, Kind, Any]]:
        """Each block's joint layer, and its dual one where it has that."""
        for number, block in enumerate(self.denoiser.transformer_blocks):
            yield "double", number, "joint", block.attn
            if getattr(block, "attn2", None) is not None:
                yield "dual", number, "self", block.attn2

    def embed(self, prompt: str) -> Text:
        """Tokens and pooled embeddings of all encoders."""
        tokens, _, pooled, _ = self.pipeline.encode_prompt(
            [prompt],
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.text_length,
        )
        return Text(tokens[0], pooled[0])

    def count_tokens(self, prompt: str) -> int:
        """T5's; without T5, CLIP's, scaled to the same limit."""
        if self.pipeline.tokenizer_3 is None:
            beyond = len(self.pipeline.tokenizer(prompt).input_ids) - self._clip_tokens
            return self.text_length + beyond if beyond > 0 else 0
        return len(self.pipeline.tokenizer_3(prompt).input_ids)

    @property
    def _clip_tokens(self) -> int:
        return int(self.pipeline.tokenizer_max_length)

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Among CLIP's tokens, and T5's behind them."""
        clip = [at for at in words_in(self.pipeline.tokenizer, prompt, phrase) if at < self._clip_tokens]
        t5 = self.pipeline.tokenizer_3
        behind = () if t5 is None else words_in(t5, prompt, phrase)
        return (*clip, *(self._clip_tokens + at for at in behind))

    def velocity(
        self,
        latents: Float[Tensor, "row channel height width"],
        times: Float[Tensor, " row"],
        texts: Sequence[Text],
    ) -> Float[Tensor, "row channel height width"]:
        """Of latents as they are."""
        return self.denoiser(
            hidden_states=latents,
            timestep=times,
            encoder_hidden_states=torch.stack([text.tokens for text in texts]),
            pooled_projections=torch.stack([text.pooled for text in texts if text.pooled is not None]),
            return_dict=False,
        )[0]

    def time_and_size(self, named: Mapping[str, Any]) -> tuple[float, tuple[int, int]]:
        """Time as it is, and the latent's size."""
        height, width = named["hidden_states"].shape[-2:]
        size = height * self.pixels_per_latent, width * self.pixels_per_latent
        return common_timestep(named["timestep"]), size

    def spans_of(self, named: Mapping[str, Any]) -> Spans | None:
        """Image, then text."""
        patch = int(self.denoiser.config.patch_size)
        height, width = named["hidden_states"].shape[-2:]
        image, text = (height // patch) * (width // patch), named["encoder_hidden_states"].shape[1]
        return Spans(slice(0, image), slice(image, image + text))
