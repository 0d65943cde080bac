"""Units of a job, and their outcomes as text that can be sent between processes."""

import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from samecast.errors import SamecastError

TRIES = 2
"""Attempts at a unit before it counts as failed; a `SamecastError`, which would recur, fails it at once."""


class Unit(Protocol):
    """A unit of work; small, as it is sent to workers."""

    @property
    def name(self) -> str:
        """Name for display."""
        ...

    @property
    def key(self) -> str:
        """Content key, unique within the job."""
        ...

    @property
    def cost(self) -> float:
        """Relative duration; the longest units are started first."""
        ...


AnyUnit = TypeVar("AnyUnit", bound=Unit)
Result = TypeVar("Result")
Value = TypeVar("Value")
Progress = Callable[[str, int, int], None]
"""Called with the name of the work, the amount done and the total."""
Make = Callable[[Progress], Callable[[AnyUnit], Result]]
"""Creates a worker, a function that is called with one unit after another and reports progress."""


@dataclass(frozen=True)
class Trouble:
    """The reason of a failure.

    Args:
        kind: the exception's type, or the state of the worker.
        reason: the message, in one line.
        details: the traceback.
        mistake: whether it is a `SamecastError`, which would recur.
        tries: number of attempts.
    """

    kind: str
    reason: str
    details: str = ""
    mistake: bool = False
    tries: int = 1

    def __str__(self) -> str:
        return self.reason if self.mistake else f"{self.kind}: {self.reason}"


@dataclass(frozen=True)
class Outcome(Generic[AnyUnit, Result]):
    """The outcome of a unit: a result, or the reason of its failure."""

    unit: AnyUnit
    result: Result | None = None
    trouble: Trouble | None = None


def guarded(work: Callable[[], Value]) -> tuple[Value | None, Trouble | None]:
    """The result of a call, or the reason of its failure, for any exception: panics of compiled libraries are not an
    `Exception`, and some exceptions cannot be printed or sent. Only an interrupt is raised."""
    try:
        return work(), None
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        return None, trouble_of(error)


def trouble_of(error: BaseException) -> Trouble:
    """Describes an exception as text."""
    try:
        words = " ".join(str(error).split())
    except Exception as worse:
        words = f"its message cannot be read: {type(worse).__name__}"
    try:
        details = "".join(traceback.format_exception(error))
    except Exception:
        details = ""
    return Trouble(type(error).__name__, words or "no message", details, isinstance(error, SamecastError))


@cache
def this_code() -> str:
    """The version of samecast in this process, with a hash of its sources, as two checkouts may have the same
    version."""
    root = Path(__file__).parents[1]
    digest = sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return f"{code_version()} ({digest.hexdigest()[:12]})"


@cache
def code_version() -> str:
    """The installed version of samecast."""
    try:
        return version("samecast")
    except PackageNotFoundError:
        return "not installed as a package"


def check_code(expected: str) -> None:
    """Refuses work for another version of samecast than this process has.

    Raises:
        SamecastError: the versions differ.
    """
    if this_code() != expected:
        raise SamecastError(
            f"the worker on {platform.node()} has samecast {this_code()}, but the job needs {expected}: install the"
            " same version on all machines"
        )


def no_progress(name: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""
