"""Masks that separate nothing, and the warnings about them."""

from collections.abc import Mapping

from samecast.attention.modes.base import Masks as MasksFrom
from samecast.core.batch import Branch, name_of
from samecast.core.masks import Blank, Grid

Blanks = Mapping[tuple[MasksFrom, Branch], Mapping[Grid, Blank]]
"""For each mask, the grids of tokens at which it separated nothing, and what it was there."""


def blank_warnings(blanks: Blanks) -> list[str]:
    """One line for all empty masks and one for all full ones."""
    found: list[str] = []
    for kind, consequence in (("empty", "nothing counts as the subject"), ("full", "everything counts as the subject")):
        named = {name_of(branch) for (_, branch), sides in blanks.items() if kind in sides.values()}
        places = {grid for sides in blanks.values() for grid, what in sides.items() if what == kind}
        if named:
            sizes = " and ".join(f"{width} x {height}" for height, width in sorted(places))
            found.append(
                f"the mask of {', '.join(sorted(named))} is {kind} at {sizes} tokens, where {consequence};"
                " try another mask, threshold or finer layers"
            )
    return found
