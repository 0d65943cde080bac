"""Units of many tempers, and workers for them; imported by workers, too."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samecast.errors import SamecastError
from samecast.experiments.store import content_key
from samecast.experiments.work import Progress


@dataclass(frozen=True)
class Number:
    """A unit that is to be doubled, and how it behaves."""

    value: int
    temper: str = ""
    cost: float = 1.0

    @property
    def name(self) -> str:
        return f"number {self.value}"

    @property
    def key(self) -> str:
        return content_key({"number": self.value})


class UnspeakableError(Exception):
    """Can be neither sent nor printed."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first)

    def __str__(self) -> str:
        raise ValueError("no words")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("cannot be sent")


class PanicError(BaseException):
    """As compiled libraries raise it: no `Exception`."""


class Unsendable:
    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("cannot be sent")


class Doubler:
    """Doubles numbers; writes down which process it is of, and what it was asked."""

    def __init__(self, log: Path, progress: Progress) -> None:
        self._log, self._progress = log, progress
        self._note("made")

    def _note(self, words: str) -> None:
        with self._log.open("a") as file:
            file.write(f"{os.getpid()} {words}\n")

    def __call__(self, unit: Number) -> object:
        self._note(str(unit.value))
        once = self._log.with_name(f"{unit.value}-was-here")
        first = not once.exists()
        once.touch()
        _TEMPERS.get(unit.temper, lambda first: None)(first)
        if unit.temper == "long":
            for step in range(40):
                self._progress(unit.name, step, 40)
                time.sleep(0.1)
        return Unsendable() if unit.temper == "unsendable" else 2 * unit.value


def _mistake(first: bool) -> None:
    raise SamecastError("this number cannot be doubled")


def _flaky(first: bool) -> None:
    if first:
        raise RuntimeError("not now")


def _bug(first: bool) -> None:
    raise RuntimeError("a bug")


def _unspeakable(first: bool) -> None:
    raise UnspeakableError(1, 2)


def _panic(first: bool) -> None:
    raise PanicError("index out of bounds")


def _exit(first: bool) -> None:
    sys.exit("enough")


def _lost(first: bool) -> None:
    if first:
        os.kill(os.getpid(), signal.SIGKILL)


def _poison(first: bool) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _interrupt(first: bool) -> None:
    if first:
        raise KeyboardInterrupt


_TEMPERS: dict[str, Callable[[bool], None]] = {
    "mistake": _mistake,
    "flaky": _flaky,
    "bug": _bug,
    "unspeakable": _unspeakable,
    "panic": _panic,
    "exit": _exit,
    "lost": _lost,
    "poison": _poison,
    "interrupt": _interrupt,
}


def log_of(log: Path) -> list[tuple[int, str]]:
    """What workers wrote down: process and words."""
    return [(int(line.split()[0]), line.split()[1]) for line in log.read_text().splitlines()]
