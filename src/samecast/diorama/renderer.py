"""The renderer: draws a spec as pixels with the exact mask of its subject.

Each pixel is sampled once; pixels that differ from a neighbour (in colour or in the object hit) get the full n x n
grid, so edges are supersampled and flat areas cost one ray. numba compiles the code, which releases the interpreter
lock: `render_many` runs on all cores.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import cos, sin

import numpy as np
from numpy.typing import NDArray

from samecast.diorama.bodies import build
from samecast.diorama.colours import linear_from_lab, linear_from_srgb
from samecast.diorama.scenes import BACKGROUNDS, PATTERNS, Duo, Spec

PARTS = ("scene", "base", "second", "accessory", "dark", "orange", "shine")
"""The classes of a pixel: the scene, or a part of the subject in its base, second or accessory colour, or in a colour
shared by all subjects."""

_YAW = {"right": 0.0, "left": 180.0, "front": -90.0}
_FIXED = linear_from_srgb(np.array([[24, 22, 26], [240, 148, 40], [252, 252, 252]]) / 255)
_HEIGHT, _MIDDLE = 0.82, 0.54  # heights of the camera and of its target
_FOCAL = 3.1


@dataclass(frozen=True)
class Picture:
    """A render: `image` uint8 (height, width, 3) sRGB; `mask` bool (height, width), true on the subject; and `parts`
    uint8 (height, width), the class of each pixel's centre as an index into `PARTS`."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    parts: NDArray[np.uint8]


def render(spec: Spec, size: int = 128, supersampling: int = 2) -> Picture:
    """Draw a spec at `size` x `size` pixels; the same spec, size and supersampling give the same pixels.

    Raises:
        ValueError: size is under 8 or supersampling under 1.
    """
    return _drawn(spec, _Canvas(size, supersampling))


def render_duo(duo: Duo, size: int = 128, supersampling: int = 2) -> Picture:
    """Draw two subjects in one scene, twice as wide as high: `size` x `2 * size` pixels, each subject in its half.

    The camera is twice as far away as for one subject, with twice the focal length. Each subject is drawn alone into
    the same scene, and the other one's effect on the ground (shadow and reflection) is added.

    Raises:
        ValueError: size is under 8 or supersampling under 1.
    """
    left, right, empty = (
        _drawn(spec, _Canvas(size, supersampling, wide=True, side=side, empty=side == 0))
        for spec, side in ((duo.left, -1), (duo.right, 1), (duo.left, 0))
    )
    image = left.image.astype(np.int16) + right.image - empty.image
    for alone in (left, right):
        image[alone.mask] = alone.image[alone.mask]
    parts = np.where(left.mask, left.parts, right.parts)
    return Picture(np.clip(image, 0, 255).astype(np.uint8), left.mask | right.mask, parts)


@dataclass(frozen=True)
class _Canvas:
    """The canvas: side in pixels, rays per side of a pixel, whether it is for two subjects, the subject's half (-1
    left, 1 right), and whether to leave the subject out."""

    size: int
    supersampling: int
    wide: bool = False
    side: int = 0
    empty: bool = False

    def __post_init__(self) -> None:
        if self.size < 8 or self.supersampling < 1:
            raise ValueError(
                f"size must be at least 8 and supersampling at least 1, got {self.size} and {self.supersampling}"
            )


def _drawn(spec: Spec, canvas: _Canvas) -> Picture:
    from samecast.diorama.backdrops import palette
    from samecast.diorama.march import bounding_box
    from samecast.diorama.shading import draw

    identity, scene = spec.identity, spec.scene
    parts = build(identity, scene.pose)
    albedo = linear_from_lab(np.array([identity.base, identity.second, identity.accessory_colour]))
    materials = np.ascontiguousarray(np.concatenate([np.clip(albedo, 0.0, 1.0), _FIXED]))
    zoom = 2.0 if canvas.wide else 1.0
    away = (2.9 + 0.8 * scene.distance) * zoom
    height, focal = _MIDDLE + (_HEIGHT - _MIDDLE) * zoom, _FOCAL * zoom
    pitch = np.arctan((height - _MIDDLE) / away)
    aside = canvas.side * away / focal  # the middle of its half; the subject is turned back by the viewing angle
    place, eye = (aside + scene.shift, 0.0) if canvas.wide else (0.0, -scene.shift)
    yaw = np.radians(_YAW[scene.view] + scene.turn) - np.arctan(aside / away)
    camera = np.array(
        [eye, height, away, cos(pitch), sin(pitch), cos(yaw), sin(yaw), scene.variation, focal, place], dtype=np.float64
    )
    sun = np.array([scene.sun * 0.75, -0.62, 0.95])
    sun /= np.linalg.norm(sun)
    light = np.array([cos(yaw) * sun[0] + sin(yaw) * sun[1], -sin(yaw) * sun[0] + cos(yaw) * sun[1], sun[2]])
    look = np.array(
        [PATTERNS.index(identity.pattern), identity.pattern_scale, identity.pattern_phase], dtype=np.float64
    )
    shape = (canvas.size, canvas.size * (2 if canvas.wide else 1))
    image, mask = np.empty((*shape, 3), dtype=np.uint8), np.empty(shape, dtype=np.bool_)
    hit = np.empty(shape, dtype=np.uint8)
    draw(
        parts[:0] if canvas.empty else parts,
        bounding_box(parts),
        palette(scene.background),
        materials,
        BACKGROUNDS.index(scene.background),
        look,
        camera,
        light,
        canvas.supersampling,
        image,
        mask,
        hit,
    )
    return Picture(image, mask, hit)


def render_many(
    specs: Iterable[Spec], size: int = 128, supersampling: int = 2, threads: int | None = None
) -> Iterator[Picture]:
    """Draw many specs in order, on all cores by default."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        yield from pool.map(partial(render, size=size, supersampling=supersampling), specs)
