"""When: the denoising steps at which a rule acts.

A step is an index 0..T-1 in denoising order; it is not a timestep (999..0). A float is a fraction of the run: in a run
of 50 steps 0.5 is step 25, in one of 20 steps it is step 10. A fraction above 0 is at least step 1.
"""

from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

from samecast.checked import Option, Within, check_fields
from samecast.errors import SamecastError

SKIP_PERIOD = 10
_MOST = 1_000_000


@runtime_checkable
class Timeline(Protocol):
    """A run, as far as rules have to know it: whoever steps through it, our own loop or a stock pipeline."""

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        ...

    def is_identity(self, step: int) -> bool:
        """Whether a step changes nothing."""
        ...


@dataclass(frozen=True)
class Steps:
    """A span of denoising steps, thinned by a stride or by the AIKU study's skip; or a list of steps.

    Args:
        start: first step that acts; a decimal from 0 to 1 is a fraction of the run.
        final: last step that acts, inclusive; a fraction of 1.0 is the last step of the run.
        skip: of every ten steps, skip the first N: skip=1 omits steps 0, 10, 20, ... and skip=9 keeps only 9, 19,
            29, ...
        stride: of the span, every Nth step acts, from `start` on.
        only: these very steps, ascending; goes with none of the others.

    Raises:
        SamecastError: the span is empty or a value is out of range.
    """

    start: Annotated[int | float, Within(0, _MOST), Option("method", metavar="STEP")] = 0
    final: Annotated[
        Annotated[int | float, Within(0, _MOST)] | None, Option("method", metavar="STEP", default="the last")
    ] = None
    skip: Annotated[
        Annotated[int, Within(0, SKIP_PERIOD - 1)] | None, Option("method", metavar="1-9", default="none")
    ] = None
    stride: Annotated[Annotated[int, Within(1, _MOST)] | None, Option("method", default="1")] = None
    only: tuple[Annotated[int, Within(0, _MOST)], ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("start", "final"):
            value: int | float | None = getattr(self, name)
            if isinstance(value, float) and value > 1:
                raise SamecastError(f"{name} as a fraction of the run must be 0.0 to 1.0; got {value}")
        if self.final is not None and type(self.start) is type(self.final) and self.final < self.start:
            raise SamecastError(f"start {self.start} comes after final {self.final}; start must be at most final")
        if self.only is not None:
            self._check_list(self.only)

    def _check_list(self, only: tuple[int, ...]) -> None:
        if not only or list(only) != sorted(set(only)):
            raise SamecastError(f"only must list steps, ascending, each once; got {list(only)}")
        if (self.start, self.final, self.skip, self.stride) != (0, None, None, None):
            raise SamecastError("only lists the very steps: leave out start, final, skip and stride")

    def select(self, total: int) -> tuple[int, ...]:
        """The steps that act in a run of `total` steps, ascending.

        Raises:
            SamecastError: start, final or a listed step lies beyond the last step, or no step is left.
        """
        start, final = _step("start", self.start, total), _step("final", self.final, total)
        if self.only is not None:
            _step("a listed step", self.only[-1], total)
            return self.only
        selected = tuple(
            step
            for step in range(start, final + 1, self.stride or 1)
            if not self.skip or step % SKIP_PERIOD >= self.skip
        )
        if not selected:
            raise SamecastError(f"{self} selects none of the steps 0..{total - 1}")
        return selected


def _step(name: str, value: int | float | None, total: int) -> int:
    """A number or fraction as a step of a run; None is the last.

    A fraction above 0 is never step 0, whatever the run's length: what starts late leaves at least the first step
    alone, and masks are made of the maps of a step before.
    """
    if value is None:
        return total - 1
    if isinstance(value, float):
        return min(total - 1, max(round(value * total), value > 0))
    if value >= total:
        raise SamecastError(f"{name} {value} is beyond the last step; a run of {total} steps has 0..{total - 1}")
    return value
