"""DDIM (Song, Meng and Ermon, ICLR 2021): denoising by equation 12 with sigma = 0, and the same map run upward.

Levels: step j takes the latent from its noise level to that of step j+1; the last step ends on the clean latent. With
`alpha` the cumulative product (the paper's alpha, Ho et al.'s alpha-bar) and a predicted noise `eps`:

    x0     = (z - sqrt(1 - alpha) eps) / sqrt(alpha)
    z_next = sqrt(alpha_next) x0 + sqrt(1 - alpha_next) eps

Inversion needs the noise at a level it has not reached yet. *Matched* pairing takes it at the level it is on, so that
its evaluations are those of a source branch that replays the inversion; *MasaCtrl's* pairing tells the denoiser the
timestep it is heading for. Either is a first guess z of the level above, which fixed-point iterations z <- undo(eps(z))
refine (Pan et al., ICCV 2023, arXiv 2309.04907), for one more evaluation each.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class Schedule:
    """The noise levels of one run, in denoising order.

    Args:
        timesteps: the timestep of each step, descending (SD 1.x, 50 steps: 981, 961, .., 1).
        alphas: cumulative alpha of each step's input, in [0, 1].
        alphas_after: cumulative alpha of each step's output.
        clean_timestep: the timestep at which a clean latent is evaluated.
        prediction_type: what the denoiser predicts: the noise, or the velocity of Salimans and Ho (2022).
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    alphas_after: tuple[float, ...]
    clean_timestep: int
    prediction_type: PredictionType

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return len(self.timesteps)

    def is_identity(self, step: int) -> bool:
        """Whether a step changes nothing, as SD's last under steps_offset=0; such a step is skipped."""
        return self.alphas[step] == self.alphas_after[step]

    @property
    def working_steps(self) -> tuple[int, ...]:
        """The steps that are not the identity, ascending."""
        return tuple(step for step in range(self.steps) if not self.is_identity(step))

    def evaluated_timestep(self, step: int) -> int:
        """The timestep of a step's input; `steps` itself stands for the clean end."""
        return self.timesteps[step] if step < self.steps else self.clean_timestep


def denoise(
    latents: Float[Tensor, "branch channel height width"],
    prediction: Float[Tensor, "branch channel height width"],
    schedule: Schedule,
    step: int,
) -> Float[Tensor, "branch channel height width"]:
    """The output of `step`, from its input and the denoiser's prediction on it."""
    return _move(latents, prediction, schedule.alphas[step], schedule.alphas_after[step], schedule.prediction_type)


def invert(
    latents: Float[Tensor, "branch channel height width"],
    prediction: Float[Tensor, "branch channel height width"],
    schedule: Schedule,
    step: int,
) -> Float[Tensor, "branch channel height width"]:
    """The input of `step`, from its output and the denoiser's prediction on that (at either pairing's timestep)."""
    return _move(latents, prediction, schedule.alphas_after[step], schedule.alphas[step], schedule.prediction_type)


def undo(
    latents: Float[Tensor, "branch channel height width"],
    prediction: Float[Tensor, "branch channel height width"],
    schedule: Schedule,
    step: int,
) -> Float[Tensor, "branch channel height width"]:
    """The input of `step`, from its output and the denoiser's prediction on the input itself: `denoise`, solved for it.

    As nobody has that prediction yet, it is what a fixed-point iteration converges to.
    """
    alpha, alpha_after = schedule.alphas[step], schedule.alphas_after[step]
    signal, noise, signal_after, noise_after = (x**0.5 for x in (alpha, 1 - alpha, alpha_after, 1 - alpha_after))
    if schedule.prediction_type == "epsilon":
        return signal * (latents - noise_after * prediction) / signal_after + noise * prediction
    # denoise: latents = (signal signal_after + noise noise_after) z + (signal noise_after - noise signal_after) v
    drift = (signal * noise_after - noise * signal_after) * prediction
    return (latents - drift) / (signal * signal_after + noise * noise_after)


def _move(
    latents: Float[Tensor, "branch channel height width"],
    prediction: Float[Tensor, "branch channel height width"],
    alpha: float,
    alpha_next: float,
    prediction_type: PredictionType,
) -> Float[Tensor, "branch channel height width"]:
    if prediction_type == "epsilon":
        noise = prediction
        clean = (latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5
    else:
        noise = alpha**0.5 * prediction + (1 - alpha) ** 0.5 * latents
        clean = alpha**0.5 * latents - (1 - alpha) ** 0.5 * prediction
    return alpha_next**0.5 * clean + (1 - alpha_next) ** 0.5 * noise
