"""Bodies: an identity and a pose become a table of signed-distance primitives in the subject's own frame.

The subject stands at the origin, faces +x, its left is +y, up is +z, and one unit is about its height. Each row of the
table is one primitive (Quilez, "Distance functions"); soft ones melt into each other, hard ones (eyes, hats) lie on
top.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from samecast.diorama.scenes import Identity

CONE, BOX, CUP, RING, BALL = range(5)
BASE, SECOND, ACCESSORY, DARK, ORANGE, SHINE = range(6)

COLUMNS = 17
"""kind, a (3), b (3), first radius, second radius, blend radius (0: hard), material, offset along the pattern, inverse
squared length; then a sphere that holds the primitive's influence: centre (3), radius. For a cone b is relative to a;
for an ellipsoid b holds the inverse radii."""

Vector = tuple[float, float, float]


@dataclass
class Body:
    """A table under construction; `rows` are primitives as `COLUMNS` says."""

    rows: list[list[float]] = field(default_factory=list[list[float]])

    def _add(
        self, kind: int, a: Vector, b: Vector, r1: float, r2: float, blend: float, material: int, at: float
    ) -> None:
        centre, reach = a, max(r1, r2)
        if kind == CONE:
            along = (b[0] - a[0], b[1] - a[1], b[2] - a[2])
            length = float(np.sqrt(along[0] ** 2 + along[1] ** 2 + along[2] ** 2))
            centre, reach, b = _towards(a, b, 0.5), reach + length / 2, along
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
        small, so that most of the rest can be ruled out by their spheres."""
        rows = np.array(self.rows, dtype=np.float64)
        return np.ascontiguousarray(rows[np.lexsort((-rows[:, 16], rows[:, 9] == 0.0))])


def build(identity: Identity, pose: str) -> NDArray[np.float64]:
    """Return the table of a subject in a pose, shape (n, COLUMNS)."""
    body = Body()
    if identity.kind == "chair":
        _chair(body, identity)
    elif identity.kind == "mug":
        _mug(body, identity)
    elif identity.kind == "duck":
        _duck(body, identity, pose)
    else:
        _quadruped(body, identity, pose)
    return body.table()


