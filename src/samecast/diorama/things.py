"""Things: a chair and a mug."""

from samecast.diorama.primitives import DARK, SECOND, Body, mix
from samecast.diorama.scenes import Identity


def chair(body: Body, identity: Identity) -> None:
    """Add a chair."""
    seat = mix(0.34, 0.52, identity.legs)
    half = mix(0.27, 0.36, identity.girth)
    back = mix(0.42, 0.64, identity.head)
    thick = mix(0.032, 0.055, identity.tail)
    cushion = mix(0.07, 0.11, identity.ears)
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


def mug(body: Body, identity: Identity) -> None:
    """Add a mug."""
    height = mix(0.52, 0.84, identity.legs)
    radius = mix(0.27, 0.38, identity.girth)
    loop = mix(0.14, 0.21, identity.head)
    thick = mix(0.040, 0.062, identity.tail)
    body.cup((0.0, 0.0, 0.0), height, radius, 0.05)
    body.ring((0.0, 0.0, height), (0.0, 0.0, 1.0), radius - 0.025, 0.036, SECOND)
    body.ring((0.0, 0.0, 0.03), (0.0, 0.0, 1.0), radius - 0.02, 0.036, SECOND)
    body.ring((radius + loop * 0.55, 0.0, height * 0.5), (0.0, 1.0, 0.0), loop, thick, SECOND)
    body.ball((0.0, 0.0, height * 0.82), (radius - 0.04, radius - 0.04, 0.02), DARK, 0.0)
