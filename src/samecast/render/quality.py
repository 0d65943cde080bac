"""How well a photo survives: the autoencoder alone, and the inversion.

PSNR and SSIM always; LPIPS (Zhang et al., CVPR 2018) where torchmetrics, torchvision and AlexNet's weights are present
already. Nothing is ever downloaded for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor

from samecast.core.quality import peak_signal_to_noise, structural_similarity


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
    return tuple(
        Fidelity(peak_signal_to_noise(one, two), structural_similarity(one, two), _lpips(one, two))
        for one, two in zip(references, others, strict=True)
    )


@cache
def lpips_missing() -> str:
    """What LPIPS would need that is not here; empty where it can be measured."""
    for library in ("torchmetrics", "torchvision"):
        if find_spec(library) is None:
            return f"{library} is not installed"
    url = str(import_module("torchvision.models").AlexNet_Weights.DEFAULT.url)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    return "" if file.is_file() else f"AlexNet's weights ({file.name}) are not in torch's cache"


def _lpips(reference: Image.Image, other: Image.Image) -> float | None:
    if lpips_missing():
        return None
    pair = [_pixels(image) for image in (reference, other)]
    return float(_network()(*pair))


@cache
def _network() -> Any:
    metrics: Any = import_module("torchmetrics.image.lpip")
    return metrics.LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


def _pixels(image: Image.Image) -> Tensor:
    values = torch.from_numpy(numpy.asarray(image.convert("RGB"), dtype=numpy.float32) / 255)
    return values.permute(2, 0, 1)[None]
