"""Stock diffusers pipelines: what is needed to know of one, and of each of its calls, to control it from outside.

A pipeline is not changed and its loop is not ours. How its batch is made up it says when it asks its own
`encode_prompt` for embeddings (so many prompts, so many pictures of each, with guidance or without); the step is read
off the `timestep` argument of its U-Net. Rows are guidance group by guidance group, in each prompt by prompt, in each
picture by picture.
"""

import inspect
from collections.abc import Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from samecast.core.ddim import Schedule
from samecast.errors import SamecastError
from samecast.models.base import ModelIdentity
from samecast.models.loading import adapt
from samecast.models.schedules import schedule_of
from samecast.models.unet import UNetBackbone, check_not_compiled

_SAYS_THE_BATCH = {"num_images_per_prompt", "do_classifier_free_guidance"}


@dataclass(frozen=True)
class PipelineCall:
    """How the batch of one call of a pipeline is made up.

    Args:
        prompts: the texts; None for one that came as an embedding.
        images_per_prompt: how many pictures of each.
        guided: whether there is an unconditional half beside the conditional one.
    """

    prompts: tuple[str | None, ...]
    images_per_prompt: int
    guided: bool

    @property
    def rows(self) -> int:
        """How many rows the U-Net is called with."""
        return len(self.prompts) * self.images_per_prompt * (2 if self.guided else 1)


@dataclass(frozen=True)
class StockTimeline:
    """The steps of one call of a pipeline, whatever its scheduler.

    Args:
        timesteps: each distinct timestep once, in the order of denoising, from the first that is evaluated.
    """

    timesteps: tuple[float, ...]

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.timesteps)

    def is_identity(self, step: int) -> bool:
        """No: only the scheduler could tell."""
        return False


def adopt_pipeline(pipeline: Any) -> UNetBackbone:
    """A stock pipeline behind the `Backbone` protocol, held and never changed.

    Raises:
        SamecastError: it is no pipeline of the family, or does not tell how its batch is made up.
    """
    name = type(pipeline).__name__
    if isinstance(pipeline, torch.nn.Module):
        raise SamecastError(f"attach takes a diffusers pipeline; got a {name}: give the pipeline that it is part of")
    unet = getattr(pipeline, "unet", None)
    check_not_compiled(unet)
    if not isinstance(unet, UNet2DConditionModel):
        what = "has no U-Net" if unet is None else f"has a {type(unet).__name__}"
        raise SamecastError(
            f"{name} cannot be bound: it {what}; attach takes diffusers pipelines of the Stable Diffusion family"
        )
    encode = getattr(pipeline, "encode_prompt", None)
    if encode is None or not set(inspect.signature(encode).parameters) >= _SAYS_THE_BATCH:
        raise SamecastError(
            f"{name} cannot be bound: it has no encode_prompt that tells pictures per prompt and guidance, so that"
            " nobody knows whose a row of its batch is"
        )
    return adapt(pipeline, ModelIdentity(str(pipeline.config.get("_name_or_path", name)), ""))


