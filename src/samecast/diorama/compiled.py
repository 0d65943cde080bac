"""numba, which compiles the code that draws the world; only drawing needs it, with the extra `diorama`."""

from samecast.errors import lacking

try:
    from numba import njit
except ImportError as error:
    raise lacking("diorama", error) from None

__all__ = ["njit"]
