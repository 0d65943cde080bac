"""Colours: sRGB, CIE Lab (D65, 2 degrees), the CIEDE2000 difference, and the eleven basic colour words.

Identities have arbitrary Lab colours, but words name only the nearest basic colour (Berlin and Kay, 1969), so a prompt
cannot fully specify a subject. CIEDE2000 follows Sharma, Wu and Dalal (2005); the tests use their test pairs.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

XYZ_FROM_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
RGB_FROM_XYZ = np.linalg.inv(XYZ_FROM_RGB)
WHITE = XYZ_FROM_RGB.sum(axis=1)
"""XYZ of D65 white; above, the matrix from linear sRGB."""


def linear_from_srgb(srgb: ArrayLike) -> FloatArray:
    """Decode sRGB in 0..1 (any shape) to linear light in 0..1."""
    value = np.asarray(srgb, dtype=np.float64)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(linear: ArrayLike) -> FloatArray:
    """Encode linear light (clipped to 0..1, any shape) as sRGB in 0..1."""
    value = np.clip(np.asarray(linear, dtype=np.float64), 0.0, 1.0)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


def lab_from_linear(linear: ArrayLike) -> FloatArray:
    """Convert linear RGB, shape (..., 3) in 0..1, to Lab: L in 0..100, a and b in about -128..128."""
    ratio = np.asarray(linear, dtype=np.float64) @ XYZ_FROM_RGB.T / WHITE
    delta = 6 / 29
    f = np.where(ratio > delta**3, np.cbrt(ratio), ratio / (3 * delta**2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def linear_from_lab(lab: ArrayLike) -> FloatArray:
    """Convert Lab, shape (..., 3), to linear RGB; out-of-gamut colours leave 0..1."""
    value = np.asarray(lab, dtype=np.float64)
    fy = (value[..., 0] + 16) / 116
    f = np.stack([fy + value[..., 1] / 500, fy, fy - value[..., 2] / 200], axis=-1)
    delta = 6 / 29
    xyz = np.where(f > delta, f**3, 3 * delta**2 * (f - 4 / 29)) * WHITE
    return xyz @ RGB_FROM_XYZ.T


def lab_from_srgb(srgb: ArrayLike) -> FloatArray:
    """Convert sRGB, shape (..., 3) in 0..1, to Lab."""
    return lab_from_linear(linear_from_srgb(srgb))


def ciede2000(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Return the CIEDE2000 difference of two Lab arrays, shape (..., 3) each, broadcast; about 2 is just visible."""
    lab1, lab2 = np.broadcast_arrays(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    mean_chroma = (np.hypot(lab1[..., 1], lab1[..., 2]) + np.hypot(lab2[..., 1], lab2[..., 2])) / 2
    g = 0.5 * (1 - np.sqrt(mean_chroma**7 / (mean_chroma**7 + 25.0**7)))
    a1, a2 = (1 + g) * lab1[..., 1], (1 + g) * lab2[..., 1]
    c1, c2 = np.hypot(a1, lab1[..., 2]), np.hypot(a2, lab2[..., 2])
    h1 = np.degrees(np.arctan2(lab1[..., 2], a1)) % 360
    h2 = np.degrees(np.arctan2(lab2[..., 2], a2)) % 360
    grey = c1 * c2 == 0
    turn = h2 - h1
    turn = np.where(grey, 0.0, turn - 360 * (turn > 180) + 360 * (turn < -180))
    delta_l, delta_c = lab2[..., 0] - lab1[..., 0], c2 - c1
    delta_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    mean_l, mean_c, total = (lab1[..., 0] + lab2[..., 0]) / 2, (c1 + c2) / 2, h1 + h2
    wrapped = np.where(total < 360, total + 360, total - 360) / 2
    mean_h = np.where(grey, total, np.where(np.abs(h1 - h2) <= 180, total / 2, wrapped))
    t = (
        1
        - 0.17 * np.cos(np.radians(mean_h - 30))
        + 0.24 * np.cos(np.radians(2 * mean_h))
        + 0.32 * np.cos(np.radians(3 * mean_h + 6))
        - 0.20 * np.cos(np.radians(4 * mean_h - 63))
    )
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    r_c = 2 * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7))
    r_t = -r_c * np.sin(np.radians(60 * np.exp(-(((mean_h - 275) / 25) ** 2))))
    x, y, z = delta_l / s_l, delta_c / s_c, delta_h / s_h
    return np.sqrt(np.maximum(x * x + y * y + z * z + r_t * y * z, 0.0))


PROTOTYPES: dict[str, tuple[int, int, int]] = {
    "red": (200, 38, 36),
    "orange": (236, 124, 28),
    "yellow": (242, 208, 56),
    "green": (58, 148, 62),
    "blue": (46, 92, 196),
    "purple": (122, 62, 164),
    "pink": (240, 150, 186),
    "brown": (118, 72, 42),
    "black": (38, 38, 42),
    "white": (238, 238, 234),
    "grey": (138, 140, 146),
}
"""The centre of each colour word, in 8-bit sRGB."""

COLOUR_WORDS = tuple(PROTOTYPES)
PROTOTYPE_LABS: FloatArray = lab_from_srgb(np.array(list(PROTOTYPES.values())) / 255)


def colour_word(lab: ArrayLike) -> str:
    """Return the basic colour word nearest to a Lab colour, shape (3,)."""
    return COLOUR_WORDS[int(np.argmin(ciede2000(PROTOTYPE_LABS, lab)))]


def word_margin(lab: ArrayLike) -> float:
    """Return the margin of a Lab colour's word in CIEDE2000: distance to the second nearest minus nearest centre."""
    nearest = np.sort(ciede2000(PROTOTYPE_LABS, lab))
    return float(nearest[1] - nearest[0])
