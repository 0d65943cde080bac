"""Stable Diffusion XL (Podell et al., arXiv 2307.01952): two text encoders, and conditions added to the timestep
embedding.

The denoiser reads both encoders' token features, concatenated. Added to its timestep embedding are the second encoder's
pooled text and six numbers, the *time ids*: original size, crop and target size in pixels, here always those of an
uncropped image of the target size. The U-Net has 70 self-attention layers: 24 down, 10 in the middle, 36 up.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from samecast.errors import SamecastError
from samecast.models.finite import check_finite
from samecast.models.unet import UNetBackbone


class XLBackbone(UNetBackbone):
    """A `StableDiffusionXLPipeline` behind the `Backbone` protocol.

    A text is one matrix here too: the token rows, and the zero-padded pooled embedding as the last row. An empty text
    is all zeros where the checkpoint's configuration asks for it, as in the unconditional half; so the two guidance
    groups of a source without a caption are one row.
    """

    customary_guidance = 5.0

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "prompt token channel"]:
        """Token embeddings of both encoders with the pooled one as the last row; refuses texts beyond the encoders'
        length."""
        for prompt in prompts:
            self._check_length(prompt)
        tokens, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        for states in (tokens, pooled):
            check_finite(states, "text encoder", states.dtype, self.identity)
        if pooled.shape[-1] > tokens.shape[-1]:
            raise SamecastError(
                f"model {self.identity.id} has pooled texts of {pooled.shape[-1]} channels, more than a"
                f" token's {tokens.shape[-1]}, which is not supported"
            )
        below = torch.nn.functional.pad(pooled, (0, tokens.shape[-1] - pooled.shape[-1]))
        packed = torch.cat([tokens, below[:, None]], dim=1).to(self.dtype)
        if self.pipeline.config.force_zeros_for_empty_prompt:
            packed[[not prompt for prompt in prompts]] = 0
        return packed

    def predict(
        self,
        latents: Float[Tensor, "row channel height width"],
        timestep: int | float | Int[Tensor, " row"],
        embeddings: Float[Tensor, "row token channel_text"],
    ) -> Float[Tensor, "row channel height width"]:
        """One call of the U-Net."""
        pooled_width = int(self.pipeline.text_encoder_2.config.projection_dim)
        height, width = (side * int(self.pipeline.vae_scale_factor) for side in latents.shape[-2:])
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=self.dtype, device=latents.device)
        added = {
            "text_embeds": embeddings[:, -1, :pooled_width],
            "time_ids": time_ids.expand(len(latents), -1),
            **self.added_conditions(len(latents)),
        }
        prediction = self.pipeline.unet(
            latents.to(self.dtype),
            timestep,
            encoder_hidden_states=embeddings[:, :-1],
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return prediction.to(self.latent_dtype)

    def encode_image(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        """Latent of a picture."""
        with self._precise_vae():
            return super().encode_image(image)

    def decode_pixels(
        self, latents: Float[Tensor, "branch channel height width"]
    ) -> Float[Tensor, "branch 3 height_pixel width_pixel"]:
        """Pictures of latents before rounding."""
        with self._precise_vae():
            return super().decode_pixels(latents)

    @contextmanager
    def _precise_vae(self) -> Generator[None]:
        """Runs the autoencoder in float32 if its configuration asks for it (`force_upcast`), then restores it."""
        vae = self.pipeline.vae
        if getattr(vae.config, "latents_mean", None) is not None:
            raise SamecastError("the autoencoder of this model shifts its latents, which is not supported")
        upcast = vae.dtype == torch.float16 and vae.config.force_upcast
        if upcast:
            vae.to(torch.float32)
        try:
            yield
        finally:
            if upcast:
                vae.to(torch.float16)
