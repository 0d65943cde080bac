"""Animals: three quadrupeds and a duck, in four poses, with accessories."""

from samecast.diorama.primitives import (
    ACCESSORY,
    BASE,
    DARK,
    ORANGE,
    SECOND,
    SHINE,
    Body,
    Vector,
    mix,
    moved,
    towards,
    unit,
)
from samecast.diorama.scenes import Identity


def _head(body: Body, identity: Identity, centre: Vector, radius: float) -> None:
    """Add a quadruped's head: skull, muzzle, nose, eyes and the ears of its class."""
    long = {"dog": 1.25, "cat": 0.72, "bear": 0.95}[identity.kind]
    muzzle = moved(centre, radius * long, 0.0, -radius * 0.3)
    body.cone(moved(centre, -0.02, 0.0, 0.0), moved(centre, radius * 0.3, 0.0, 0.0), radius, radius * 0.93, at=0.7)
    thick = {"dog": 0.46, "cat": 0.40, "bear": 0.5}[identity.kind]
    body.cone(moved(centre, radius * 0.5, 0.0, -radius * 0.3), muzzle, radius * 0.55, radius * thick, SECOND, 0.03)
    body.ball(moved(muzzle, radius * thick * 0.86, 0.0, radius * 0.14), (0.032, 0.042, 0.03), DARK, 0.0)
    for side in (-1.0, 1.0):
        eye = moved(centre, radius * 0.98, side * radius * 0.44, radius * 0.34)
        body.ball(eye, (0.032, 0.034, 0.042), DARK, 0.0)
        body.ball(moved(eye, 0.026, side * 0.006, 0.016), (0.011, 0.011, 0.011), SHINE, 0.0)
        root = moved(centre, -radius * 0.1, side * radius * 0.66, radius * 0.72)
        if identity.kind == "dog":
            size = mix(0.16, 0.34, identity.ears)
            tip = moved(root, -0.03, side * 0.10, -size)
            body.cone(moved(root, 0.0, side * 0.03, 0.0), tip, 0.05, 0.068, SECOND, 0.025)
        elif identity.kind == "cat":
            size = mix(0.13, 0.25, identity.ears)
            body.cone(moved(root, 0.0, 0.0, -0.02), moved(root, -0.02, side * 0.05, size), 0.085, 0.012, SECOND, 0.025)
        else:
            size = mix(0.07, 0.12, identity.ears)
            body.ball(moved(root, 0.0, side * 0.02, 0.02), (size * 0.6, size, size), SECOND, 0.02)


def _dress(body: Body, identity: Identity, shoulder: Vector, head: Vector, neck: float, skull: float) -> None:
    """Add the accessory: a collar or scarf about the neck (radius `neck`), a hat on the head (radius `skull`)."""
    axis = unit((head[0] - shoulder[0], head[1] - shoulder[1], head[2] - shoulder[2]))
    at = towards(shoulder, head, 0.52)
    if identity.accessory == "collar":
        body.ring(at, axis, neck + 0.015, 0.05, ACCESSORY)
        body.ball(moved(at, axis[2] * (neck + 0.06), 0.0, -axis[0] * neck - 0.07), (0.055, 0.055, 0.06), ORANGE, 0.0)
    elif identity.accessory == "scarf":
        body.ring(at, axis, neck + 0.02, 0.078, ACCESSORY)
        for side in (-1.0, 1.0):
            end = moved(at, axis[2] * (neck + 0.06), side * neck * 0.75, -0.02)
            body.cone(end, moved(end, 0.03, side * 0.06, -0.30), 0.055, 0.075, ACCESSORY, 0.0)
    elif identity.accessory == "hat":
        top = moved(head, -0.03, 0.0, skull * 0.78)
        body.cone(top, moved(top, -0.02, 0.0, 0.20), skull * 0.62, skull * 0.56, ACCESSORY, 0.0)
        body.ring(moved(top, 0.01, 0.0, 0.0), (0.0, 0.0, 1.0), skull * 0.72, 0.055, ACCESSORY)


