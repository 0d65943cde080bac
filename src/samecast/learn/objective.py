"""The training loss: the denoiser's prediction error on photos and on class images.

Per photo, the mean squared error over the cells of the latent that show the photo (Custom Diffusion, section 3.2), plus
the prior weight times the error of its class image (DreamBooth, equation 2).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.core.noise import seeded_noise
from samecast.learn.draws import Shot
from samecast.learn.material import Material
from samecast.learn.settings import LearnSettings
from samecast.models.base import Backbone


class Objective:
    """The loss of a batch of samples.

    Args:
        backbone: the denoiser.
        material: latents and text embeddings of the samples.
        settings: training settings.
    """

    def __init__(self, backbone: Backbone, material: Material, settings: LearnSettings) -> None:
        self.backbone, self.material, self.settings = backbone, material, settings
        self.alphas = backbone.noise_levels()
        self.velocity = backbone.schedule(1).prediction_type == "v_prediction"

    def __call__(self, samples: Sequence[Sequence[Shot]]) -> Float[Tensor, ""]:
        """The sum over samples, each a photo and, with prior preservation, a class image; one denoiser call for all
        rows."""
        shots = [shot for sample in samples for shot in sample]
        device = self.material.device
        shape = self.backbone.latent_shape(self.material.size, self.material.size)
        latents = torch.stack([self.material.latent(shot) for shot in shots]).to(device)
        noise = torch.stack([seeded_noise(shape, shot.noise_seed) for shot in shots]).to(device)
        timesteps = torch.tensor([shot.timestep for shot in shots])
        alphas = self.alphas[timesteps].to(device)[:, None, None, None]
        noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        with self.material.computing():
            texts = self.material.texts(shots)
            found = self.backbone.predict(noisy, timesteps.to(device), texts)
        sought = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents if self.velocity else noise
        valid = torch.stack([self.material.valid(shot) for shot in shots]).to(device)[:, None]
        squared = (found - sought).square() * valid
        per_row = squared.sum((1, 2, 3)) / (valid.sum((1, 2, 3)) * latents.shape[1])
        weights = [self.settings.prior_weight if shot.of_class else 1.0 for shot in shots]
        return per_row @ torch.tensor(weights, device=device)
