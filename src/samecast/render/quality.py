"""How well a photo survives: the autoencoder alone, and the inversion.

PSNR and SSIM always; LPIPS (Zhang et al., CVPR 2018) where it can be measured. Nothing is ever downloaded for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from samecast.core.quality import lpips_missing, peak_signal_to_noise, perceptual_distance, structural_similarity


@dataclass(frozen=True)
class Fidelity:
    """How close a picture comes to its reference.

    Args:
        psnr: in dB, over 8-bit values; infinite where they are equal.
        ssim: at most 1.
        lpips: 0 is equal; None where it cannot be measured here.
    """

    psnr: float
    ssim: float
    lpips: float | None

    def __str__(self) -> str:
        parts = [f"PSNR {self.psnr:.1f} dB", f"SSIM {self.ssim:.3f}"]
        return ", ".join(parts if self.lpips is None else [*parts, f"LPIPS {self.lpips:.3f}"])


def measure(references: Sequence[Image.Image], others: Sequence[Image.Image]) -> tuple[Fidelity, ...]:
    """Compares pictures with their references, pair by pair; all are RGB pictures of one size."""
    here = not lpips_missing()
    return tuple(
        Fidelity(
            peak_signal_to_noise(one, two),
            structural_similarity(one, two),
            perceptual_distance(one, two) if here else None,
        )
        for one, two in zip(references, others, strict=True)
    )
