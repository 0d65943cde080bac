# pyright: basic
# (numba compiles these for the argument types of their calls; annotations have no effect)
"""Shading: the colour of a ray through a pixel, and the loop over all pixels.

Key light with a soft shadow, ambient light from above, slight sheen and rim light on the subject; ground and sky from
`backdrops`; the lake mirrors the subject. Vectors of the subject are in its own frame, all others in the world's.
"""

from math import sqrt

import numpy as np

from samecast.diorama.backdrops import LAKE, ROOM, ground, sky
from samecast.diorama.compiled import njit
from samecast.diorama.march import distance, nearest, normal, pattern, shadow, trace

WALL = 2.0


@njit(cache=True, fastmath=True, nogil=True)
def _surface(parts, bound, colours, materials, look, light, x, y, z, dx, dy, dz):
    """Shade a point on the subject (subject frame): albedo, key light with shadow, ambient, a little sheen and rim;
    return red, green, blue and the material's number from 1 on."""
    nx, ny, nz = normal(parts, x, y, z)
    index = nearest(parts, x, y, z)
    material = int(parts[index, 10])
    if material == 0 and pattern(parts[index], int(look[0]), look[1], look[2], x, y, z) > 0.5:
        material = 1
    facing = nx * light[0] + ny * light[1] + nz * light[2]
    lit = 0.0
    if facing > 0.0:
        ex, ey, ez = x + nx * 0.012, y + ny * 0.012, z + nz * 0.012
        lit = facing * shadow(parts, bound, ex, ey, ez, light[0], light[1], light[2], 9.0)
    hollow = min(max(0.45 + 0.55 * nz, 0.0), 1.0) * min(0.55 + z * 1.6, 1.0)
    hx, hy, hz = light[0] - dx, light[1] - dy, light[2] - dz
    half = (nx * hx + ny * hy + nz * hz) / (sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
    sheen = 0.10 * max(half, 0.0) ** 24 * (1.0 if lit > 0.0 else 0.0)
    rim = max(1.0 + nx * dx + ny * dy + nz * dz, 0.0) ** 3 * 0.10
    red = (
        materials[material, 0] * (colours[6, 0] * lit * 0.92 + colours[7, 0] * (0.42 + 0.55 * hollow))
        + sheen
        + rim * colours[1, 0]
    )
    green = (
        materials[material, 1] * (colours[6, 1] * lit * 0.92 + colours[7, 1] * (0.42 + 0.55 * hollow))
        + sheen
        + rim * colours[1, 1]
    )
    blue = (
        materials[material, 2] * (colours[6, 2] * lit * 0.92 + colours[7, 2] * (0.42 + 0.55 * hollow))
        + sheen
        + rim * colours[1, 2]
    )
    return red, green, blue, 1.0 + material


@njit(cache=True, fastmath=True, nogil=True)
def _sample(parts, bound, colours, materials, style, look, camera, light, u, v):
    """Return red, green, blue (linear) and what was hit (0 the scene, else the subject's material from 1 on), for one
    ray through the image plane (u right, v up)."""
    # camera: x, height, distance, pitch cosine and sine, yaw cosine and sine, variation, focal length; the subject's x
    cp, sp, cy, sy, focal = camera[3], camera[4], camera[5], camera[6], camera[8]
    length = sqrt(u * u + v * v + focal * focal)
    wx, wy, wz = u / length, (focal * cp + v * sp) / length, (v * cp - focal * sp) / length
    px, py, pz = camera[0], -camera[2], camera[1]
    aside = px - camera[9]
    ox, oy = cy * aside + sy * py, -sy * aside + cy * py
    dx, dy = cy * wx + sy * wy, -sy * wx + cy * wy
    t = trace(parts, bound, ox, oy, pz, dx, dy, wz)
    if t >= 0.0:
        return _surface(
            parts,
            bound,
            colours,
            materials,
            look,
            light,
            ox + t * dx,
            oy + t * dy,
            pz + t * wz,
            dx,
            dy,
            wz,
        )
    if style == ROOM and wz > -pz / (WALL - py) * wy:  # the wall, standing on the floor
        height = pz + (WALL - py) / wy * wz
        out = sky(style, colours, wx / wy, height / 5.0, camera[7])
        return out[0], out[1], out[2], 0.0
    if wz >= -1e-4:
        flat = sqrt(wx * wx + wy * wy)
        out = sky(style, colours, wx / wy, wz / flat, camera[7])
        return out[0], out[1], out[2], 0.0
    t = -pz / wz
    gx, gy = px + t * wx, py + t * wy
    base = ground(style, colours, gx, gy, camera[7])
    rx = gx - camera[9]
    sx, sz = cy * rx + sy * gy, -sy * rx + cy * gy
    lit = 1.0
    near = rx * rx + gy * gy
    if near < 9.0:
        lit = shadow(parts, bound, sx, sz, 0.002, light[0], light[1], light[2], 7.0)
    under = 1.0
    if near < 4.0:  # contact shadow: the part of the sky hidden by the body
        open_sky = min(max(distance(parts, sx, sz, 0.08) / 0.34, 0.0), 1.0)
        under = 0.60 + 0.40 * open_sky * (2.0 - open_sky)
    share = (0.50 + 0.50 * lit) * under
    red, green, blue = base[0] * share, base[1] * share, base[2] * share
    if style == LAKE:
        far = trace(parts, bound, sx, sz, 0.003, dx, dy, -wz)
        if far >= 0.0:
            out = _surface(
                parts,
                bound,
                colours,
                materials,
                look,
                light,
                sx + far * dx,
                sz + far * dy,
                0.003 - far * wz,
                dx,
                dy,
                -wz,
            )
            red, green, blue = (
                red + (out[0] - red) * 0.34,
                green + (out[1] - green) * 0.34,
                blue + (out[2] - blue) * 0.34,
            )
    return red, green, blue, 0.0


@njit(cache=True, fastmath=True, nogil=True)
def _encode(value):
    value = min(max(value, 0.0), 1.0)
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1.0 / 2.4) - 0.055


