# pyright: basic
# (numba compiles these for the argument types of their calls; annotations have no effect)
"""Backdrops: sky and ground of each background, as functions of direction and of place.

The palette is written in sRGB and used in linear light. Patterns fade with distance, so that they do not alias. Light
is near white in every background, so that a subject's colours stay readable.
"""

from math import exp, floor, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from samecast.diorama.colours import linear_from_srgb
from samecast.diorama.compiled import njit
from samecast.diorama.march import hash3
from samecast.diorama.scenes import BACKGROUNDS

_PALETTES: dict[str, str] = {
    #          sky      horizon  ground   ground2  far      extra    light    ambient
    "grass": "5aa7ea   cfe8f7   62ad3c   4f9832   3f8a52   ffffff   fffaf0   a9bccb",
    "beach": "4fb0ee   d8f1fb   f0dca4   e3c98a   1d8fc4   ffffff   fffaf0   b4bcc4",
    "snow": "a9b9de   e9edf7   f3f5fb   dbe3f1   8f9dbd   ffffff   fdfcff   b2b8c8",
    "night": "0d1238   27336b   22325a   1b294c   131b3d   fff6d8   d3dcff   8a92bd",
    "desert": "e8794a   fbd08c   e2a155   d08c44   b4603c   fff3c4   fff4e2   bdb0a6",
    "forest": "16361f   2c5a2c   5b4a2c   4a5a2a   3a2a1c   3f7a35   f6fbe6   8f9c8a",
    "lake": "7fb2de   e3ebef   3f86b8   2f74a8   5d7f93   ffffff   fffaf2   a8bac8",
    "room": "e6d3b1   dcc49c   b98350   8f5d36   f6efe2   a44a3f   fff7ea   b6afa6",
}


def palette(background: str) -> NDArray[np.float64]:
    """Return a background's colours in linear RGB, shape (8, 3), in the order of the table's header."""
    codes = _PALETTES[background].split()
    srgb = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in codes]) / 255
    return np.ascontiguousarray(linear_from_srgb(srgb))


GRASS, BEACH, SNOW, NIGHT, DESERT, FOREST, LAKE, ROOM = range(len(BACKGROUNDS))


@njit(cache=True, fastmath=True, nogil=True)
def _smooth(low, high, value):
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True, fastmath=True, nogil=True)
def _over(under, colour, share):
    return (
        under[0] + (colour[0] - under[0]) * share,
        under[1] + (colour[1] - under[1]) * share,
        under[2] + (colour[2] - under[2]) * share,
    )


@njit(cache=True, fastmath=True, nogil=True)
def _cloud(across, up, variation):
    cover = 0.0
    for i in range(4):
        cx = (hash3(i, 7.0, floor(variation * 64.0)) - 0.5) * 1.5
        cy = 0.10 + 0.035 * i + 0.04 * hash3(i, 3.0, floor(variation * 64.0))
        for j in range(3):
            px = (across - cx - 0.07 * (j - 1)) / (0.085 - 0.02 * abs(j - 1))
            py = (up - cy) / (0.026 + 0.008 * (1 - abs(j - 1)))
            cover = max(cover, 1.0 - px * px - py * py)
    return _smooth(0.0, 0.5, cover) * 0.85


