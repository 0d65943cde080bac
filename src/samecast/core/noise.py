"""Where a target starts: seeded noise, an inverted latent, or a blend on the sphere between them."""

import torch
from jaxtyping import Float
from torch import Tensor


def seeded_noise(shape: tuple[int, int, int], seed: int) -> Float[Tensor, "channel height width"]:
    """Standard normal noise of one image, from its own generator on the CPU.

    One generator per image makes an image independent of its batch; the CPU makes it independent of the device. It is
    what stock diffusers draws for one image with `torch.Generator("cpu").manual_seed(seed)` in float32.

    Args:
        shape: (channel, height, width) of the latent.
        seed: any integer 0..2^64-1.
    """
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


def spherical_blend(
    first: Float[Tensor, "channel height width"], second: Float[Tensor, "channel height width"], share: float
) -> Float[Tensor, "channel height width"]:
    """Spherical interpolation (Shoemake 1985), exact at both ends.

    A straight line between two nearly orthogonal noises passes through latents of too small a norm, which the denoiser
    takes for washed-out images; the arc does not.

    Args:
        share: 0 returns `first`, 1 returns `second`.
    """
    if share == 0:
        return first
    if share == 1:
        return second
    cosine = torch.nn.functional.cosine_similarity(first.flatten().double(), second.flatten().double(), dim=0)
    angle = torch.arccos(cosine.clamp(-1, 1))
    if torch.sin(angle) < 1e-6:
        return torch.lerp(first, second, share)
    weight_first = (torch.sin((1 - share) * angle) / torch.sin(angle)).to(first)
    weight_second = (torch.sin(share * angle) / torch.sin(angle)).to(first)
    return weight_first * first + weight_second * second