def _leg(body: Body, top: Vector, knee: Vector, foot: Vector, thick: float, at: float) -> None:
    body.cone(top, knee, thick * 1.35, thick, at=at)
    body.cone(knee, foot, thick, thick * 0.9, at=at + 0.2)
    body.cone(moved(foot, 0.0, 0.0, 0.0), moved(foot, thick * 0.75, 0.0, 0.0), thick * 1.02, thick * 0.9, SECOND, 0.02)


def quadruped(body: Body, identity: Identity, pose: str) -> None:
    """Add a dog, cat or bear in a pose."""
    bulk = {"dog": 1.0, "cat": 0.86, "bear": 1.28}[identity.kind]
    leg = mix(0.27, 0.46, identity.legs) * {"dog": 1.0, "cat": 0.95, "bear": 0.84}[identity.kind]
    girth = mix(0.135, 0.20, identity.girth) * bulk
    skull = mix(0.165, 0.225, identity.head) * {"dog": 1.0, "cat": 1.02, "bear": 1.08}[identity.kind]
    length = {"dog": 0.64, "cat": 0.60, "bear": 0.62}[identity.kind]
    thick = {"dog": 0.062, "cat": 0.054, "bear": 0.092}[identity.kind]
    wide = girth * 0.62
    tail = mix(0.22, 0.46, identity.tail)
    sides = (-1.0, 1.0)
    if pose == "sitting":
        hip = (-0.20, 0.0, girth * 1.08)
        shoulder = (0.10, 0.0, girth + length * 0.78)
        head = moved(shoulder, 0.10, 0.0, skull + 0.13)
        for side in sides:
            _leg(
                body,
                moved(shoulder, 0.05, side * wide, -0.12),
                (0.24, side * wide, leg * 0.55),
                (0.25, side * wide, thick * 0.9),
                thick,
                0.4,
            )
            body.ball((-0.08, side * girth * 0.86, girth * 0.80), (0.19, 0.11, 0.15))
            body.cone(
                (0.04, side * girth, thick * 0.9), (0.15, side * girth, thick * 0.9), thick, thick * 0.9, SECOND, 0.02
            )
        root, lift = moved(hip, -girth * 0.8, 0.0, -girth * 0.5), 0.10
    elif pose == "running":
        height = leg + girth * 0.9 + 0.10
        hip, shoulder = (-length * 0.54, 0.0, height - 0.05), (length * 0.54, 0.0, height + 0.05)
        head = moved(shoulder, 0.20, 0.0, skull * 0.75 + 0.12)
        for side in sides:
            ahead, behind = 0.50 + 0.06 * side, 0.50 - 0.07 * side
            front, back = moved(shoulder, -0.02, side * wide, -0.06), moved(hip, 0.02, side * wide, -0.04)
            _leg(
                body,
                front,
                moved(front, leg * 0.62, 0.0, -leg * 0.30),
                moved(front, leg * (0.75 + ahead * 0.55), 0.0, -leg * 0.62),
                thick,
                0.4,
            )
            _leg(
                body,
                back,
                moved(back, -leg * 0.50, 0.0, -leg * 0.42),
                moved(back, -leg * (0.75 + behind * 0.6), 0.0, -leg * 0.70),
                thick,
                0.0,
            )
        root, lift = moved(hip, -girth * 0.85, 0.0, girth * 0.25), 0.14
    elif pose == "lying":
        hip, shoulder = (-length * 0.5, 0.0, girth * 0.9), (length * 0.46, 0.0, girth * 0.95)
        head = moved(shoulder, 0.17, 0.0, skull * 0.55 + 0.07)
        for side in sides:
            body.cone(
                moved(shoulder, 0.0, side * girth * 0.95, -girth * 0.4),
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
        root, lift = moved(hip, -girth * 0.85, 0.0, -girth * 0.2), -0.05
    else:
        height = leg + girth * 0.75
        hip, shoulder = (-length * 0.5, 0.0, height), (length * 0.5, 0.0, height + 0.01)
        head = moved(shoulder, 0.15, 0.0, skull + 0.16)
        for side in sides:
            for end, at in ((shoulder, 0.4), (hip, 0.0)):
                top = moved(end, -0.03 if at else 0.03, side * wide, -girth * 0.35)
                _leg(body, top, (top[0] + 0.01, top[1], leg * 0.5), (top[0], top[1], thick * 0.9), thick, at)
        root, lift = moved(hip, -girth * 0.85, 0.0, girth * 0.45), 0.30
    body.cone(
        hip,
        shoulder,
        girth * (1.05 if identity.kind == "bear" else 0.94),
        girth * (0.98 if identity.kind != "dog" else 1.04),
    )
    neck = skull * 0.62
    body.cone(towards(shoulder, head, 0.1), towards(shoulder, head, 0.85), girth * 0.74, neck, at=0.6)
    if identity.kind == "bear":
        body.ball(moved(root, 0.0, 0.0, 0.0), (0.085, 0.085, 0.085), SECOND, 0.03)
    else:
        middle = moved(root, -tail * 0.45, 0.0, tail * lift)
        tip = moved(middle, -tail * 0.35, 0.0, tail * (lift + (0.65 if identity.kind == "cat" else 0.35)))
        thin = 0.045 if identity.kind == "dog" else 0.038
        body.cone(root, middle, thin * 1.15, thin, BASE, 0.05, at=-0.3)
        body.cone(middle, tip, thin, thin * 0.85, SECOND, 0.02)
    _head(body, identity, head, skull)
    _dress(body, identity, shoulder, head, max(neck, girth * 0.70), skull)


def duck(body: Body, identity: Identity, pose: str) -> None:
    """Add a duck in a pose."""
    leg = mix(0.13, 0.28, identity.legs)
    girth = mix(0.20, 0.27, identity.girth)
    skull = mix(0.15, 0.20, identity.head)
    neck_length = mix(0.12, 0.24, identity.ears)
    tail = mix(0.10, 0.22, identity.tail)
    tilt, height, reach = {
        "standing": (0.10, leg + girth * 0.9, 0.08),
        "sitting": (0.34, girth * 1.15, 0.02),
        "running": (-0.10, leg + girth * 0.95, 0.26),
        "lying": (-0.02, girth * 0.85, 0.20),
    }[pose]
    back, front = (-0.22, 0.0, height - tilt * 0.5), (0.20, 0.0, height + tilt * 0.5)
    lift = {"standing": 1.0, "sitting": 1.0, "running": 0.55, "lying": 0.15}[pose]
    head = moved(front, reach, 0.0, neck_length * lift + skull * 0.9)
    body.cone(back, front, girth * 0.86, girth)
    body.cone(towards(front, head, 0.1), towards(front, head, 0.9), girth * 0.62, skull * 0.72, at=0.4)
    body.cone(
        moved(back, -girth * 0.5, 0.0, 0.03),
        moved(back, -girth * 0.75 - tail, 0.0, 0.10 + tail * 0.5),
        0.10,
        0.03,
        SECOND,
        0.04,
    )
    body.ball(head, (skull, skull * 0.95, skull * 0.97), BASE, 0.05)
    bill = moved(head, skull * 0.8, 0.0, -skull * 0.12)
    body.ball(moved(bill, 0.07, 0.0, 0.0), (0.115, 0.075, 0.036), ORANGE, 0.0)
    wing_z = (front[2] + back[2]) / 2 + girth * 0.12
    for side in (-1.0, 1.0):
        eye = moved(head, skull * 0.72, side * skull * 0.62, skull * 0.28)
        body.ball(eye, (0.030, 0.026, 0.036), DARK, 0.0)
        body.ball(moved(eye, 0.018, side * 0.014, 0.014), (0.010, 0.010, 0.010), SHINE, 0.0)
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
            body.ball(moved(foot, 0.05, 0.0, -0.01), (0.09, 0.055, 0.026), ORANGE, 0.0)
        elif pose == "sitting":
            body.ball((0.26, side * 0.13, 0.025), (0.11, 0.06, 0.026), ORANGE, 0.0)
    _dress(body, identity, front, head, max(skull * 0.72, girth * 0.5), skull)