def read_call(encode_prompt: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> PipelineCall:
    """How a batch is made up, from the arguments with which a pipeline asks for its embeddings."""
    bound = inspect.signature(encode_prompt).bind(*args, **kwargs)
    bound.apply_defaults()
    asked = bound.arguments
    prompt: Any = asked.get("prompt")
    if prompt is None:
        prompts: tuple[str | None, ...] = (None,) * int(asked["prompt_embeds"].shape[0])
    else:
        prompts = (prompt,) if isinstance(prompt, str) else tuple(prompt)
    return PipelineCall(prompts, int(asked["num_images_per_prompt"]), bool(asked["do_classifier_free_guidance"]))


def weights_state(pipeline: Any) -> Hashable:
    """What changes when weights of a pipeline change: which tensors they are, how often written, LoRAs' strengths.

    Where parts wait elsewhere until they run (sequential offloading) the tensors are new each time, and so is this.
    """
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = [tensor for part in parts for tensor in part.parameters()]
    written = tuple((id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
    adapters: list[Any] = [module for part in parts for module in part.modules() if isinstance(module, BaseTunerLayer)]
    strengths = tuple(
        (tuple(module.scaling.items()), tuple(module.active_adapters), module.disable_adapters) for module in adapters
    )
    return written, strengths


@contextmanager
def lora_at_strength(unet: Any, kwargs: Mapping[str, Any]) -> Generator[None]:
    """For evaluations of our own before a U-Net's call: LoRAs at the strength that the call asks for."""
    scale = (kwargs.get("cross_attention_kwargs") or {}).get("scale", 1.0)
    scale_lora_layers(unet, scale)
    try:
        yield
    finally:
        unscale_lora_layers(unet, scale)


@contextmanager
def without_image_prompt(backbone: UNetBackbone, kwargs: Mapping[str, Any]) -> Generator[None]:
    """For evaluations of our own before a U-Net's call that has an image prompt (IP-Adapter): photos have none.

    What stands for none is the unconditional half of the call's; without guidance there is no such half, and zeros are
    what diffusers takes for it.
    """
    given = (kwargs.get("added_cond_kwargs") or {}).get("image_embeds")
    prompts: Sequence[Tensor] = [given] if isinstance(given, Tensor) else given or ()
    halves = [prompt[:1] if len(prompt) > 1 else torch.zeros_like(prompt) for prompt in prompts]
    before, backbone.image_prompts = backbone.image_prompts, tuple(halves)
    try:
        yield
    finally:
        backbone.image_prompts = before


def read_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, float]:
    """What a U-Net is called with: the latents (row, channel, height, width), and the timestep of all rows.

    Raises:
        SamecastError: rows are at different timesteps.
    """
    sample: Tensor = args[0] if args else kwargs["sample"]
    timestep: Any = args[1] if len(args) > 1 else kwargs["timestep"]
    if not isinstance(timestep, Tensor):
        return sample, float(timestep)
    values = timestep.detach().flatten()
    if not bool((values == values[0]).all()):
        raise SamecastError("the pipeline's rows are at different timesteps, so that there is no one step")
    return sample, float(values[0])


def timeline_from(scheduler: Any, first: float) -> StockTimeline:
    """The steps of a call whose first evaluation is at timestep `first`: img2img starts late in the schedule.

    A timestep that a scheduler evaluates twice, as PNDM and Heun do, is one step.

    Raises:
        SamecastError: the scheduler does not know the timestep.
    """
    distinct = tuple(dict.fromkeys(map(float, scheduler.timesteps.tolist())))
    if first not in distinct:
        raise SamecastError(
            f"the U-Net was called at timestep {first:g}, which is not among those of the pipeline's"
            f" {type(scheduler).__name__}: the step cannot be told"
        )
    return StockTimeline(distinct[distinct.index(first) :])


def check_inverts(scheduler: Any) -> None:
    """Refuses a scheduler whose steps cannot be run upward exactly, which a real photo needs.

    Raises:
        SamecastError: so it is.
    """
    remedy = (
        "set pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False,"
        " thresholding=False)"
    )
    if type(scheduler) is not DDIMScheduler:
        raise SamecastError(f"a photo cannot be inverted with {type(scheduler).__name__}: {remedy}")
    config: Any = scheduler.config
    if config.clip_sample or config.thresholding:
        clips = "clip_sample" if config.clip_sample else "thresholding"
        raise SamecastError(f"a photo cannot be inverted with {clips}, which forgets what it cuts: {remedy}")


def check_takes_photos(pipeline: Any) -> None:
    """Refuses a U-Net that takes more than a noisy latent, as those made for inpainting do: no photo can be inverted.

    Raises:
        SamecastError: so it is.
    """
    channels, latent = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if channels != latent:
        raise SamecastError(
            f"a photo cannot be inverted by a U-Net that takes {channels} channels instead of the {latent} of a latent:"
            " name a row of the batch as the source"
        )


def schedule_from(backbone: UNetBackbone, timeline: StockTimeline) -> Schedule:
    """The noise levels of a call's steps, under a scheduler that `check_inverts` has passed."""
    return schedule_of(backbone.pipeline.scheduler, backbone.prediction_type).last(timeline.steps)
