"""A plain implementation of MasaCtrl, as its authors' code works, to measure against and to agree with.

Written from the paper (Cao et al., ICCV 2023, arXiv 2304.08465) and what is known of the code: the photo is inverted
with both guidance halves, at the timestep that each step is heading for; source and all targets are denoised in one
batch, in both halves, from the inverted latent, and the source is not replayed. From a step and a layer on, targets
read the source's keys and values within their half: alone, beside their own (union), or subject by subject and
background by background (masks). Nothing of samecast is used.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DDIMScheduler
from einops import rearrange
from PIL import Image
from torch import Tensor

GUIDANCE = 7.5
_ATTEND = torch.nn.functional.scaled_dot_product_attention


@dataclass
class Control:
    """What is done at which layers and steps.

    Args:
        layers: self-attention layers at which targets read, counted in execution order.
        steps: at which they do.
        union: whether they read themselves too.
        masks: (picture, height, width) of 0 and 1, the source's first; None is without.
    """

    layers: Collection[int] = range(10, 16)
    steps: Callable[[int], bool] = lambda step: step >= 4
    union: bool = False
    masks: Tensor | None = None
    active: bool = field(default=False, init=False)


class MutualAttention:
    """One layer's attention; rows are source and targets without prompt, then with it."""

    def __init__(self, control: Control, module: int | None) -> None:
        self.control, self.module = control, module

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The layer's output."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            rearrange(states, "row token (heads channel) -> row heads token channel", heads=attn.heads)
            for states in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        if self.control.active and self.module in self.control.layers:
            halves = [self._read(*half) for half in zip(*(each.chunk(2) for each in (query, key, value)), strict=True)]
            output = torch.cat(halves)
        else:
            output = _ATTEND(query, key, value)
        return attn.to_out[1](attn.to_out[0](rearrange(output, "row heads token channel -> row token (heads channel)")))

    def _read(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """One guidance half: the source reads itself, the targets what they are told to."""
        own = _ATTEND(query[:1], key[:1], value[:1])
        targets = len(query) - 1
        keys, values = (each[:1].expand(targets, -1, -1, -1) for each in (key, value))
        if self.control.union:
            keys, values = (torch.cat([of, own[1:]], dim=2) for of, own in ((keys, key), (values, value)))
        if self.control.masks is None:
            return torch.cat([own, _ATTEND(query[1:], keys, values)])
        side = round(query.shape[2] ** 0.5)
        at = torch.nn.functional.interpolate(self.control.masks[:, None].to(query), (side, side)).flatten(1) >= 0.5
        foreground, background = (_ATTEND(query[1:], keys[:, :, of], values[:, :, of]) for of in (at[0], ~at[0]))
        return torch.cat([own, torch.where(at[1:, None, :, None], foreground, background)])


@torch.inference_mode()
def edit(
    pipeline: Any,
    source: Image.Image | Tensor,
    prompts: Sequence[str],
    *,
    steps: int,
    control: Control,
    source_prompt: str = "",
) -> Tensor:
    """The latents, (picture, channel, height, width), of the source and of one target for each prompt.

    Args:
        pipeline: a StableDiffusionPipeline; its processors are put back.
        source: a square photo of the model's size, which is inverted; or the noise that all start from, (1, channel,
            height, width), where the source is generated.
        prompts: of the targets.
        steps: of inversion and denoising.
        control: who reads whom.
        source_prompt: of the source.
    """
    unet, vae, device = pipeline.unet, pipeline.vae, pipeline.unet.device
    scheduler: Any = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(steps)
    alphas = [float(scheduler.alphas_cumprod[int(timestep)]) for timestep in scheduler.timesteps]
    alphas.append(float(scheduler.final_alpha_cumprod))
    before = dict(unet.attn_processors)
    unet.set_attn_processor(_processors(unet, control))
    try:
        texts = pipeline.encode_prompt(["", source_prompt, *prompts], device, 1, False)[0]
        empty = texts[:1]
        if isinstance(source, Tensor):
            latent = source
        else:
            pixels = pipeline.image_processor.preprocess(source).to(device, vae.dtype)
            latent = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
            for step in reversed(range(steps)):
                noise = unet(torch.cat([latent] * 2), scheduler.timesteps[step], texts[:2]).sample
                latent = _move(latent, _guide(noise), alphas[step + 1], alphas[step])
        latents = torch.cat([latent] * (1 + len(prompts)))
        rows = torch.cat([empty.expand(len(latents), -1, -1), texts[1:]])
        for step in range(steps):
            control.active = control.steps(step)
            noise = unet(torch.cat([latents] * 2), scheduler.timesteps[step], rows).sample
            latents = _move(latents, _guide(noise), alphas[step], alphas[step + 1])
        return latents
    finally:
        control.active = False
        unet.set_attn_processor(before)


@torch.inference_mode()
def decode(pipeline: Any, latents: Tensor) -> list[Image.Image]:
    """The pictures of latents, in one call, as the authors' code makes them."""
    decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return pipeline.image_processor.postprocess(decoded, output_type="pil")


def _processors(unet: Any, control: Control) -> dict[str, MutualAttention]:
    """By name; diffusers lists them down, up, mid, MasaCtrl counts down, mid, up."""
    names = list(unet.attn_processors)
    order = [name for stage in ("down", "mid", "up") for name in names if name.startswith(stage)]
    own = [name for name in order if ".attn1." in name]
    return {name: MutualAttention(control, own.index(name) if name in own else None) for name in names}


def _guide(noise: Tensor) -> Tensor:
    without, data = noise.chunk(2)
    return without + GUIDANCE * (data - without)


def _move(latent: Tensor, noise: Tensor, alpha: float, alpha_next: float) -> Tensor:
    clean = (latent - (1 - alpha) ** 0.5 * noise) / alpha**0.5
    return alpha_next**0.5 * clean + (1 - alpha_next) ** 0.5 * noise
