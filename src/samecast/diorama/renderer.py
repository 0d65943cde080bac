"""The renderer: a spec becomes pixels and the exact mask of its subject.

One sample per pixel first; pixels that differ from a neighbour (in colour or in what they hit) get the full n x n grid,
so edges are supersampled and flat areas cost one ray. Everything is compiled by numba and releases the interpreter
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

from samecast.diorama.backdrops import palette
from samecast.diorama.bodies import build
from samecast.diorama.colours import linear_from_lab, linear_from_srgb
from samecast.diorama.march import bounding_box
from samecast.diorama.scenes import BACKGROUNDS, PATTERNS, Spec
from samecast.diorama.shading import draw

PARTS = ("scene", "base", "second", "accessory", "dark", "orange", "shine")
"""What a pixel can show: the scene, or a part of the subject in its base, second or accessory colour, or in one that
every subject shares."""

_YAW = {"right": 0.0, "left": 180.0, "front": -90.0}
_FIXED = linear_from_srgb(np.array([[24, 22, 26], [240, 148, 40], [252, 252, 252]]) / 255)
_HEIGHT = 0.82


@dataclass(frozen=True)
class Picture:
    """A render: `image` uint8 (height, width, 3) sRGB; `mask` bool (height, width), true on the subject; and what each
    pixel's centre shows, `parts` uint8 (height, width), an index into `PARTS`."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    parts: NDArray[np.uint8]


def render(spec: Spec, size: int = 128, supersampling: int = 2) -> Picture:
    """Draw a spec at `size` x `size` pixels; the same spec, size and supersampling give the same pixels.

    Raises:
        ValueError: if size is under 8 or supersampling under 1.
    """
    if size < 8 or supersampling < 1:
        raise ValueError(f"size must be at least 8 and supersampling at least 1, got {size} and {supersampling}")
    identity, scene = spec.identity, spec.scene
    parts = build(identity, scene.pose)
    albedo = linear_from_lab(np.array([identity.base, identity.second, identity.accessory_colour]))
    materials = np.ascontiguousarray(np.concatenate([np.clip(albedo, 0.0, 1.0), _FIXED]))
    yaw = np.radians(_YAW[scene.view] + scene.turn)
    away = 2.9 + 0.8 * scene.distance
    pitch = np.arctan((_HEIGHT - 0.54) / away)
    camera = np.array(
        [-scene.shift, _HEIGHT, away, cos(pitch), sin(pitch), cos(yaw), sin(yaw), scene.variation], dtype=np.float64
    )
    sun = np.array([scene.sun * 0.75, -0.62, 0.95])
    sun /= np.linalg.norm(sun)
    light = np.array([cos(yaw) * sun[0] + sin(yaw) * sun[1], -sin(yaw) * sun[0] + cos(yaw) * sun[1], sun[2]])
    look = np.array(
        [PATTERNS.index(identity.pattern), identity.pattern_scale, identity.pattern_phase], dtype=np.float64
    )
    image = np.empty((size, size, 3), dtype=np.uint8)
    mask = np.empty((size, size), dtype=np.bool_)
    hit = np.empty((size, size), dtype=np.uint8)
    style = BACKGROUNDS.index(scene.background)
    colours = palette(scene.background)
    draw(
        parts,
        bounding_box(parts),
        colours,
        materials,
        style,
        look,
        camera,
        light,
        size,
        supersampling,
        image,
        mask,
        hit,
    )
    return Picture(image, mask, hit)


def render_many(
    specs: Iterable[Spec], size: int = 128, supersampling: int = 2, threads: int | None = None
) -> Iterator[Picture]:
    """Draw many specs in order, on all cores unless told otherwise."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        yield from pool.map(partial(render, size=size, supersampling=supersampling), specs)
