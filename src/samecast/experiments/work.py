"""One unit of a job at a worker: what came of it, told in words that survive any way back."""

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
"""How often a unit is begun before it counts as failed, where the reason is not a mistake that would come again."""


class Unit(Protocol):
    """What a job is made of; small, for it is sent to workers."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def key(self) -> str:
        """Of its own within the job, as a content key."""
        ...

    @property
    def cost(self) -> float:
        """How long it takes against the others; the longest are begun first."""
        ...


AnyUnit = TypeVar("AnyUnit", bound=Unit)
Result = TypeVar("Result")
Value = TypeVar("Value")
Progress = Callable[[str, int, int], None]
"""Told what is worked on, how much of it is done, and how much there is."""
Make = Callable[[Progress], Callable[[AnyUnit], Result]]
"""Makes a worker; it is called with units, one after another, and tells the progress of each."""


@dataclass(frozen=True)
class Trouble:
    """Why something did not work.

    Args:
        kind: the name of the exception's type, or what became of the worker.
        reason: in one line.
        details: the traceback, for those who mend.
        mistake: whether it is a `SamecastError`, which would come again.
        tries: how often it was tried.
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
    """What came of a unit: a result, or trouble."""

    unit: AnyUnit
    result: Result | None = None
    trouble: Trouble | None = None


def guarded(work: Callable[[], Value]) -> tuple[Value | None, Trouble | None]:
    """What a call gives, or why it gave nothing, whatever was raised: compiled libraries have panics that are no
    `Exception`, and some exceptions cannot be printed or sent. Only an interruption passes."""
    try:
        return work(), None
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        return None, trouble_of(error)


def trouble_of(error: BaseException) -> Trouble:
    """An exception in words."""
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
    """The version of samecast in this process, with a hash of its sources: two checkouts may call themselves alike."""
    root = Path(__file__).parents[1]
    digest = sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return f"{code_version()} ({digest.hexdigest()[:12]})"


def code_version() -> str:
    """The installed version of samecast."""
    try:
        return version("samecast")
    except PackageNotFoundError:
        return "not installed as a package"


def check_code(wanted: str) -> None:
    """Refuses to work for another version than that of this process.

    Raises:
        SamecastError: it is another.
    """
    if this_code() != wanted:
        raise SamecastError(
            f"the worker on {platform.node()} has samecast {this_code()}, and the job is of {wanted}: install the same"
            " on all machines"
        )


def no_progress(name: str, done: int, total: int) -> None:
    """Progress that nobody asks for."""