@njit(cache=True, fastmath=True, nogil=True)
def draw(parts, bound, colours, materials, style, look, camera, light, grid, image, mask, hit):
    """Fill `image` (uint8, height x width x 3), `mask` and `hit` (uint8), supersampling where neighbours differ."""
    height, width = mask.shape
    rough = np.empty((height, width, 4))
    pixel, side = 2.0 / height, width / height
    for row in range(height):
        for column in range(width):
            u, v = (column + 0.5) * pixel - side, 1.0 - (row + 0.5) * pixel
            out = _sample(parts, bound, colours, materials, style, look, camera, light, u, v)
            rough[row, column, 0] = _encode(out[0])
            rough[row, column, 1] = _encode(out[1])
            rough[row, column, 2] = _encode(out[2])
            rough[row, column, 3] = out[3]
    for row in range(height):
        for column in range(width):
            edge = 0.0
            for c in range(4):
                here = rough[row, column, c]
                edge = max(edge, abs(rough[max(row - 1, 0), column, c] - here))
                edge = max(edge, abs(rough[min(row + 1, height - 1), column, c] - here))
                edge = max(edge, abs(rough[row, max(column - 1, 0), c] - here))
                edge = max(edge, abs(rough[row, min(column + 1, width - 1), c] - here))
            red, green, blue = rough[row, column, 0], rough[row, column, 1], rough[row, column, 2]
            inside = 1.0 if rough[row, column, 3] > 0.0 else 0.0
            if edge > 0.08 and grid > 1:
                red, green, blue, inside = 0.0, 0.0, 0.0, 0.0
                for i in range(grid):
                    for j in range(grid):
                        u = (column + (j + 0.5) / grid) * pixel - side
                        v = 1.0 - (row + (i + 0.5) / grid) * pixel
                        out = _sample(parts, bound, colours, materials, style, look, camera, light, u, v)
                        red, green, blue = red + _encode(out[0]), green + _encode(out[1]), blue + _encode(out[2])
                        inside += 1.0 if out[3] > 0.0 else 0.0
                count = grid * grid
                red, green, blue, inside = red / count, green / count, blue / count, inside / count
            image[row, column, 0] = np.uint8(red * 255.0 + 0.5)
            image[row, column, 1] = np.uint8(green * 255.0 + 0.5)
            image[row, column, 2] = np.uint8(blue * 255.0 + 0.5)
            mask[row, column] = inside >= 0.5
            hit[row, column] = np.uint8(rough[row, column, 3])
