"""Stock diffusers pipelines: the batch layout and timesteps of each call, for attention routing from outside.

The pipeline and its loop are not changed. The batch layout follows from the arguments of its call of `encode_prompt`
(prompts, images per prompt, guidance); the step follows from the `timestep` argument of its U-Net. Rows are ordered by
guidance group, then prompt, then image.
"""

import inspect
from collections.abc import Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from samecast.core.batch import Group
from samecast.core.ddim import Schedule
from samecast.errors import SamecastError
from samecast.models.base import GroupOrder, ModelIdentity
from samecast.models.families import FAMILIES, REFUSED
from samecast.models.joint import JointBackbone
from samecast.models.loading import adapt
from samecast.models.schedules import schedule_of
from samecast.models.unet import UNetBackbone, check_not_compiled

Adopted = UNetBackbone | JointBackbone
_SAYS_THE_BATCH = {"num_images_per_prompt", "do_classifier_free_guidance"}


@dataclass(frozen=True)
class PipelineCall:
    """The batch layout of one call of a pipeline.

    Args:
        prompts: the texts; None for a prompt given as an embedding.
        images_per_prompt: number of images per prompt; 0 where only the number of rows says it.
        guided: whether there is an unconditional group beside the conditional one.
        order: whether the groups are two halves of one call of the denoiser, in which order, or two calls.
    """

    prompts: tuple[str | None, ...]
    images_per_prompt: int
    guided: bool
    order: GroupOrder = "unconditional first"

    @property
    def parts(self) -> tuple[tuple[Group, ...], ...]:
        """The guidance groups in each of a step's calls of the denoiser."""
        if not self.guided:
            return (("conditional",),)
        if self.order == "two calls":
            return (("conditional",), ("unconditional",))
        return (
            ("unconditional", "conditional")
            if self.order == "unconditional first"
            else ("conditional", "unconditional"),
        )

    def with_rows(self, rows: int) -> "PipelineCall":
        """This call, given the rows of its first call of the denoiser, where they alone say how many pictures there
        are."""
        if self.images_per_prompt:
            return self
        return replace(self, images_per_prompt=max(1, rows // (len(self.prompts) * len(self.parts[0]))))


@dataclass(frozen=True)
class StockTimeline:
    """The steps of one call of a pipeline, whatever its scheduler.

    Args:
        timesteps: the distinct timesteps, in denoising order, from the first one evaluated.
    """

    timesteps: tuple[float, ...]

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.timesteps)

    def is_identity(self, step: int) -> bool:
        """False: only the scheduler knows."""
        return False


def adopt_pipeline(pipeline: Any) -> Adopted:
    """Wraps a stock pipeline in the `Backbone` protocol without changing it.

    Raises:
        SamecastError: it is not a pipeline of a supported family, or its batch layout cannot be read.
    """
    name = type(pipeline).__name__
    if isinstance(pipeline, torch.nn.Module):
        raise SamecastError(f"attach takes a diffusers pipeline; got a {name}: give the pipeline that it is part of")
    identity = ModelIdentity(
        str(pipeline.config.get("_name_or_path", name)) if hasattr(pipeline, "config") else name, ""
    )
    if name in FAMILIES:
        return adapt(pipeline, identity)
    if name in REFUSED:
        raise SamecastError(f"{name} cannot be bound: {REFUSED[name]}")
    unet = getattr(pipeline, "unet", None)
    check_not_compiled(unet)
    if not isinstance(unet, UNet2DConditionModel):
        what = "has no U-Net" if unet is None else f"has a {type(unet).__name__}"
        raise SamecastError(
            f"{name} cannot be bound: it {what}; attach takes diffusers pipelines of the Stable Diffusion family, and"
            f" {', '.join(FAMILIES)}"
        )
    encode = getattr(pipeline, "encode_prompt", None)
    if encode is None or not set(inspect.signature(encode).parameters) >= _SAYS_THE_BATCH:
        raise SamecastError(
            f"{name} cannot be bound: it has no encode_prompt with images per prompt and guidance, so its"
            " batch rows cannot be attributed"
        )
    return adapt(pipeline, identity)


def read_call(encode_prompt: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> PipelineCall:
    """The batch layout, from the arguments of a pipeline's `encode_prompt` call, as far as they say it."""
    bound = inspect.signature(encode_prompt).bind(*args, **kwargs)
    bound.apply_defaults()
    asked = bound.arguments
    prompt: Any = asked.get("prompt")
    if prompt is None:
        prompts: tuple[str | None, ...] = (None,) * int(asked["prompt_embeds"].shape[0])
    else:
        prompts = (prompt,) if isinstance(prompt, str) else tuple(prompt)
    images = int(asked.get("num_images_per_prompt", 0))
    return PipelineCall(prompts, images, bool(asked.get("do_classifier_free_guidance", False)))


@contextmanager
def undisturbed(backbone: Adopted, kwargs: Mapping[str, Any]) -> Generator[None]:
    """For our own evaluations before a denoiser call: LoRAs at its strength, and no image prompt."""
    with lora_at_strength(backbone.denoiser, kwargs):
        if isinstance(backbone, UNetBackbone):
            with without_image_prompt(backbone, kwargs):
                yield
        else:
            yield


def weights_state(pipeline: Any) -> Hashable:
    """A value that changes with a pipeline's weights: tensor identities, their versions, and LoRA strengths.

    With sequential offloading the tensors are new at every call, and so is this value.
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
    """For our own evaluations before a U-Net call: sets LoRAs to the strength of the call."""
    named = ("cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs")
    scale = next((kwargs[name]["scale"] for name in named if "scale" in (kwargs.get(name) or {})), 1.0)
    scale_lora_layers(unet, scale)
    try:
        yield
    finally:
        unscale_lora_layers(unet, scale)


@contextmanager
def without_image_prompt(backbone: UNetBackbone, kwargs: Mapping[str, Any]) -> Generator[None]:
    """For our own evaluations before a U-Net call with an image prompt (IP-Adapter), which photos do not have.

    The empty image prompt is the unconditional half of the call's; without guidance it is zeros, as in diffusers.
    """
    given = (kwargs.get("added_cond_kwargs") or {}).get("image_embeds")
    prompts: Sequence[Tensor] = [given] if isinstance(given, Tensor) else given or ()
    halves = [prompt[:1] if len(prompt) > 1 else torch.zeros_like(prompt) for prompt in prompts]
    before, backbone.image_prompts = backbone.image_prompts, tuple(halves)
    try:
        yield
    finally:
        backbone.image_prompts = before


def timeline_from(scheduler: Any, first: float) -> StockTimeline:
    """The steps of a call that starts at timestep `first`; img2img starts late in the schedule.

    A timestep that a scheduler evaluates twice, as PNDM and Heun do, is one step.

    Raises:
        SamecastError: the timestep is not among the scheduler's.
    """
    distinct = tuple(dict.fromkeys(map(float, scheduler.timesteps.tolist())))
    if first not in distinct:
        raise SamecastError(
            f"the U-Net was called at timestep {first:g}, which is not among those of the pipeline's"
            f" {type(scheduler).__name__}: the step cannot be determined"
        )
    return StockTimeline(distinct[distinct.index(first) :])


def check_inverts(backbone: Adopted) -> None:
    """Refuses a scheduler whose steps cannot be inverted exactly, as a real photo requires.

    Raises:
        SamecastError: the scheduler is not a plain DDIMScheduler, or one of flow matching.
    """
    scheduler = backbone.pipeline.scheduler
    if backbone.prediction_type == "flow":
        return  # adapters of these families take no other
    remedy = (
        "set pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False,"
        " thresholding=False)"
    )
    if type(scheduler) is not DDIMScheduler:
        raise SamecastError(f"a photo cannot be inverted with {type(scheduler).__name__}: {remedy}")
    config: Any = scheduler.config
    if config.clip_sample or config.thresholding:
        clips = "clip_sample" if config.clip_sample else "thresholding"
        raise SamecastError(f"a photo cannot be inverted with {clips}, which discards values: {remedy}")


def check_takes_photos(backbone: Adopted) -> None:
    """Refuses a U-Net with inputs besides a noisy latent, as for inpainting: a photo cannot be inverted with it.

    Raises:
        SamecastError: the U-Net has additional input channels.
    """
    if not isinstance(backbone, UNetBackbone):
        return
    pipeline = backbone.pipeline
    channels, latent = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if channels != latent:
        raise SamecastError(
            f"a photo cannot be inverted by a U-Net with {channels} input channels instead of a latent's {latent}:"
            " name a row of the batch as the source"
        )


def schedule_from(backbone: Adopted, timeline: StockTimeline) -> Schedule:
    """The noise levels of a call's steps, for a scheduler accepted by `check_inverts`."""
    return schedule_of(backbone.pipeline.scheduler, backbone.prediction_type).last(timeline.steps)
