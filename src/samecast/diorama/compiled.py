"""What draws the world is compiled by numba, which comes with the extra `diorama`: reading and scoring do without."""

from samecast.errors import lacking

try:
    from numba import njit
except ImportError as error:
    raise lacking("diorama", error) from None

__all__ = ["njit"]
