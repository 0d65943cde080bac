from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from samecast.core.ddim import PredictionType, Schedule, clean_part, denoise, invert, undo
from samecast.errors import SamecastError
from samecast.models.schedules import schedule_of

STABLE_DIFFUSION: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
TYPES: tuple[PredictionType, ...] = ("epsilon", "v_prediction")


def make_schedule(steps: int, prediction_type: PredictionType = "epsilon", **changes: Any) -> tuple[Any, Schedule]:
    if prediction_type == "flow":
        scheduler: Any = FlowMatchEulerDiscreteScheduler(**changes)
        scheduler.set_timesteps(steps, mu=1.15)
    else:
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


@pytest.mark.parametrize(
    "changes",
    [{}, {"shift": 3.0}, {"use_dynamic_shifting": True}, {"use_karras_sigmas": True}, {"shift_terminal": 0.1}],
    ids=str,
)
def test_every_step_of_flow_matching_equals_diffusers(changes: dict[str, Any]) -> None:
    scheduler, schedule = make_schedule(10, "flow", **changes)
    expected = latents = torch.randn(2, 3, 4, 4)
    for step, timestep in enumerate(scheduler.timesteps):
        prediction = torch.randn(2, 3, 4, 4)
        expected = scheduler.step(prediction, timestep, expected).prev_sample
        latents = denoise(latents, prediction, schedule, step)
        assert schedule.evaluated_timestep(step) == float(timestep)
        # x0 and noise are summed again where Euler adds a difference: rounding of a few float32 units.
        torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)
    assert schedule.evaluated_timestep(10) == 0 == schedule.levels_after[-1].noise


@pytest.mark.parametrize("prediction_type", [*TYPES, "flow"])
def test_predictions_in_half_precision_are_stepped_in_float32(prediction_type: PredictionType) -> None:
    scheduler, schedule = make_schedule(10, prediction_type)
    latents, prediction = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4).bfloat16()
    expected = scheduler.step(prediction.float(), scheduler.timesteps[0], latents).prev_sample
    moved = denoise(latents, prediction, schedule, 0)
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)
    assert denoise(latents.double(), prediction, schedule, 0).dtype == torch.float64


@pytest.mark.parametrize("prediction_type", [*TYPES, "flow"])
def test_inversion_undoes_a_step_of_known_noise(prediction_type: PredictionType) -> None:
    scheduler, schedule = make_schedule(10, prediction_type)
    clean, noise = torch.randn(1, 3, 4, 4).double(), torch.randn(1, 3, 4, 4).double()
    if prediction_type == "flow":
        signals = [1 - sigma for sigma in scheduler.sigmas.double()]
        noises = list(scheduler.sigmas.double())
    else:
        levels = [*scheduler.timesteps.tolist(), 0]  # of the last one set_alpha_to_one=False makes timestep 0
        signals = [scheduler.alphas_cumprod[t].double() ** 0.5 for t in levels]
        noises = [(1 - scheduler.alphas_cumprod[t].double()) ** 0.5 for t in levels]
    latents = [s * clean + n * noise for s, n in zip(signals, noises, strict=True)]
    predicted = {
        "epsilon": [noise for _ in noises],
        "v_prediction": [s * noise - n * clean for s, n in zip(signals, noises, strict=True)],
        "flow": [noise - clean for _ in noises],
    }[prediction_type]
    for step in range(10):
        torch.testing.assert_close(denoise(latents[step], predicted[step], schedule, step), latents[step + 1])
        torch.testing.assert_close(invert(latents[step + 1], predicted[step + 1], schedule, step), latents[step])
        torch.testing.assert_close(clean_part(latents[step], predicted[step], schedule, step), clean)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_clean_part_is_what_diffusers_predicts(prediction_type: PredictionType) -> None:
    scheduler, schedule = make_schedule(10, prediction_type)
    latents, prediction = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    for step, timestep in enumerate(scheduler.timesteps):
        expected = scheduler.step(prediction, timestep, latents).pred_original_sample
        torch.testing.assert_close(clean_part(latents, prediction, schedule, step), expected, rtol=1e-4, atol=1e-4)


def test_a_prediction_of_another_kind_of_schedule_is_refused() -> None:
    flow, ddim = FlowMatchEulerDiscreteScheduler(), DDIMScheduler(**STABLE_DIFFUSION)
    flow.set_timesteps(4)
    ddim.set_timesteps(4)
    with pytest.raises(SamecastError, match="steps along flow; got prediction_type='epsilon'"):
        schedule_of(flow, "epsilon")
    with pytest.raises(SamecastError, match="steps along epsilon or v_prediction; got prediction_type='flow'"):
        schedule_of(ddim, "flow")
    drawn = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    drawn.set_timesteps(4)
    with pytest.raises(SamecastError, match="stochastic_sampling"):
        schedule_of(drawn, "flow")


@pytest.mark.parametrize(
    ("prediction_type", "changes"),
    [*((kind, changes) for kind in TYPES for changes in ({}, {"set_alpha_to_one": True})), ("flow", {"shift": 3.0})],
    ids=str,
)
def test_undo_solves_denoising_for_its_input(prediction_type: PredictionType, changes: dict[str, Any]) -> None:
    _, schedule = make_schedule(10, prediction_type, **changes)
    latents, prediction = torch.randn(1, 3, 4, 4).double(), torch.randn(1, 3, 4, 4).double()
    for step in range(10):
        after = denoise(latents, prediction, schedule, step)
        torch.testing.assert_close(undo(after, prediction, schedule, step), latents)