@njit(cache=True, fastmath=True, nogil=True)
def sky(style, colours, across, up, variation):  # noqa: C901 - one compiled kernel, a branch per background
    """Return the linear colour of a direction: `across` is its tangent to the side, `up` its elevation's (>= 0)."""
    colour = _over((colours[1, 0], colours[1, 1], colours[1, 2]), colours[0], _smooth(0.0, 0.42, up))
    wave = variation * 6.2832
    if style in (GRASS, BEACH):
        colour = _over(colour, colours[5], _cloud(across, up, variation))
        if style == GRASS:
            hill = 0.045 + 0.028 * sin(across * 4.0 + wave) + 0.012 * sin(across * 9.0 + 2.0 * wave)
            colour = _over(colour, colours[4], _smooth(0.004, -0.004, up - hill))
    elif style in (SNOW, LAKE):
        tooth = abs((across * 1.7 + variation * 2.0) % 1.0 - 0.5) * 2.0
        small = abs((across * 4.1 + variation * 3.0) % 1.0 - 0.5) * 2.0
        peak = 0.05 + 0.13 * tooth + 0.025 * small
        rock = _over((colours[4, 0], colours[4, 1], colours[4, 2]), colours[1], 0.15)
        capped = _over(rock, colours[5], _smooth(0.095, 0.115, up + 0.02 * small) * 0.9)
        colour = _over(colour, capped, _smooth(0.004, -0.004, up - peak))
    elif style == NIGHT:
        cx, cy = floor(across * 30.0), floor(up * 30.0)
        bright = hash3(cx, cy, 1.0)
        px = across * 30.0 - cx - 0.3 - 0.4 * hash3(cx, cy, 2.0)
        py = up * 30.0 - cy - 0.3 - 0.4 * hash3(cx, cy, 3.0)
        if bright > 0.72:
            colour = _over(colour, colours[5], _smooth(0.16, 0.05, sqrt(px * px + py * py)) * bright)
        mx, my = across - (variation - 0.5) * 0.5, up - 0.155
        away = sqrt(mx * mx + my * my)
        colour = _over(colour, colours[5], 0.25 * exp(-away * 14.0))
        colour = _over(colour, colours[5], _smooth(0.045, 0.040, away))
        hill = 0.035 + 0.02 * sin(across * 5.0 + wave)
        colour = _over(colour, colours[4], _smooth(0.004, -0.004, up - hill))
    elif style == DESERT:
        mx, my = across - (variation - 0.5) * 0.5, up - 0.135
        away = sqrt(mx * mx + my * my)
        colour = _over(colour, colours[5], 0.5 * exp(-away * 9.0))
        colour = _over(colour, colours[5], _smooth(0.065, 0.059, away))
        mesa = 0.085 * _smooth(0.25, 0.40, sin(across * 3.4 + wave)) + 0.022 + 0.012 * sin(across * 6.0 + 2.0 * wave)
        colour = _over(colour, colours[4], _smooth(0.004, -0.004, up - mesa) * 0.85)
    elif style == FOREST:
        for layer in range(2):
            width = 0.115 + 0.055 * layer
            at = across / width + variation * 5.0 + layer * 0.37
            cell = floor(at)
            middle = 0.5 + 0.3 * (hash3(cell, layer, 5.0) - 0.5)
            thick = 0.14 + 0.10 * hash3(cell, layer, 9.0) - up * 0.08
            trunk = _smooth(0.03, -0.01, abs(at - cell - middle) - thick)
            tone = _over((colours[1, 0], colours[1, 1], colours[1, 2]), colours[4], 0.55 + 0.45 * layer)
            colour = _over(colour, tone, trunk)
        leaf = 0.5 + 0.25 * sin(across * 23.0 + wave) + 0.25 * sin(across * 41.0 + up * 37.0)
        colour = _over(colour, colours[5], _smooth(0.12, 0.24, up + 0.05 * leaf) * (0.55 + 0.35 * leaf))
        bush = 0.030 + 0.018 * sin(across * 17.0 + wave) + 0.010 * sin(across * 37.0)
        colour = _over(colour, colours[5], _smooth(0.004, -0.004, up - bush) * 0.7)
    else:  # a room: papered wall, skirting board, a framed picture
        stripe = _smooth(-0.15, 0.15, sin(across * 46.0 + wave)) * 0.5
        colour = _over((colours[0, 0], colours[0, 1], colours[0, 2]), colours[1], stripe)
        fx, fy = abs(across - (variation - 0.5) * 0.9), abs(up - 0.235)
        if fx < 0.12 and fy < 0.085:
            colour = (colours[3, 0], colours[3, 1], colours[3, 2])
            if fx < 0.102 and fy < 0.067:
                colour = _over(
                    (colours[4, 0], colours[4, 1], colours[4, 2]), colours[5], _smooth(0.0, 0.02, 0.045 - fx)
                )
        colour = _over(colour, colours[4], _smooth(0.002, -0.002, up - 0.042))
    return colour


@njit(cache=True, fastmath=True, nogil=True)
def ground(style, colours, x, y, variation):
    """Return the linear colour of the ground at a place (world units; the camera looks along +y)."""
    near = (colours[2, 0], colours[2, 1], colours[2, 2])
    wave = variation * 6.2832
    depth = max(y + 3.0, 0.0)
    fade = exp(-depth * 0.16)
    if style == ROOM:
        board = floor(x * 1.6 + variation) + floor(y * 1.6)
        colour = _over(near, colours[3], 0.75 * (board % 2.0))
        return _over(colour, colours[2], 1.0 - _smooth(0.0, 0.6, fade))
    if style == BEACH:
        shore = 2.6 + 0.25 * sin(x * 0.7 + wave) + 0.08 * sin(x * 2.3)
        ripple = 0.5 + 0.5 * sin(y * 7.0 + 1.2 * sin(x * 1.7 + wave))
        colour = _over(near, colours[3], 0.35 * ripple * fade)
        colour = _over(colour, colours[3], _smooth(0.7, 0.0, shore - y) * 0.8)
        sea = _over((colours[4, 0], colours[4, 1], colours[4, 2]), colours[1], 0.45 * _smooth(4.0, 30.0, y))
        colour = _over(colour, sea, _smooth(-0.05, 0.05, y - shore))
        return _over(colour, colours[5], 0.9 * _smooth(0.16, 0.03, abs(y - shore - 0.05)))
    if style == DESERT:
        ripple = 0.5 + 0.5 * sin(y * 5.0 + 1.6 * sin(x * 1.3 + wave) + 0.6 * x)
        colour = _over(near, colours[3], 0.7 * ripple * fade)
        return _over(colour, colours[1], 0.35 * _smooth(2.0, 30.0, y))
    if style == LAKE:
        ripple = sin(y * 9.0 + 0.8 * sin(x * 2.1 + wave)) * sin(x * 1.1 + y * 2.3 + wave)
        colour = _over(near, colours[3], _smooth(-0.2, 0.9, ripple) * fade)
        colour = _over(colour, colours[5], 0.45 * _smooth(0.72, 0.98, ripple) * fade)
        return _over(colour, colours[1], 0.55 * _smooth(0.5, 26.0, y))
    blotch = sin(x * 2.3 + wave) * sin(y * 1.9 + 1.7 * wave) + 0.6 * sin(x * 5.1 - y * 3.3 + wave)
    colour = _over(near, colours[3], _smooth(-0.5, 0.9, blotch) * (0.35 + 0.65 * fade))
    if style in (FOREST, NIGHT):
        return _over(colour, colours[4], 0.6 * _smooth(1.0, 16.0, y))
    return _over(colour, colours[1], 0.25 * _smooth(3.0, 40.0, y))
