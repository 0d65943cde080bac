"""When: the denoising steps at which a rule acts.

A step is an index 0..T-1 in denoising order; it is not a timestep (999..0).
"""

from dataclasses import dataclass

from samecast.errors import SamecastError

SKIP_PERIOD = 10


@dataclass(frozen=True)
class Steps:
    """A span of denoising steps, thinned by the AIKU study's skip.

    Args:
        start: first step that acts.
        final: last step that acts, inclusive; None is the last step of the run.
        skip: None or 0: every step of the span acts. 1..9: step j acts when `j % 10 >= skip`, so that skip=1 omits
            steps 0, 10, 20, ... and skip=9 keeps only 9, 19, 29, ...

    Raises:
        SamecastError: the span is empty or a value is out of range.
    """

    start: int = 0
    final: int | None = None
    skip: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0:
            raise SamecastError(f"start must be 0 or more; got {self.start}")
        if self.final is not None and self.final < self.start:
            raise SamecastError(f"start {self.start} comes after final {self.final}; start must be at most final")
        if self.skip is not None and not 0 <= self.skip < SKIP_PERIOD:
            raise SamecastError(f"skip must be 0..{SKIP_PERIOD - 1}; got {self.skip}")

    def active(self, step: int) -> bool:
        """Whether `step` acts, whatever the length of the run."""
        if step < self.start or (self.final is not None and step > self.final):
            return False
        return not self.skip or step % SKIP_PERIOD >= self.skip

    def select(self, total: int) -> tuple[int, ...]:
        """The steps that act in a run of `total` steps, ascending.

        Raises:
            SamecastError: start or final lies beyond the last step, or no step is left.
        """
        for name, value in (("start", self.start), ("final", self.final)):
            if value is not None and value >= total:
                raise SamecastError(
                    f"{name} {value} is beyond the last step; a run of {total} steps has 0..{total - 1}"
                )
        selected = tuple(step for step in range(total) if self.active(step))
        if not selected:
            raise SamecastError(f"{self} selects none of the steps 0..{total - 1}")
        return selected
