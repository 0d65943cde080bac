"""The noise levels that a scheduler of diffusers steps through, as a schedule."""

from collections.abc import Sequence
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from samecast.core.ddim import NoiseLevel, PredictionType, Schedule
from samecast.errors import SamecastError


def ddim_schedule(config: Any, steps: int, prediction_type: PredictionType) -> Schedule:
    """The noise levels of diffusers' DDIMScheduler.

    Args:
        config: of the checkpoint's scheduler.
        steps: of the run.
        prediction_type: what the denoiser predicts.

    Raises:
        SamecastError: the model was trained with fewer timesteps.
    """
    trained = int(config.num_train_timesteps)
    if steps > trained:
        raise SamecastError(f"steps must be at most {trained}, the timesteps the model was trained with; got {steps}")
    # SD's PNDM configuration lacks clip_sample, and DDIMScheduler's default of True ruins inversion.
    scheduler: Any = DDIMScheduler.from_config(config, clip_sample=False)
    scheduler.set_timesteps(steps)
    if int(scheduler.timesteps[0]) >= trained:  # steps_offset shifts them by one
        raise SamecastError(f"steps must be below {trained} for this model's schedule; got {steps}")
    return schedule_of(scheduler, prediction_type)


def flow_schedule(config: Any, steps: int, sigmas: Sequence[float] | None = None, mu: float | None = None) -> Schedule:
    """The noise levels of diffusers' FlowMatchEulerDiscreteScheduler.

    Args:
        config: of the checkpoint's scheduler.
        steps: of the run.
        sigmas: before any shift; None is the scheduler's own.
        mu: the shift for the picture's size, where the schedule has one.

    Raises:
        SamecastError: the steps cannot be inverted, or the model was trained with fewer timesteps.
    """
    trained = int(config.num_train_timesteps)
    if steps > trained:
        raise SamecastError(f"steps must be at most {trained}, the timesteps the model was trained with; got {steps}")
    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(config)
    # diffusers' pipelines leave out what the scheduler does not use, so that it cannot be wrong.
    shift = {"mu": mu} if scheduler.config.use_dynamic_shifting else {}
    given = {"num_inference_steps": steps} if sigmas is None else {"sigmas": list(sigmas)}
    scheduler.set_timesteps(**given, **shift)
    return schedule_of(scheduler, "flow")


def shift_of(config: Any, tokens: int) -> float:
    """The shift for a picture of N tokens: linear between the two points of the scheduler's configuration."""
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (last - first)
    return tokens * slope + (low - slope * first)


def schedule_of(scheduler: Any, prediction_type: PredictionType) -> Schedule:
    """The noise levels of a DDIMScheduler or FlowMatchEulerDiscreteScheduler with its timesteps set.

    Args:
        scheduler: after `set_timesteps`.
        prediction_type: what the denoiser predicts; `flow` for flow matching, and only there.

    Raises:
        SamecastError: the prediction is not one of this scheduler's, or its steps are drawn at random.
    """
    flows = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    if flows != (prediction_type == "flow"):
        expected = "flow" if flows else "epsilon or v_prediction"
        raise SamecastError(
            f"{type(scheduler).__name__} steps along {expected}; got prediction_type={prediction_type!r}"
        )
    return _flow_schedule(scheduler) if flows else _ddim_schedule(scheduler, prediction_type)


def _ddim_schedule(scheduler: Any, prediction_type: PredictionType) -> Schedule:
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    cumulative = [_variance_preserving(alpha) for alpha in scheduler.alphas_cumprod.tolist()]
    final = _variance_preserving(float(scheduler.final_alpha_cumprod))
    return Schedule(
        timesteps=tuple(timesteps),
        levels=tuple(cumulative[timestep] for timestep in timesteps),
        levels_after=tuple(cumulative[t - stride] if t >= stride else final for t in timesteps),
        # The denoiser knows no timestep below 0; that is the level of set_alpha_to_one=False.
        clean_timestep=max(0, timesteps[-1] - stride),
        prediction_type=prediction_type,
    )


def _variance_preserving(alpha: float) -> NoiseLevel:
    """The level of a cumulative alpha (DDPM's alpha-bar), which is the signal's share of the variance."""
    return NoiseLevel(alpha**0.5, (1 - alpha) ** 0.5)


def _flow_schedule(scheduler: Any) -> Schedule:
    if scheduler.config["stochastic_sampling"]:
        raise SamecastError("stochastic_sampling draws new noise at each step, which cannot be inverted: switch it off")
    sigmas: list[float] = scheduler.sigmas.tolist()
    levels = tuple(NoiseLevel(1 - sigma, sigma) for sigma in sigmas)
    return Schedule(
        timesteps=tuple(float(timestep) for timestep in scheduler.timesteps),
        levels=levels[:-1],
        levels_after=levels[1:],
        clean_timestep=0.0,
        prediction_type="flow",
    )
