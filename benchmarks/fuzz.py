"""Mangled inputs through the command's own entry, in this process: what becomes of them.

Photos, lists, annotations, folders, rules, records, configurations, models, concepts, studies and options are spoiled
at random (`benchmarks.mangling`), always the same way for one seed, and given to the command. A sound answer is one
line and exit code 2, or the work: what passes all checks is refused in the end for its model, which is not there,
except for a share that runs to the end on a tiny one. Anything else counts against us, and ends with exit code 1: a
traceback, several lines, no line, no answer within the limit, or a peak of memory far above those before.

    python -m benchmarks.fuzz [--count 10000] [--seed 0] [--limit 30] [--keep FOLDER]
"""

import faulthandler
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.fuzz_inputs import KINDS, NOWHERE, Inputs
from samecast.cli import main as samecast

Answer = Literal["refused", "accepted", "traceback", "hang", "other", "memory"]
BAD: tuple[Answer, ...] = ("traceback", "hang", "other", "memory")
MOST_MEMORY = 1.0
"""GiB by which one input may raise the peak of this process; a tiny model takes a fraction of it."""
_EVERY = 500
"""Inputs between two lines of progress."""
_SHOWN = 20


@dataclass(frozen=True)
class Fuzz:
    """What to try."""

    count: int = 10_000
    """How many inputs."""

    seed: int = 0
    """Of everything that is drawn."""

    limit: float = 30.0
    """Seconds after which an input counts as one that hangs."""

    keep: Path | None = None
    """Folder to copy the files into that were answered wrongly."""

    only: tuple[str, ...] = ()
    """Which kinds of input; all unless given."""


@dataclass
class Report:
    """How often each kind of input got each answer, and the wrong answers in full."""

    counts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    wrong: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    @property
    def bad(self) -> int:
        """How many inputs were answered wrongly."""
        return sum(counter[answer] for counter in self.counts.values() for answer in BAD)

    def total(self, answer: str) -> int:
        """How many inputs got this answer."""
        return sum(counter[answer] for counter in self.counts.values())


class HangError(BaseException):
    """No answer within the limit; no `except Exception` holds it up."""


def main(options: Fuzz) -> Report:
    """Try all inputs, print what became of them, and return it."""
    report = fuzz(options)
    table = Table(title=f"{options.count:,} inputs, seed {options.seed}, {report.seconds:.0f} s", title_justify="left")
    columns = ("tried", "refused", "accepted", *BAD)
    table.add_column("input")
    for column in columns:
        table.add_column({"refused": "refused in one line"}.get(column, column), justify="right")
    for kind, counter in report.counts.items():
        table.add_row(kind, f"{counter.total():,}", *(f"{counter[answer]:,}" for answer in columns[1:]))
    tried = sum(counter.total() for counter in report.counts.values())
    table.add_row("all", f"{tried:,}", *(f"{report.total(answer):,}" for answer in columns[1:]))
    console = Console(markup=False, width=120)
    console.print(table)
    for data in report.wrong[:_SHOWN]:
        console.print(data, soft_wrap=True)
    return report


def fuzz(options: Fuzz) -> Report:
    """Try all inputs."""
    report, began = Report(), time.monotonic()
    threads, here = torch.get_num_threads(), Path.cwd()
    kinds = {name: KINDS[name] for name in options.only or KINDS}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        os.chdir(place)  # what has no --out is written here
        try:
            inputs = Inputs(Path(place))
            for number in range(options.count):
                draw = Random(f"{options.seed}-{number}")
                kind = draw.choices(list(kinds), [share for share, _ in kinds.values()])[0]
                words = kinds[kind][1](inputs, draw)
                before = peak()
                answer, data = judge(lambda words=words: samecast(words), options.limit)
                if peak() - before > MOST_MEMORY and answer not in BAD:
                    answer, data = "memory", f"the peak of memory rose from {before:.1f} to {peak():.1f} GiB"
                torch.set_num_threads(threads)  # which a record may set
                report.counts.setdefault(kind, Counter())[answer] += 1
                if answer in BAD:
                    report.wrong.append(f"input {number}, {kind}, {answer}: {words!r:.400}\n{data}")
                    if options.keep is not None:
                        shutil.copytree(inputs.spoiled, options.keep / f"{number}-{answer}", symlinks=True)
                inputs.clear()
                if not (number + 1) % _EVERY:
                    done = f"{number + 1:,} of {options.count:,} inputs, {report.bad} answered wrongly"
                    sys.stderr.write(f"{done}, {time.monotonic() - began:.0f} s, {peak():.1f} GiB\n")
        finally:
            os.chdir(here)
    report.seconds = time.monotonic() - began
    return report


def peak() -> float:
    """The most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def judge(call: Callable[[], int], limit: float) -> tuple[Answer, str]:
    """What an answer of the command is worth.

    Args:
        call: returns the exit code.
        limit: in seconds.

    Returns:
        The answer, and what to show of a wrong one.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code: int | None = None
    began = time.monotonic()
    try:
        with redirect_stdout(out), redirect_stderr(err), _alarm(limit):
            code = call()
    except HangError:
        return "hang", f"no answer after {time.monotonic() - began:.0f} s\n{traceback.format_exc(limit=-6)}"
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        return "traceback", traceback.format_exc(limit=-8)
    data = [line for line in _text(err).splitlines() if not line.startswith("note: ")]
    if code == 2 and len(data) == 1 and data[0].startswith("samecast: "):
        return ("accepted" if NOWHERE in data[0] else "refused"), ""
    if code in (0, 1) and not data:
        return "accepted", ""
    return "other", f"exit code {code}, on stderr:\n" + "\n".join(data)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8", "backslashreplace")


@contextmanager
def _alarm(limit: float) -> Iterator[None]:
    """Raises in the block after so many seconds; where C code does not come back, ends the process after ten times."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    faulthandler.dump_traceback_later(10 * limit, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def run(words: Sequence[str] | None = None) -> int:
    """The command line."""
    return 1 if main(tyro.cli(Fuzz, args=words)).bad else 0


if __name__ == "__main__":
    sys.exit(run())
