"""PixArt-Sigma (Chen et al., arXiv 2403.04692): blocks of self- and cross-attention, on DDPM's noise levels.

It is a transformer, but its attention is a U-Net's: the picture's tokens read each other in one layer, and T5's tokens
in the next, under a mask. The denoiser predicts noise and, in channels of their own that DDIM has no use for, its
variance.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.utils.import_utils import is_bs4_available, is_ftfy_available
from jaxtyping import Float
from torch import Tensor

from samecast.core.ddim import Schedule
from samecast.core.layers import Kind, Stage
from samecast.core.spans import Spans
from samecast.errors import SamecastError
from samecast.models.backbone import common_timestep
from samecast.models.base import BoundLayer
from samecast.models.joint import JointBackbone
from samecast.models.schedules import ddim_schedule
from samecast.models.supported import check_scheduler
from samecast.models.texts import Text, stack_tokens, words_in


class PixArtBackbone(JointBackbone):
    """A `PixArtSigmaPipeline` behind the `Backbone` protocol."""

    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "transformer": ("PixArtTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("T5EncoderModel",),
        "tokenizer": ("T5Tokenizer", "T5TokenizerFast"),
    }
    customary_guidance = 4.5
    prediction_type = "epsilon"
    text_length = 300

    def check_scheduler(self) -> None:
        """Refuses noise levels other than DDPM's."""
        scheduler = self.pipeline.scheduler
        check_scheduler({"_class_name": type(scheduler).__name__, **scheduler.config}, self.identity.id)
        if scheduler.config.get("prediction_type", "epsilon") != "epsilon":
            raise SamecastError(
                f"model {self.identity.id} predicts {scheduler.config.prediction_type!r}; this family predicts epsilon"
            )

    @property
    def default_size(self) -> int:
        """The native image side of the transformer, in pixels."""
        return int(self.denoiser.config.sample_size) * int(self.pipeline.vae_scale_factor)

    @property
    def smallest_multiple(self) -> int:
        """In pixels: one patch."""
        return int(self.pipeline.vae_scale_factor) * int(self.denoiser.config.patch_size)

    def schedule(self, steps: int, size: tuple[int, int] | None = None) -> Schedule:
        """The noise levels of diffusers' DDIMScheduler with the checkpoint's configuration, the same at any size."""
        return ddim_schedule(self.pipeline.scheduler.config, steps, "epsilon")

    def blocks(self) -> Iterable[tuple[Stage, int, Kind, Any]]:
        """Every block's self-attention."""
        for number, block in enumerate(self.denoiser.transformer_blocks):
            yield "block", number, "self", block.attn1

    def cross_attention(self) -> tuple[BoundLayer, ...]:
        """Every block's cross-attention."""
        modules = [block.attn2 for block in self.denoiser.transformer_blocks]
        return tuple(self.bind("block", at, at, "cross", module) for at, module in enumerate(modules))

    @property
    def _cleans(self) -> bool:
        """Whether the pipeline's own call would clean prompts: it does where it has the libraries for it."""
        return is_bs4_available() and is_ftfy_available()

    def _cleaned(self, prompt: str) -> str:
        return self.pipeline._text_preprocessing(prompt, clean_caption=self._cleans)[0]

    def embed(self, prompt: str) -> Text:
        """T5's tokens without padding, of the text as the pipeline cleans it."""
        tokens, mask, _, _ = self.pipeline.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            device=self.device,
            clean_caption=self._cleans,
            max_sequence_length=self.text_length,
        )
        return Text(tokens[0][mask[0].bool()])

    def count_tokens(self, prompt: str) -> int:
        """T5's."""
        return len(self.pipeline.tokenizer(self._cleaned(prompt)).input_ids)

    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Among T5's tokens."""
        return words_in(self.pipeline.tokenizer, self._cleaned(prompt), phrase)

    def velocity(
        self,
        latents: Float[Tensor, "row channel height width"],
        times: Float[Tensor, " row"],
        texts: Sequence[Text],
    ) -> Float[Tensor, "row channel height width"]:
        """The noise, in fact: the first half of the channels."""
        tokens, mask = stack_tokens(texts)
        found = self.denoiser(
            latents,
            encoder_hidden_states=tokens,
            encoder_attention_mask=None if mask is None else mask.long(),
            timestep=times,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return found[:, : latents.shape[1]]

    def noise_levels(self) -> Float[Tensor, " timestep"]:
        """Cumulative products of the checkpoint's schedule."""
        return torch.as_tensor(self.pipeline.scheduler.alphas_cumprod).float()

    def time_and_size(self, named: Mapping[str, Any]) -> tuple[float, tuple[int, int]]:
        """Time as it is, and the latent's size."""
        height, width = named["hidden_states"].shape[-2:]
        size = height * self.pixels_per_latent, width * self.pixels_per_latent
        return common_timestep(named["timestep"]), size

    def spans_of(self, named: Mapping[str, Any]) -> Spans | None:
        """None: no layer has picture and prompt in one sequence."""
        return None
