# pyright: basic
# (numba compiles these for the argument types of their calls; annotations have no effect)
"""The inner loop of the renderer: signed distance, marching, soft shadow and occlusion, compiled by numba.

Sphere tracing after Hart (1996); soft shadows and ambient occlusion after Quilez. All vectors are in the subject's own
frame. Functions take scalars instead of arrays: that keeps the loop in registers.
"""

from math import cos, floor, pi, sin, sqrt

import numpy as np

from samecast.diorama.compiled import njit

FAR = 1e9


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def primitive(part, x, y, z):
    """Return the signed distance from a point to one primitive (a row of `bodies.Body.table`)."""
    kind = part[0]
    px, py, pz = x - part[1], y - part[2], z - part[3]
    if kind == 0.0:  # a capsule whose radius changes linearly (a close bound, not the exact round cone)
        bx, by, bz = part[4], part[5], part[6]
        t = (px * bx + py * by + pz * bz) * part[12]
        t = min(max(t, 0.0), 1.0)
        dx, dy, dz = px - t * bx, py - t * by, pz - t * bz
        return sqrt(dx * dx + dy * dy + dz * dz) - (part[7] + t * (part[8] - part[7]))
    if kind == 4.0:  # an ellipsoid (Quilez' bound)
        ax, ay, az = px * part[4], py * part[5], pz * part[6]
        k0 = sqrt(ax * ax + ay * ay + az * az)
        cx, cy, cz = ax * part[4], ay * part[5], az * part[6]
        k1 = sqrt(cx * cx + cy * cy + cz * cz)
        return k0 * (k0 - 1.0) / max(k1, 1e-9)
    if kind == 1.0:  # a rounded box
        qx, qy, qz = abs(px) - part[4], abs(py) - part[5], abs(pz) - part[6]
        ox, oy, oz = max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)
        return sqrt(ox * ox + oy * oy + oz * oz) + min(max(qx, max(qy, qz)), 0.0) - part[7]
    if kind == 2.0:  # a cup: the wall of an upright cylinder and its floor
        r = sqrt(px * px + py * py)
        wall, height = part[8], part[4]
        qr, qz = abs(r - part[7] + wall * 0.5) - wall * 0.5, abs(pz - height * 0.5) - height * 0.5
        orr, oz = max(qr, 0.0), max(qz, 0.0)
        side = sqrt(orr * orr + oz * oz) + min(max(qr, qz), 0.0)
        qr, qz = r - part[7] + 0.01, abs(pz - wall) - wall
        orr, oz = max(qr, 0.0), max(qz, 0.0)
        return min(side, sqrt(orr * orr + oz * oz) + min(max(qr, qz), 0.0))
    along = px * part[4] + py * part[5] + pz * part[6]  # a torus about a unit axis
    ax, ay, az = px - along * part[4], py - along * part[5], pz - along * part[6]
    q = sqrt(ax * ax + ay * ay + az * az) - part[7]
    return sqrt(q * q + along * along) - part[8]


@njit(cache=True, fastmath=True, nogil=True)
def distance(parts, x, y, z):
    """Return the signed distance from a point to the whole subject."""
    d = FAR
    for i in range(parts.shape[0]):
        cx, cy, cz = x - parts[i, 13], y - parts[i, 14], z - parts[i, 15]
        reach = d + parts[i, 16]
        if cx * cx + cy * cy + cz * cz > reach * reach:
            continue
        near = primitive(parts[i], x, y, z)
        k = parts[i, 9]
        if k > 0.0:
            h = max(k - abs(d - near), 0.0) / k
            d = min(d, near) - h * h * k * 0.25
        else:
            d = min(d, near)
    return d


@njit(cache=True, fastmath=True, nogil=True)
def nearest(parts, x, y, z):
    """Return the index of the primitive a surface point belongs to."""
    best, index = FAR, 0
    for i in range(parts.shape[0]):
        near = primitive(parts[i], x, y, z) - (0.004 if parts[i, 9] == 0.0 else 0.0)
        if near < best:
            best, index = near, i
    return index


@njit(cache=True, fastmath=True, nogil=True)
def enter(bound, ox, oy, oz, dx, dy, dz):
    """Return where a ray enters and leaves the bounding box (low x, y, z, high x, y, z); leaving < entering is a
    miss."""
    first, last = 0.0, FAR
    for axis in range(3):
        o, d = (ox, dx) if axis == 0 else (oy, dy) if axis == 1 else (oz, dz)
        inverse = 1.0 / d if abs(d) > 1e-9 else FAR
        near, far = (bound[axis] - o) * inverse, (bound[axis + 3] - o) * inverse
        first, last = max(first, min(near, far)), min(last, max(near, far))
    return first, last


