"""How close two pictures are, pixel by pixel."""

import math

import numpy
from PIL import Image


def peak_signal_to_noise(reference: Image.Image, other: Image.Image) -> float:
    """PSNR in dB of two RGB pictures of one size, over 8-bit values; infinite where they are equal."""
    difference = numpy.asarray(reference, dtype=numpy.float64) - numpy.asarray(other, dtype=numpy.float64)
    error = float(numpy.mean(difference**2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