def _mix(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _towards(a: Vector, b: Vector, share: float) -> Vector:
    return (_mix(a[0], b[0], share), _mix(a[1], b[1], share), _mix(a[2], b[2], share))


def _moved(a: Vector, x: float, y: float, z: float) -> Vector:
    return (a[0] + x, a[1] + y, a[2] + z)


def _unit(a: Vector) -> Vector:
    length = float(np.sqrt(a[0] ** 2 + a[1] ** 2 + a[2] ** 2))
    return (a[0] / length, a[1] / length, a[2] / length)


def _head(body: Body, identity: Identity, centre: Vector, radius: float) -> None:
    """Add a quadruped's head: skull, muzzle, nose, eyes and the ears of its class."""
    long = {"dog": 1.25, "cat": 0.72, "bear": 0.95}[identity.kind]
    muzzle = _moved(centre, radius * long, 0.0, -radius * 0.3)
    body.cone(_moved(centre, -0.02, 0.0, 0.0), _moved(centre, radius * 0.3, 0.0, 0.0), radius, radius * 0.93, at=0.7)
    thick = {"dog": 0.46, "cat": 0.40, "bear": 0.5}[identity.kind]
    body.cone(_moved(centre, radius * 0.5, 0.0, -radius * 0.3), muzzle, radius * 0.55, radius * thick, SECOND, 0.03)
    body.ball(_moved(muzzle, radius * thick * 0.86, 0.0, radius * 0.14), (0.032, 0.042, 0.03), DARK, 0.0)
    for side in (-1.0, 1.0):
        eye = _moved(centre, radius * 0.98, side * radius * 0.44, radius * 0.34)
        body.ball(eye, (0.032, 0.034, 0.042), DARK, 0.0)
        body.ball(_moved(eye, 0.026, side * 0.006, 0.016), (0.011, 0.011, 0.011), SHINE, 0.0)
        root = _moved(centre, -radius * 0.1, side * radius * 0.66, radius * 0.72)
        if identity.kind == "dog":
            size = _mix(0.16, 0.34, identity.ears)
            tip = _moved(root, -0.03, side * 0.10, -size)
            body.cone(_moved(root, 0.0, side * 0.03, 0.0), tip, 0.05, 0.068, SECOND, 0.025)
        elif identity.kind == "cat":
            size = _mix(0.13, 0.25, identity.ears)
            body.cone(
                _moved(root, 0.0, 0.0, -0.02), _moved(root, -0.02, side * 0.05, size), 0.085, 0.012, SECOND, 0.025
            )
        else:
            size = _mix(0.07, 0.12, identity.ears)
            body.ball(_moved(root, 0.0, side * 0.02, 0.02), (size * 0.6, size, size), SECOND, 0.02)


def _dress(body: Body, identity: Identity, shoulder: Vector, head: Vector, neck: float, skull: float) -> None:
    """Add the accessory: a collar or scarf about the neck (radius `neck`), a hat on the head (radius `skull`)."""
    axis = _unit((head[0] - shoulder[0], head[1] - shoulder[1], head[2] - shoulder[2]))
    at = _towards(shoulder, head, 0.52)
    if identity.accessory == "collar":
        body.ring(at, axis, neck + 0.015, 0.05, ACCESSORY)
        body.ball(_moved(at, axis[2] * (neck + 0.06), 0.0, -axis[0] * neck - 0.07), (0.055, 0.055, 0.06), ORANGE, 0.0)
    elif identity.accessory == "scarf":
        body.ring(at, axis, neck + 0.02, 0.078, ACCESSORY)
        for side in (-1.0, 1.0):
            end = _moved(at, axis[2] * (neck + 0.06), side * neck * 0.75, -0.02)
            body.cone(end, _moved(end, 0.03, side * 0.06, -0.30), 0.055, 0.075, ACCESSORY, 0.0)
    elif identity.accessory == "hat":
        top = _moved(head, -0.03, 0.0, skull * 0.78)
        body.cone(top, _moved(top, -0.02, 0.0, 0.20), skull * 0.62, skull * 0.56, ACCESSORY, 0.0)
        body.ring(_moved(top, 0.01, 0.0, 0.0), (0.0, 0.0, 1.0), skull * 0.72, 0.055, ACCESSORY)


def _leg(body: Body, top: Vector, knee: Vector, foot: Vector, thick: float, at: float) -> None:
    body.cone(top, knee, thick * 1.35, thick, at=at)
    body.cone(knee, foot, thick, thick * 0.9, at=at + 0.2)
    body.cone(
        _moved(foot, 0.0, 0.0, 0.0), _moved(foot, thick * 0.75, 0.0, 0.0), thick * 1.02, thick * 0.9, SECOND, 0.02
    )


def _quadruped(body: Body, identity: Identity, pose: str) -> None:
    bulk = {"dog": 1.0, "cat": 0.86, "bear": 1.28}[identity.kind]
    leg = _mix(0.27, 0.46, identity.legs) * {"dog": 1.0, "cat": 0.95, "bear": 0.84}[identity.kind]
    girth = _mix(0.135, 0.20, identity.girth) * bulk
    skull = _mix(0.165, 0.225, identity.head) * {"dog": 1.0, "cat": 1.02, "bear": 1.08}[identity.kind]
    length = {"dog": 0.64, "cat": 0.60, "bear": 0.62}[identity.kind]
    thick = {"dog": 0.062, "cat": 0.054, "bear": 0.092}[identity.kind]
    wide = girth * 0.62
    tail = _mix(0.22, 0.46, identity.tail)
    sides = (-1.0, 1.0)
    if pose == "sitting":
        hip = (-0.20, 0.0, girth * 1.08)
        shoulder = (0.10, 0.0, girth + length * 0.78)
        head = _moved(shoulder, 0.10, 0.0, skull + 0.13)
        for side in sides:
            _leg(
                body,
                _moved(shoulder, 0.05, side * wide, -0.12),
                (0.24, side * wide, leg * 0.55),
                (0.25, side * wide, thick * 0.9),
                thick,
                0.4,
            )
            body.ball((-0.08, side * girth * 0.86, girth * 0.80), (0.19, 0.11, 0.15))
            body.cone(
                (0.04, side * girth, thick * 0.9), (0.15, side * girth, thick * 0.9), thick, thick * 0.9, SECOND, 0.02
            )
        root, lift = _moved(hip, -girth * 0.8, 0.0, -girth * 0.5), 0.10
    elif pose == "running":
        height = leg + girth * 0.9 + 0.10
        hip, shoulder = (-length * 0.54, 0.0, height - 0.05), (length * 0.54, 0.0, height + 0.05)
        head = _moved(shoulder, 0.20, 0.0, skull * 0.75 + 0.12)
        for side in sides:
            ahead, behind = 0.50 + 0.06 * side, 0.50 - 0.07 * side
            front, back = _moved(shoulder, -0.02, side * wide, -0.06), _moved(hip, 0.02, side * wide, -0.04)
            _leg(
                body,
                front,
                _moved(front, leg * 0.62, 0.0, -leg * 0.30),
                _moved(front, leg * (0.75 + ahead * 0.55), 0.0, -leg * 0.62),
                thick,
                0.4,
            )
            _leg(
                body,
                back,
                _moved(back, -leg * 0.50, 0.0, -leg * 0.42),
                _moved(back, -leg * (0.75 + behind * 0.6), 0.0, -leg * 0.70),
                thick,
                0.0,
            )
        root, lift = _moved(hip, -girth * 0.85, 0.0, girth * 0.25), 0.14
    elif pose == "lying":
        hip, shoulder = (-length * 0.5, 0.0, girth * 0.9), (length * 0.46, 0.0, girth * 0.95)
        head = _moved(shoulder, 0.17, 0.0, skull * 0.55 + 0.07)
        for side in sides:
            body.cone(
                _moved(shoulder, 0.0, side * girth * 0.95, -girth * 0.4),
                (length * 0.46 + 0.30, side * girth * 1.05, thick),
                thick,
                thick,
                at=0.4,
            )
            body.cone(
                (length * 0.46 + 0.30, side * girth * 1.05, thick),
                (length * 0.46 + 0.37, side * girth * 1.05, thick),
                thick * 1.05,
                thick * 0.95,
                SECOND,
                0.02,
            )
            body.ball((-length * 0.42, side * girth * 0.95, girth * 0.72), (0.19, 0.09, 0.13))
            body.cone(
                (-length * 0.36, side * girth * 1.25, thick),
                (-length * 0.36 + 0.20, side * girth * 1.25, thick),
                thick,
                thick * 0.95,
                SECOND,
                0.02,
            )
        root, lift = _moved(hip, -girth * 0.85, 0.0, -girth * 0.2), -0.05
    else:
        height = leg + girth * 0.75
        hip, shoulder = (-length * 0.5, 0.0, height), (length * 0.5, 0.0, height + 0.01)
        head = _moved(shoulder, 0.15, 0.0, skull + 0.16)
        for side in sides:
            for end, at in ((shoulder, 0.4), (hip, 0.0)):
                top = _moved(end, -0.03 if at else 0.03, side * wide, -girth * 0.35)
                _leg(body, top, (top[0] + 0.01, top[1], leg * 0.5), (top[0], top[1], thick * 0.9), thick, at)
        root, lift = _moved(hip, -girth * 0.85, 0.0, girth * 0.45), 0.30
    body.cone(
        hip,
        shoulder,
        girth * (1.05 if identity.kind == "bear" else 0.94),
        girth * (0.98 if identity.kind != "dog" else 1.04),
    )
    neck = skull * 0.62
    body.cone(_towards(shoulder, head, 0.1), _towards(shoulder, head, 0.85), girth * 0.74, neck, at=0.6)
    if identity.kind == "bear":
        body.ball(_moved(root, 0.0, 0.0, 0.0), (0.085, 0.085, 0.085), SECOND, 0.03)
    else:
        middle = _moved(root, -tail * 0.45, 0.0, tail * lift)
        tip = _moved(middle, -tail * 0.35, 0.0, tail * (lift + (0.65 if identity.kind == "cat" else 0.35)))
        thin = 0.045 if identity.kind == "dog" else 0.038
        body.cone(root, middle, thin * 1.15, thin, BASE, 0.05, at=-0.3)
        body.cone(middle, tip, thin, thin * 0.85, SECOND, 0.02)
    _head(body, identity, head, skull)
    _dress(body, identity, shoulder, head, max(neck, girth * 0.70), skull)


def _duck(body: Body, identity: Identity, pose: str) -> None:
    leg = _mix(0.13, 0.28, identity.legs)
    girth = _mix(0.20, 0.27, identity.girth)
    skull = _mix(0.15, 0.20, identity.head)
    neck_length = _mix(0.12, 0.24, identity.ears)
    tail = _mix(0.10, 0.22, identity.tail)
    tilt, height, reach = {
        "standing": (0.10, leg + girth * 0.9, 0.08),
        "sitting": (0.34, girth * 1.15, 0.02),
        "running": (-0.10, leg + girth * 0.95, 0.26),
        "lying": (-0.02, girth * 0.85, 0.20),
    }[pose]
    back, front = (-0.22, 0.0, height - tilt * 0.5), (0.20, 0.0, height + tilt * 0.5)
    lift = {"standing": 1.0, "sitting": 1.0, "running": 0.55, "lying": 0.15}[pose]
    head = _moved(front, reach, 0.0, neck_length * lift + skull * 0.9)
    body.cone(back, front, girth * 0.86, girth)
    body.cone(_towards(front, head, 0.1), _towards(front, head, 0.9), girth * 0.62, skull * 0.72, at=0.4)
    body.cone(
        _moved(back, -girth * 0.5, 0.0, 0.03),
        _moved(back, -girth * 0.75 - tail, 0.0, 0.10 + tail * 0.5),
        0.10,
        0.03,
        SECOND,
        0.04,
    )
    body.ball(head, (skull, skull * 0.95, skull * 0.97), BASE, 0.05)
    bill = _moved(head, skull * 0.8, 0.0, -skull * 0.12)
    body.ball(_moved(bill, 0.07, 0.0, 0.0), (0.115, 0.075, 0.036), ORANGE, 0.0)
    wing_z = (front[2] + back[2]) / 2 + girth * 0.12
    for side in (-1.0, 1.0):
        eye = _moved(head, skull * 0.72, side * skull * 0.62, skull * 0.28)
        body.ball(eye, (0.030, 0.026, 0.036), DARK, 0.0)
        body.ball(_moved(eye, 0.018, side * 0.014, 0.014), (0.010, 0.010, 0.010), SHINE, 0.0)
        if pose == "running":
            body.cone(
                (0.05, side * girth * 0.8, wing_z + 0.03),
                (-0.16, side * (girth + 0.24), wing_z + 0.20),
                0.10,
                0.045,
                SECOND,
                0.03,
            )
        else:
            body.ball((-0.06, side * girth * 0.86, wing_z), (0.24, 0.075, 0.135), SECOND, 0.02)
        if pose == "standing":
            body.cone((0.0, side * 0.09, height - girth * 0.8), (0.0, side * 0.09, 0.03), 0.030, 0.026, ORANGE, 0.0)
            body.ball((0.06, side * 0.09, 0.02), (0.10, 0.058, 0.022), ORANGE, 0.0)
        elif pose == "running":
            foot = (side * 0.26, side * 0.09, leg * 0.25)
            body.cone((0.0, side * 0.09, height - girth * 0.8), foot, 0.030, 0.026, ORANGE, 0.0)
            body.ball(_moved(foot, 0.05, 0.0, -0.01), (0.09, 0.055, 0.026), ORANGE, 0.0)
        elif pose == "sitting":
            body.ball((0.26, side * 0.13, 0.025), (0.11, 0.06, 0.026), ORANGE, 0.0)
    _dress(body, identity, front, head, max(skull * 0.72, girth * 0.5), skull)


def _chair(body: Body, identity: Identity) -> None:
    seat = _mix(0.34, 0.52, identity.legs)
    half = _mix(0.27, 0.36, identity.girth)
    back = _mix(0.42, 0.64, identity.head)
    thick = _mix(0.032, 0.055, identity.tail)
    cushion = _mix(0.07, 0.11, identity.ears)
    body.box((0.0, 0.0, seat), (half, half, cushion), 0.04)
    body.box((-half + 0.05, 0.0, seat + back * 0.5 + 0.04), (0.085, half, back * 0.5), 0.05)
    body.ring((-half + 0.05, 0.0, seat + back + 0.02), (1.0, 0.0, 0.0), 0.07, 0.035, SECOND)
    for x in (-half + thick, half - thick):
        for side in (-1.0, 1.0):
            y = side * (half - thick)
            body.cone((x, y, seat - cushion), (x * 1.08, y * 1.08, thick), thick, thick * 0.8, SECOND, 0.0)
    for side in (-1.0, 1.0):
        y = side * (half - 0.02)
        body.cone((-half + 0.06, y, seat + 0.22), (half * 0.75, y, seat + 0.20), 0.042, 0.042, SECOND, 0.0)
        body.cone((half * 0.75, y, seat + 0.20), (half * 0.8, y, seat), 0.036, 0.036, SECOND, 0.0)


def _mug(body: Body, identity: Identity) -> None:
    height = _mix(0.52, 0.84, identity.legs)
    radius = _mix(0.27, 0.38, identity.girth)
    loop = _mix(0.14, 0.21, identity.head)
    thick = _mix(0.040, 0.062, identity.tail)
    body.cup((0.0, 0.0, 0.0), height, radius, 0.05)
    body.ring((0.0, 0.0, height), (0.0, 0.0, 1.0), radius - 0.025, 0.036, SECOND)
    body.ring((0.0, 0.0, 0.03), (0.0, 0.0, 1.0), radius - 0.02, 0.036, SECOND)
    body.ring((radius + loop * 0.55, 0.0, height * 0.5), (0.0, 1.0, 0.0), loop, thick, SECOND)
    body.ball((0.0, 0.0, height * 0.82), (radius - 0.04, radius - 0.04, 0.02), DARK, 0.0)
