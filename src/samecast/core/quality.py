"""How close two pictures are: pixel by pixel, and to a network that was trained to see as people do."""

import math
import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image

from samecast.errors import SamecastError

_WINDOW, _DEVIATION = 11, 1.5


def peak_signal_to_noise(reference: Image.Image, other: Image.Image) -> float:
    """PSNR in dB of two RGB pictures of one size, over 8-bit values; infinite where they are equal."""
    difference = numpy.asarray(reference, dtype=numpy.float64) - numpy.asarray(other, dtype=numpy.float64)
    error = float(numpy.mean(difference**2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def structural_similarity(reference: Image.Image, other: Image.Image) -> float:
    """SSIM (Wang et al. 2004) of two RGB pictures of one size, at most 1; the mean over channels and pixels.

    With the paper's window, a Gaussian of 11 pixels and deviation 1.5, wherever it fits in full, and its constants.

    Raises:
        ValueError: a side is shorter than the window.
    """
    first, second = (_channels(image) for image in (reference, other))
    if min(first.shape[1:]) < _WINDOW:
        raise ValueError(f"SSIM needs sides of {_WINDOW} pixels or more; got {first.shape[2]} x {first.shape[1]}")
    mean_first, mean_second = _blur(first), _blur(second)
    variance_first = _blur(first**2) - mean_first**2
    variance_second = _blur(second**2) - mean_second**2
    covariance = _blur(first * second) - mean_first * mean_second
    small, smaller = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_first * mean_second + small) / (mean_first**2 + mean_second**2 + small)
    structure = (2 * covariance + smaller) / (variance_first + variance_second + smaller)
    return float((luminance * structure).mean())


@cache
def lpips_missing() -> str:
    """What LPIPS would need that is not here; empty where it can be measured. Nothing is ever downloaded for it."""
    import torch

    for library in ("lpips", "torchvision"):
        if find_spec(library) is None:
            return f"{library} is not installed (pip install 'samecast[lpips]')"
    try:
        url = str(import_module("torchvision.models").AlexNet_Weights.DEFAULT.url)
    except (ImportError, RuntimeError, OSError) as error:  # made for another torch
        return f"torchvision cannot be imported ({' '.join(str(error).split())})"
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    return "" if file.is_file() else f"AlexNet's weights ({file.name}) are not in torch's cache ({file.parent})"


def perceptual_distance(reference: Image.Image, other: Image.Image) -> float:
    """LPIPS (Zhang et al., CVPR 2018) of two RGB pictures of one size, with AlexNet; 0 is equal.

    Raises:
        SamecastError: what it needs is not here.
    """
    import torch

    if lpips_missing():
        raise SamecastError(f"LPIPS cannot be measured here: {lpips_missing()}")
    pair = [torch.from_numpy(_channels(image) / 255).float()[None] for image in (reference, other)]
    with torch.inference_mode():
        return float(_network()(*pair, normalize=True))


@cache
def _network() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package asks torchvision for weights by an option of old
        return import_module("lpips").LPIPS(net="alex", verbose=False)


def _channels(image: Image.Image) -> NDArray[numpy.float64]:
    return numpy.moveaxis(numpy.asarray(image.convert("RGB"), dtype=numpy.float64), -1, 0)


def _blur(values: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """The window's weighted mean at each place where it fits, for (channel, height, width)."""
    at = numpy.arange(_WINDOW) - _WINDOW // 2
    weights = numpy.exp(-(at**2) / (2 * _DEVIATION**2))
    weights /= weights.sum()
    for axis in (1, 2):
        values = numpy.lib.stride_tricks.sliding_window_view(values, _WINDOW, axis=axis) @ weights
    return values
