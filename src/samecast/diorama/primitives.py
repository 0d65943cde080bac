"""Primitives of bodies: signed distances in the subject's own frame.

The subject stands at the origin, faces +x, its left is +y, up is +z, and one unit is about its height. Each row of the
table is one primitive (Quilez, "Distance functions"); soft ones blend into each other, hard ones (eyes, hats) lie on
top.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CONE, BOX, CUP, RING, BALL = range(5)
BASE, SECOND, ACCESSORY, DARK, ORANGE, SHINE = range(6)

COLUMNS = 17
"""kind, a (3), b (3), first radius, second radius, blend radius (0: hard), material, offset along the pattern, inverse
squared length; then a sphere that holds the primitive's influence: centre (3), radius. For a cone b is relative to a;
for an ellipsoid b holds the inverse radii."""

Vector = tuple[float, float, float]


@dataclass
class Body:
    """A table under construction; `rows` are primitives in the layout of `COLUMNS`."""

    rows: list[list[float]] = field(default_factory=list[list[float]])

    def _add(
        self, kind: int, a: Vector, b: Vector, r1: float, r2: float, blend: float, material: int, at: float
    ) -> None:
        centre, reach = a, max(r1, r2)
        if kind == CONE:
            along = (b[0] - a[0], b[1] - a[1], b[2] - a[2])
            length = float(np.sqrt(along[0] ** 2 + along[1] ** 2 + along[2] ** 2))
            centre, reach, b = towards(a, b, 0.5), reach + length / 2, along
        elif kind == BOX:
            reach = float(np.linalg.norm(b)) + r1
        elif kind == CUP:
            centre, reach = (a[0], a[1], a[2] + b[0] / 2), float(np.hypot(r1, b[0] / 2))
        elif kind == RING:
            reach = r1 + r2
        elif kind == BALL:
            b = (1 / b[0], 1 / b[1], 1 / b[2])
        inverse = 1.0 / max(b[0] ** 2 + b[1] ** 2 + b[2] ** 2, 1e-12)
        self.rows.append([kind, *a, *b, r1, r2, blend, material, at, inverse, *centre, reach + blend])

    def cone(
        self, a: Vector, b: Vector, r1: float, r2: float, material: int = BASE, blend: float = 0.09, at: float = 0.0
    ):
        """Add a capsule from a to b whose radius goes from r1 to r2."""
        self._add(CONE, a, b, r1, r2, blend, material, at)

    def ball(self, centre: Vector, radii: Vector, material: int = BASE, blend: float = 0.09):
        """Add an ellipsoid."""
        self._add(BALL, centre, radii, max(radii), 0.0, blend, material, 0.0)

    def box(self, centre: Vector, half: Vector, rounding: float, material: int = BASE, blend: float = 0.03):
        """Add a box with rounded edges; `half` includes the rounding."""
        inner = (half[0] - rounding, half[1] - rounding, half[2] - rounding)
        self._add(BOX, centre, inner, rounding, 0.0, blend, material, 0.0)

    def ring(self, centre: Vector, axis: Vector, radius: float, thickness: float, material: int, blend: float = 0.0):
        """Add a torus about an axis of unit length."""
        self._add(RING, centre, axis, radius, thickness, blend, material, 0.0)

    def cup(self, base: Vector, height: float, radius: float, wall: float, material: int = BASE):
        """Add an upright cup, open at the top."""
        self._add(CUP, base, (height, 0.0, 0.0), radius, wall, 0.02, material, 0.0)

    def table(self) -> NDArray[np.float64]:
        """Return the primitives, shape (n, COLUMNS): soft ones first, so that hard ones lie on top, and large before
        small, so that the bounding spheres exclude most of the rest."""
        rows = np.array(self.rows, dtype=np.float64)
        return np.ascontiguousarray(rows[np.lexsort((-rows[:, 16], rows[:, 9] == 0.0))])


def mix(low: float, high: float, share: float) -> float:
    """Return a share of the way from low to high."""
    return low + (high - low) * share


def towards(a: Vector, b: Vector, share: float) -> Vector:
    """Return the point a share of the way from a to b."""
    return (mix(a[0], b[0], share), mix(a[1], b[1], share), mix(a[2], b[2], share))


def moved(a: Vector, x: float, y: float, z: float) -> Vector:
    """Return a point moved by x, y and z."""
    return (a[0] + x, a[1] + y, a[2] + z)


def unit(a: Vector) -> Vector:
    """Return a vector at unit length."""
    length = float(np.sqrt(a[0] ** 2 + a[1] ** 2 + a[2] ** 2))
    return (a[0] / length, a[1] / length, a[2] / length)
