"""The contact sheet: an overview of the world, a row per class, with all backgrounds, poses and views in turn."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samecast.diorama.renderer import render_many
from samecast.diorama.scenes import ANIMALS, BACKGROUNDS, CLASSES, POSES, VIEWS, Spec, sample_identity, sample_scene


def sheet_specs(seed: int, columns: int, rows: int) -> list[Spec]:
    """Draw the specs of a sheet, row by row: row r shows class r, column c background c."""
    rng = np.random.default_rng(seed)
    specs: list[Spec] = []
    for row in range(rows):
        kind = CLASSES[row % len(CLASSES)]
        for column in range(columns):
            identity, scene = sample_identity(rng, kind), sample_scene(rng, kind)
            pose = POSES[(column + row) % len(POSES)] if kind in ANIMALS else ""
            background = BACKGROUNDS[column % len(BACKGROUNDS)]
            specs.append(Spec(identity, replace(scene, pose=pose, view=VIEWS[column % 3], background=background)))
    return specs


def contact_sheet(seed: int = 0, size: int = 160, columns: int = 8, rows: int = 6) -> NDArray[np.uint8]:
    """Return a sheet of pictures, uint8 (rows * size, columns * size, 3).

    Raises:
        ValueError: there is nothing to draw, or the pictures would be too small.
    """
    if columns < 1 or rows < 1:
        raise ValueError(f"a sheet needs at least one row and one column; got {rows} and {columns}")
    pictures = [picture.image for picture in render_many(sheet_specs(seed, columns, rows), size)]
    lines = [np.concatenate(pictures[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    return np.concatenate(lines, axis=0)
