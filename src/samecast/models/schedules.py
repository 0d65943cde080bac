"""The noise levels that a scheduler of diffusers steps through, as a schedule."""

from typing import Any

from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from samecast.core.ddim import NoiseLevel, PredictionType, Schedule
from samecast.errors import SamecastError


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
