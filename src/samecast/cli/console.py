"""Terminal output: results on stdout, everything else on stderr.

Nothing printed is interpreted as markup or as terminal commands: paths, prompts and texts from files are shown
literally, with control characters escaped.
"""

import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from samecast.notebook import STAGES

HEARTBEAT_SECONDS = 30.0
"""Seconds between progress lines where no bar can be drawn."""

_CONTROL = ("Cc", "Cs", "Zl", "Zp")
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Bidirectional controls change the direction of what follows, and can make one name look like another."""

Report = Callable[..., None]
"""Called with a stage, the number of its steps done, their total, and the loss if there is one."""


class OutputError(Exception):
    """The output could not be printed: the reader has closed the pipe, or the disk is full."""


class _Stream:
    """stdout or stderr, looked up at each write; errors of stderr are ignored."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(sys, self._name), name)

    def write(self, text: str) -> int:
        """As the stream's method; raises OutputError in place of OSError."""
        return self._guarded(lambda stream: stream.write(text)) or 0

    def flush(self) -> None:
        """As the stream's method; raises OutputError in place of OSError."""
        self._guarded(lambda stream: stream.flush())

    def _guarded(self, act: Callable[[Any], Any]) -> Any:
        try:
            return act(getattr(sys, self._name))
        except OSError as error:
            if self._name == "stderr":
                return None
            raise OutputError(error.strerror or str(error)) from error


class _PlainConsole(Console):
    """A console without markup or highlighting."""

    def __init__(self, stream: str, **options: Any) -> None:
        file: Any = _Stream(stream)
        super().__init__(file=file, highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Text with its control characters escaped."""
        return super().render_str(printable(text), **options)


CONSOLE = _PlainConsole("stderr", stderr=True)
RESULTS = _PlainConsole("stdout", soft_wrap=True)


def printable(text: str) -> str:
    """The text on one line, with terminal control characters escaped as in a Python literal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode()
        if letter in _TURNING or unicodedata.category(letter) in _CONTROL
        else letter
        for letter in text
    )


def sound_streams() -> None:
    """Make sure that all three standard streams are open, and escape characters that their encoding lacks.

    In a process started with one of them closed, the first file opened takes its number, and what libraries print
    would go into that file.
    """
    for number in range(3):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open for the life of the process
        with suppress(AttributeError):  # notebooks and tests replace the streams
            getattr(sys, name).reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Discard what is still buffered: the interpreter would report it on exit."""
    with suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report_error(message: str) -> None:
    """Print an error on stderr, as one line."""
    CONSOLE.print(Text.assemble(("samecast:", "bold red"), " ", printable(" ".join(message.split()))), soft_wrap=True)


def notify(message: str) -> None:
    """Print a warning on stderr."""
    CONSOLE.print(Text.assemble(("note:", "yellow"), " ", printable(message)), soft_wrap=True)


def quiet_libraries() -> None:
    """Silence the logs and warnings of diffusers and transformers; their errors still raise."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()


@contextmanager
def working(what: str) -> Generator[None]:
    """A spinner for work of unknown length, or a line now and then where none can be drawn."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        console=CONSOLE,
        transient=True,
        disable=not CONSOLE.is_terminal,
    )
    progress.add_task(what, total=None)
    with progress, _heartbeat(lambda: what):
        yield


@contextmanager
def stages(*, shown: bool = True) -> Generator[Report]:
    """A bar for each stage of the work, with the remaining time; yields the callback to report progress to.

    Args:
        shown: whether to show anything.
    """
    progress = Progress(
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[loss]}", markup=False),
        console=CONSOLE,
        disable=not (shown and CONSOLE.is_terminal),
    )
    bars: dict[str, Any] = {}
    latest = ""

    def report(stage: str, done: int, total: int, loss: float | None = None) -> None:
        nonlocal latest
        name = printable(STAGES.get(stage, stage))
        if stage not in bars:
            bars[stage] = progress.add_task(name, total=total, loss="")
        data = "" if loss is None else f"loss {loss:.4f}"
        progress.update(bars[stage], completed=done, total=total, loss=data)
        latest = f"{name} {done}/{total} {data}".strip()

    with progress, _heartbeat(lambda: latest if shown else ""):
        yield report


@contextmanager
def _heartbeat(status: Callable[[], str]) -> Generator[None]:
    """Prints progress every `HEARTBEAT_SECONDS` while the block lasts, where stderr is not a terminal."""
    if CONSOLE.is_terminal:
        yield
        return
    ended, began = threading.Event(), time.monotonic()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            if data := status():
                CONSOLE.print(f"{data} ({time.monotonic() - began:.0f} s)", soft_wrap=True)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
