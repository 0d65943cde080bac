"""Z-Image base and Turbo (Alibaba, 2025): single blocks on the picture's tokens and a prompt of any length.

The sequence is [image, text], each padded to a multiple of 32 with learned tokens, and to the longest of the batch
under a mask. Two *refiner* layers see the picture alone first. The transformer counts time from noise to picture, and
predicts the flow that way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.core.layers import Kind, Stage
from samecast.core.settings import RenderSettings
from samecast.core.spans import Spans
from samecast.errors import SamecastError
from samecast.models.backbone import common_timestep
from samecast.models.joint import JointBackbone
from samecast.models.texts import Text, within, words_in

_MULTIPLE = 32


class ZImageBackbone(JointBackbone):
    """A `ZImagePipeline` behind the `Backbone` protocol."""

    group_order = "conditional first"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "transformer": ("ZImageTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("Qwen3ForCausalLM", "Qwen3Model"),
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    }
    customary_guidance = 5.0
    text_length = 512

    @property
    def default_size(self) -> int:
        """The pipeline's."""
        return 1024

    def settle(self, settings: RenderSettings) -> RenderSettings:
        """Settings with the model's guidance: `guidance_scale` is, as in diffusers, one less than elsewhere, and 0 is
        none."""
        settled = settings.settled(self.default_guidance, self.default_pairing)
        true = 1 + settled.embedded_guidance
        if settings.true_cfg_scale not in (None, true):
            raise SamecastError(
                f"true_cfg_scale {settings.true_cfg_scale:g} would have no effect: guidance_scale is that of"
                " classifier-free guidance in this model, so set that alone"
            )
        return replace(settled, true_cfg_scale=true)

    def sigmas(self, steps: int) -> Sequence[float] | None:
        """From 1 to 1 / steps, in float32 as the pipeline has them."""
        return torch.linspace(1.0, 1 / steps, steps).tolist()

    def blocks(self) -> Iterable[tuple[Stage, int, Kind, Any]]:
        """The picture's refiners, then the blocks of picture and prompt."""
        for number, block in enumerate(self.denoiser.noise_refiner):
            yield "refiner", number, "self", block.attention
        for number, block in enumerate(self.denoiser.layers):
            yield "single", number, "joint", block.attention

    def embed(self, prompt: str) -> Text:
        """Tokens of the prompt within its chat template, without padding."""
        tokens, _ = self.pipeline.encode_prompt(
            [prompt], self.device, do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return Text(tokens[0])

    def _templated(self, prompt: str) -> str:
        return self.pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )

    def count_tokens(self, prompt: str) -> int:
        """With the template's."""
        return len(self.pipeline.tokenizer(self._templated(prompt)).input_ids)

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Within the template."""
        whole, begin, end = within(self._templated, prompt)
        return words_in(self.pipeline.tokenizer, whole, phrase, begin, end)

    def velocity(
        self,
        latents: Float[Tensor, "row channel height width"],
        times: Float[Tensor, " row"],
        texts: Sequence[Text],
    ) -> Float[Tensor, "row channel height width"]:
        """Of a list of latents with a frame axis."""
        found = self.denoiser(
            list(latents.unsqueeze(2).unbind(0)),
            (1000 - times) / 1000,
            [text.tokens for text in texts],
            return_dict=False,
        )[0]
        return -torch.stack([each.float() for each in found]).squeeze(2)

    def time_and_size(self, named: Mapping[str, Any]) -> tuple[float, tuple[int, int]]:
        """Time is in thousands and from the other end, and the latent's size."""
        height, width = named["x"][0].shape[-2:]
        size = height * self.pixels_per_latent, width * self.pixels_per_latent
        return 1000 - 1000 * common_timestep(named["t"]), size

    def spans_of(self, named: Mapping[str, Any]) -> Spans | None:
        """Image with padding, then text with padding."""
        latents, texts = named["x"], named["cap_feats"]
        if isinstance(latents[0], list):
            raise SamecastError("Z-Image's omni mode, with pictures as references, is not supported")
        height, width = latents[0].shape[-2:]
        image = (height // self.patch) * (width // self.patch)
        lengths = tuple(len(text) for text in texts)
        first = image + -image % _MULTIPLE
        return Spans(slice(0, image), slice(first, first + max(lengths)), lengths)
