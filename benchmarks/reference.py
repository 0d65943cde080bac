"""A plain implementation of MasaCtrl, as its authors' code works, to measure against.

Written from the paper (Cao et al., ICCV 2023, arXiv 2304.08465): explicit softmax in every attention layer, the photo
inverted with both guidance halves, and for each target a batch of source and target in both halves, in which targets
read the source's keys and values from a step and a layer on. One target at a time, everything again for each.
"""

from typing import Any

import torch
from diffusers import DDIMScheduler
from einops import rearrange
from PIL import Image
from torch import Tensor

GUIDANCE = 7.5


class ExplicitAttention:
    """Attention whose probabilities are written out; mutual where it is told to be.

    Args:
        controlled: whether targets read the source at this layer.
        state: `active`, whether they do so at this step.
    """

    def __init__(self, controlled: bool, state: dict[str, bool]) -> None:
        self.controlled, self.state = controlled, state

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The layer's output; rows are source and target without prompt, then with it."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            rearrange(states, "row token (heads channel) -> row heads token channel", heads=attn.heads)
            for states in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        if self.controlled and self.state["active"]:
            source = torch.tensor([0, 0, 2, 2], device=key.device)
            key, value = key[source], value[source]
        probabilities = (query @ key.transpose(-1, -2) * attn.scale).softmax(dim=-1)
        output = rearrange(probabilities @ value, "row heads token channel -> row token (heads channel)")
        return attn.to_out[1](attn.to_out[0](output))


@torch.inference_mode()
def edit(pipeline: Any, photo: Image.Image, prompt: str, *, steps: int, start: int, first_site: int) -> Image.Image:
    """One edit of one photo.

    Args:
        pipeline: a StableDiffusionPipeline; its processors are put back.
        photo: square, of the model's size.
        prompt: of the target; the source's is empty.
        steps: of inversion and denoising.
        start: the first step at which the target reads the source.
        first_site: the first self-attention layer, in execution order, at which it does.
    """
    unet, vae, device = pipeline.unet, pipeline.vae, pipeline.unet.device
    scheduler: Any = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(steps)
    alphas = [float(scheduler.alphas_cumprod[int(timestep)]) for timestep in scheduler.timesteps]
    alphas.append(float(scheduler.final_alpha_cumprod))
    before, state = unet.attn_processors, {"active": False}
    unet.set_attn_processor(_processors(unet, first_site, state))
    try:
        texts = pipeline.encode_prompt(["", prompt], device, 1, False)[0]
        empty, told = texts[:1], texts[1:]
        pixels = pipeline.image_processor.preprocess(photo).to(device, vae.dtype)
        latent = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
        for step in reversed(range(steps)):
            noise = unet(torch.cat([latent] * 2), scheduler.timesteps[step], torch.cat([empty] * 2)).sample
            latent = _move(latent, _guide(noise), alphas[step + 1], alphas[step])
        latents = torch.cat([latent] * 2)
        for step in range(steps):
            state["active"] = step >= start
            rows = torch.cat([empty, empty, empty, told])
            noise = unet(torch.cat([latents] * 2), scheduler.timesteps[step], rows).sample
            latents = _move(latents, _guide(noise), alphas[step], alphas[step + 1])
        decoded = vae.decode(latents / vae.config.scaling_factor).sample  # both, as the authors' code does
    finally:
        unet.set_attn_processor(before)
    return pipeline.image_processor.postprocess(decoded, output_type="pil")[1]


def _processors(unet: Any, first_site: int, state: dict[str, bool]) -> dict[str, ExplicitAttention]:
    """By name; diffusers lists them down, up, mid, MasaCtrl counts down, mid, up."""
    names = list(unet.attn_processors)
    order = [*(n for n in names if n.startswith("down")), *(n for n in names if n.startswith("mid"))]
    order += [n for n in names if n.startswith("up")]
    own = [name for name in order if ".attn1." in name]
    return {name: ExplicitAttention(name in own and own.index(name) >= first_site, state) for name in names}


def _guide(noise: Tensor) -> Tensor:
    without, told = noise.chunk(2)
    return without + GUIDANCE * (told - without)


def _move(latent: Tensor, noise: Tensor, alpha: float, alpha_next: float) -> Tensor:
    clean = (latent - (1 - alpha) ** 0.5 * noise) / alpha**0.5
    return alpha_next**0.5 * clean + (1 - alpha_next) ** 0.5 * noise