@njit(cache=True, fastmath=True, nogil=True)
def trace(parts, bound, ox, oy, oz, dx, dy, dz):
    """March a ray; return the distance to the surface, or -1 for a miss."""
    t, last = enter(bound, ox, oy, oz, dx, dy, dz)
    for _ in range(72):
        if t > last:
            return -1.0
        d = distance(parts, ox + t * dx, oy + t * dy, oz + t * dz)
        if d < 0.0012:
            return t
        t += d * 0.92
    return -1.0


@njit(cache=True, fastmath=True, nogil=True)
def shadow(parts, bound, ox, oy, oz, dx, dy, dz, softness):
    """March towards the light; return how much of it arrives, 0..1 with a penumbra."""
    t, last = enter(bound, ox, oy, oz, dx, dy, dz)
    t = max(t, 0.025)
    light = 1.0
    for _ in range(28):
        if t > last:
            break
        d = distance(parts, ox + t * dx, oy + t * dy, oz + t * dz)
        light = min(light, softness * d / t)
        if light < 0.01:
            return 0.0
        t += min(max(d, 0.02), 0.12)
    light = max(light, 0.0)
    return light * light * (3.0 - 2.0 * light)


@njit(cache=True, fastmath=True, nogil=True)
def normal(parts, x, y, z):
    """Return the unit normal at a surface point by four tetrahedral differences."""
    e = 0.0015
    a = distance(parts, x + e, y - e, z - e)
    b = distance(parts, x - e, y - e, z + e)
    c = distance(parts, x - e, y + e, z - e)
    d = distance(parts, x + e, y + e, z + e)
    nx, ny, nz = a - b - c + d, -a - b + c + d, -a + b - c + d
    length = sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    return nx / length, ny / length, nz / length


@njit(cache=True, fastmath=True, nogil=True)
def hash3(i, j, k):
    """Return a repeatable number in 0..1 for a lattice cell."""
    value = sin(i * 127.1 + j * 311.7 + k * 74.7) * 43758.5453
    return value - floor(value)


@njit(cache=True, fastmath=True, nogil=True)
def pattern(part, style, period, phase, x, y, z):
    """Return 1 where a base-coloured primitive has the second colour, else 0 (style 0 plain, 1 spots, 2
    stripes)."""
    if style == 0:
        return 0.0
    if style == 2:
        kind = part[0]
        if kind == 0.0 and part[12] * part[7] * part[7] < 1.0:  # longer than thick: stripes run around it
            along = (x - part[1]) * part[4] + (y - part[2]) * part[5] + (z - part[3]) * part[6]
            u = part[11] + along * sqrt(part[12])
        elif kind == 1.0:  # slanted, so that they are visible on every face of a box
            u = 0.8 * (x + y + z)
        else:  # horizontal on cups, balls and heads, so that they are visible from every side
            u = z
        return 1.0 if cos(2.0 * pi * (u / period + phase)) > 0.35 else 0.0
    cell = period * 0.82
    gx, gy, gz = x / cell + phase, y / cell + 0.5, z / cell + phase * 0.7
    fx, fy, fz = floor(gx), floor(gy), floor(gz)
    for i in range(-1, 2):
        for j in range(-1, 2):
            for k in range(-1, 2):
                cx, cy, cz = fx + i, fy + j, fz + k
                rx = cx + 0.5 + 0.45 * (hash3(cx, cy, cz) - 0.5) - gx
                ry = cy + 0.5 + 0.45 * (hash3(cy, cz, cx) - 0.5) - gy
                rz = cz + 0.5 + 0.45 * (hash3(cz, cx, cy) - 0.5) - gz
                if rx * rx + ry * ry + rz * rz < 0.165:
                    return 1.0
    return 0.0


def bounding_box(parts: np.ndarray) -> np.ndarray:
    """Return a box (low x, y, z, high x, y, z) that holds every primitive, with room for melted edges and penumbra."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for row in parts:
        kind, a, b = int(row[0]), row[1:4], row[4:7]
        if kind == 0:
            spans = [(a, row[7]), (a + b, row[8])]
        elif kind == 1:
            spans = [(a, b + row[7])]
        elif kind == 2:
            spans = [(a + np.array([0.0, 0.0, b[0] / 2]), np.array([row[7], row[7], b[0] / 2]))]
        elif kind == 3:
            spans = [(a, row[7] * np.sqrt(np.maximum(1.0 - b * b, 0.0)) + row[8])]
        else:
            spans = [(a, 1.0 / b)]
        for centre, reach in spans:
            low, high = np.minimum(low, centre - reach), np.maximum(high, centre + reach)
    return np.concatenate([low - 0.03, high + 0.03])
