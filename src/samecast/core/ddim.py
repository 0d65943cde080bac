"""Noise levels, and the step from one to another: DDIM and flow matching in one function, and the same run upward.

A latent is signal * x0 + noise * eps: at each level a share of the picture and a share of the noise. What a denoiser
predicts says what both are, and the next latent is their sum at the next level:

    z_next = signal_next x0 + noise_next eps

    predicted         epsilon               v_prediction           flow
    x0                (z - noise p)/signal  signal z - noise p     z - noise p
    eps               p                     noise z + signal p     z + signal p

With signal^2 + noise^2 = 1 that is DDIM (Song, Meng and Ermon, ICLR 2021, equation 12 with sigma = 0), for the velocity
of Salimans and Ho (2022) too. With signal = 1 - noise and the flow eps - x0 it is Euler's step for flow matching
(Lipman et al., ICLR 2023; Esser et al., arXiv 2403.03206): z_next = z + (noise_next - noise) p.

Step j takes the latent from its level to that of step j+1; the last step ends on the clean latent. Inversion needs the
noise at a level it has not reached yet. *Matched* pairing takes it at the level it is on, so that its evaluations are
those of a source branch that replays the inversion; *MasaCtrl's* pairing tells the denoiser the timestep it is heading
for. Either is a first guess z of the level above, which fixed-point iterations z <- undo(eps(z)) refine (Pan et al.,
ICCV 2023, arXiv 2309.04907), for one more evaluation each.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "flow"]


class NoiseLevel(NamedTuple):
    """How much of a latent is picture, and how much is noise.

    Args:
        signal: what x0 is multiplied with, 0 to 1.
        noise: what the noise is multiplied with, 0 to 1.
    """

    signal: float
    noise: float


@dataclass(frozen=True)
class Schedule:
    """The noise levels of one run, in denoising order.

    Args:
        timesteps: the timestep of each step, descending (SD 1.x, 50 steps: 981, 961, .., 1); whole in DDIM.
        levels: of each step's input.
        levels_after: of each step's output.
        clean_timestep: the timestep at which a clean latent is evaluated.
        prediction_type: what the denoiser predicts: the noise, the velocity, or the flow from picture to noise.
    """

    timesteps: tuple[int | float, ...]
    levels: tuple[NoiseLevel, ...]
    levels_after: tuple[NoiseLevel, ...]
    clean_timestep: int | float
    prediction_type: PredictionType

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return len(self.timesteps)

    def is_identity(self, step: int) -> bool:
        """Whether a step changes nothing, as SD's last under steps_offset=0; such a step is skipped."""
        return self.levels[step] == self.levels_after[step]

    @property
    def working_steps(self) -> tuple[int, ...]:
        """The steps that are not the identity, ascending."""
        return tuple(step for step in range(self.steps) if not self.is_identity(step))

    def evaluated_timestep(self, step: int) -> int | float:
        """The timestep of a step's input; `steps` itself stands for the clean end."""
        return self.timesteps[step] if step < self.steps else self.clean_timestep

    def last(self, steps: int) -> "Schedule":
        """The last so many steps, for a run that begins late."""
        begin = self.steps - steps
        return replace(
            self,
            timesteps=self.timesteps[begin:],
            levels=self.levels[begin:],
            levels_after=self.levels_after[begin:],
        )


def denoise(
    latents: Float[Tensor, "branch channel height width"],
    prediction: Float[Tensor, "branch channel height width"],
    schedule: Schedule,
    step: int,
) -> Float[Tensor, "branch channel height width"]:
    """The output of `step`, from its input and the denoiser's prediction on it."""
    return _move(latents, prediction, schedule.levels[step], schedule.levels_after[step], schedule.prediction_type)


def invert(
    latents: Float[Tensor, "branch channel height width"],
    prediction: Float[Tensor, "branch channel height width"],
    schedule: Schedule,
    step: int,
) -> Float[Tensor, "branch channel height width"]:
    """The input of `step`, from its output and the denoiser's prediction on that (at either pairing's timestep)."""
    return _move(latents, prediction, schedule.levels_after[step], schedule.levels[step], schedule.prediction_type)


def undo(
    latents: Float[Tensor, "branch channel height width"],
    prediction: Float[Tensor, "branch channel height width"],
    schedule: Schedule,
    step: int,
) -> Float[Tensor, "branch channel height width"]:
    """The input of `step`, from its output and the denoiser's prediction on the input itself: `denoise`, solved for it.

    As nobody has that prediction yet, it is what a fixed-point iteration converges to.
    """
    # A step is linear: its output is what it makes of (1, 0), times its input, and what it makes of (0, prediction).
    one_zero = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    levels = schedule.levels[step], schedule.levels_after[step]
    share = float(_move(*one_zero, *levels, schedule.prediction_type))
    return (latents - denoise(torch.zeros_like(latents), prediction, schedule, step)) / share


def clean_part(
    latents: Float[Tensor, "branch channel height width"],
    prediction: Float[Tensor, "branch channel height width"],
    schedule: Schedule,
    step: int,
) -> Float[Tensor, "branch channel height width"]:
    """x0 as the denoiser sees it in the input of `step`: what the picture would be if it were right."""
    return _parts(latents, prediction, schedule.levels[step], schedule.prediction_type)[0]


def _move(
    latents: Float[Tensor, "*shape"],
    prediction: Float[Tensor, "*shape"],
    level: NoiseLevel,
    level_after: NoiseLevel,
    prediction_type: PredictionType,
) -> Float[Tensor, "*shape"]:
    """From one level to another, in float32, or in what is finer of latents and prediction."""
    clean, noise = _parts(latents, prediction, level, prediction_type)
    return level_after.signal * clean + level_after.noise * noise


def _parts(
    latents: Float[Tensor, "*shape"],
    prediction: Float[Tensor, "*shape"],
    level: NoiseLevel,
    prediction_type: PredictionType,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """The picture and the noise that a prediction says are in latents."""
    precision = torch.promote_types(torch.promote_types(latents.dtype, prediction.dtype), torch.float32)
    z, p = latents.to(precision), prediction.to(precision)
    if prediction_type == "epsilon":
        return (z - level.noise * p) / level.signal, p
    if prediction_type == "v_prediction":
        return level.signal * z - level.noise * p, level.noise * z + level.signal * p
    return z - level.noise * p, z + level.signal * p
