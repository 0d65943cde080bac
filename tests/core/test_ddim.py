from typing import Any, get_args

import pytest
import torch
from diffusers import DDIMScheduler

from samecast.core.ddim import PredictionType, Schedule, denoise, invert, undo
from samecast.models.unet import schedule_of

STABLE_DIFFUSION: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
TYPES = get_args(PredictionType)


def make_schedule(steps: int, prediction_type: PredictionType = "epsilon", **changes: Any) -> tuple[Any, Schedule]:
    scheduler = DDIMScheduler(**STABLE_DIFFUSION | {"prediction_type": prediction_type} | changes)
    scheduler.set_timesteps(steps)
    return scheduler, schedule_of(scheduler, prediction_type)


def test_stable_diffusions_schedule_is_981_to_1_and_clean_is_0() -> None:
    _, schedule = make_schedule(50)
    assert (schedule.timesteps[0], schedule.timesteps[-1], schedule.clean_timestep) == (981, 1, 0)
    assert len(schedule.working_steps) == 50


def test_under_offset_0_the_last_step_is_the_identity() -> None:
    _, schedule = make_schedule(50, steps_offset=0)
    assert schedule.timesteps[0] == 980
    assert schedule.working_steps == tuple(range(49))


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"set_alpha_to_one": True}, {"timestep_spacing": "trailing"}, {"timestep_spacing": "linspace"}],
    ids=str,
)
def test_every_step_equals_diffusers(prediction_type: PredictionType, changes: dict[str, Any]) -> None:
    scheduler, schedule = make_schedule(10, prediction_type, **changes)
    latents, prediction = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    for step, timestep in enumerate(scheduler.timesteps):
        expected = scheduler.step(prediction, timestep, latents).prev_sample
        # Both in float32; at high noise x0 is large and its rounding with it.
        torch.testing.assert_close(denoise(latents, prediction, schedule, step), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_inversion_undoes_a_step_of_known_noise(prediction_type: PredictionType) -> None:
    _, schedule = make_schedule(10, prediction_type)
    clean, noise = torch.randn(1, 3, 4, 4).double(), torch.randn(1, 3, 4, 4).double()

    def at_level(alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
        latents = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
        velocity = alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean
        return latents, noise if prediction_type == "epsilon" else velocity

    for step in range(10):
        before, after = at_level(schedule.alphas[step]), at_level(schedule.alphas_after[step])
        torch.testing.assert_close(denoise(*before, schedule, step), after[0])
        torch.testing.assert_close(invert(*after, schedule, step), before[0])


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("changes", [{}, {"set_alpha_to_one": True}], ids=str)
def test_undo_solves_denoising_for_its_input(prediction_type: PredictionType, changes: dict[str, Any]) -> None:
    _, schedule = make_schedule(10, prediction_type, **changes)
    latents, prediction = torch.randn(1, 3, 4, 4).double(), torch.randn(1, 3, 4, 4).double()
    for step in range(10):
        after = denoise(latents, prediction, schedule, step)
        torch.testing.assert_close(undo(after, prediction, schedule, step), latents)
