"""kill -9 at random moments over render, learn, study, compare and the Diorama benchmark: what is left, what is lost.

Each piece of work runs in a process of its own, forked from this one so that it begins at once, is killed at a random
moment, and is begun again in the same folder until it comes to its end undisturbed. After every kill each file that has
its name must be whole, and what was finished must be as it was, untouched; after the next run to the end nothing may
be left of the killed ones. Ends with exit code 1 where that is not so.

    python -m benchmarks.kills [--count 200] [--seed 0] [--only render learn]
"""

import csv
import io
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

import samecast as sc
from benchmarks.fuzz_inputs import tiny_model, tiny_photo
from samecast.cli import main as samecast
from samecast.learn.job import learn
from samecast.learn.lists import from_folder
from samecast.learn.settings import LearnSettings
from samecast.learn.watch import Watching


@dataclass(frozen=True)
class Kills:
    """What to try."""

    count: int = 200
    """How many kills, spread evenly over the kinds of work."""

    seed: int = 0
    """Of the moments."""

    only: tuple[str, ...] = ()
    """Which kinds of work; all unless given."""


@dataclass(frozen=True)
class Work:
    """Something that is done in a folder, and done again after it was killed.

    Args:
        do: does it, in the folder that it is given; returns an exit code.
        finished: patterns of files that are never written again once they are there.
    """

    do: Callable[[Path], int]
    finished: tuple[str, ...]


@dataclass
class Found:
    """What came of one kind of work.

    Args:
        kills: that hit before the end.
        runs: that came to their end.
        files: that were read to their end after a kill.
        broken: files that were not whole.
        repeated: finished files that were written again, or lost.
        left: what was left over after a run to the end.
        failed: runs to the end that ended with another exit code than 0.
    """

    kills: int = 0
    runs: int = 0
    files: int = 0
    broken: list[str] = field(default_factory=list[str])
    repeated: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])

    @property
    def wrong(self) -> list[str]:
        """All that should not be."""
        return [*self.broken, *self.repeated, *self.left, *self.failed]


def main(options: Kills) -> dict[str, Found]:
    """Kill, print what came of it, and return it."""
    began, here = time.monotonic(), Path.cwd()
    torch.set_num_threads(1)  # threads do not survive a fork
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        os.chdir(place)  # what has no folder of its own is written here
        try:
            works = make_works(Path(place))
            chosen = {name: works[name] for name in options.only or works}
            counts = [options.count // len(chosen) + (at < options.count % len(chosen)) for at in range(len(chosen))]
            found = {
                name: kill(work, Path(place) / name, count, Random(f"{options.seed}-{name}"))
                for (name, work), count in zip(chosen.items(), counts, strict=True)
            }
        finally:
            os.chdir(here)
    columns = ("kills", "runs", "files", "broken", "repeated", "left", "failed")
    title = f"{sum(of.kills for of in found.values())} kills, seed {options.seed}, {time.monotonic() - began:.0f} s"
    table = Table("work", title=title, title_justify="left")
    words = {"runs": "runs to the end", "files": "files read", "left": "left over"}
    for column in columns:
        table.add_column(words.get(column, column), justify="right")
    for name, of in found.items():
        data = (getattr(of, column) for column in columns)
        table.add_row(name, *(f"{value if isinstance(value, int) else len(value):,}" for value in data))
    console = Console(markup=False, width=120)
    console.print(table)
    for line in [line for of in found.values() for line in of.wrong][:20]:
        console.print(line, soft_wrap=True)
    return found


def make_works(place: Path) -> dict[str, Work]:
    """The kinds of work, each small, on a tiny model."""
    model, photo = str(tiny_model(place / "sound")), str(tiny_photo(place / "sound" / "photos" / "0.png"))
    annotation = place / "sound" / "annotation.json"
    annotation.write_text(
        json.dumps([{"name": name, "description": ["a dog", "a cat"], "image_path": photo} for name in ("a", "b")])
    )
    render = ("render", photo, "a dog", "a cat", "--steps", "4", "--start", "1", "--model", model)
    study = ("study", str(annotation), "--axis", "start=0,1", "--axis", "layers=encoder,decoder", "--steps", "4")
    study += ("--clip", "diorama", "--dino", "none", "--checkpoint", "0", "--model", model)
    few = ("--subjects", "2", "--prompts", "1", "--steps", "2", "--model", model)
    benchmark = ("diorama", "benchmark", *few, "--methods", "prompt", "union")
    compare = ("compare", *few, "--pairs", "0", "--learn-steps", "2", "--methods", "prompt", "lora")
    units = "out/units/*/*"

    def learn_in(folder: Path) -> int:
        settings = LearnSettings(steps=4, learning_rate=1e-3, token_rate=1e-2, class_images=2, augment="none")
        watching = Watching(show_every=2, prompts=("a <new1> dog",), save_seconds=0)
        learn(sc.load(model), [from_folder(Path(photo).parent, "dog")], settings, folder / "rex", watching=watching)
        return 0

    return {
        "render": Work(lambda folder: samecast((*render, "--out", str(folder / "rex"))), ("rex*/*",)),
        "learn": Work(learn_in, ("rex/class/*/*", "rex/samples/*", "rex/learn.json")),
        "study": Work(
            lambda folder: samecast((*study, "--out", str(folder / "study"))),
            ("study/study.json", "study/subjects/*/*", "study/runs/*/*", "study/scores/*"),
        ),
        "compare": Work(
            lambda folder: samecast((*compare, "--out", str(folder / "out"))),
            (units, "out/concepts/*/photos/*", "out/concepts/*/*/learn.json"),
        ),
        "benchmark": Work(lambda folder: samecast((*benchmark, "--out", str(folder / "out"))), (units,)),
    }


def kill(work: Work, place: Path, count: int, draw: Random) -> Found:
    """Do a work again and again, killed at random moments, until there were so many kills.

    Args:
        work: to do.
        place: to do it in; a folder for each time that it came to its end.
        count: of kills.
        draw: of the moments.
    """
    found = Found()
    lasted = _warm(work, place)
    while found.kills < count:
        folder = place / f"{found.runs}"
        folder.mkdir()
        finished: dict[str, tuple[int, int]] = {}
        killed = True
        while killed:
            moment = draw.uniform(0.0, lasted) if found.kills < count else None
            code, seconds = _run(work, folder, moment)
            killed = code == -signal.SIGKILL
            if not killed and not finished:  # done at a stretch: kills are to fall within
                lasted = min(lasted, seconds)
            found.kills += killed
            if not killed and code != 0:
                output = (place / "output.txt").read_text().strip().splitlines()
                found.failed.append(f"{folder}: exit code {code}: {' | '.join(output[-4:])}")
            found.broken += [str(file) for file in _broken(folder, found)]
            now = _stamps(work, folder)
            found.repeated += [f"{folder}/{name}" for name, stamp in finished.items() if now.get(name) != stamp]
            finished = now
        found.runs += 1
        found.left += [str(path) for path in folder.rglob(".*")]
        # And once more from its end, which makes nothing again.
        code, _ = _run(work, folder, None)
        found.failed += [f"{folder}: exit code {code} when done again"] if code else []
        now = _stamps(work, folder)
        found.repeated += [f"{folder}/{name}" for name, stamp in finished.items() if now.get(name) != stamp]
        found.left += [str(path) for path in folder.rglob(".*")]
    return found


def _warm(work: Work, place: Path) -> float:
    """Do it in this process, so that what it imports is there in all that are forked from it, then once more; how many
    seconds that takes."""
    lasted = 0.0
    for name in ("first", "whole"):
        (place / name).mkdir(parents=True)
        began = time.monotonic()
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as data:
            if work.do(place / name) != 0:
                raise AssertionError(data.getvalue())
        lasted = time.monotonic() - began
    return lasted


def _run(work: Work, folder: Path, moment: float | None) -> tuple[int, float]:
    """Do it in a process of its own, and kill that after so many seconds if it has not ended; its exit code, and how
    long it lasted."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            with (folder.parent / "output.txt").open("a") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            code = work.do(folder)
        except BaseException:  # whatever it is, the parent is to see it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    ended, status = 0, 0
    while moment is not None and not ended and time.monotonic() - began < moment:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.0005)
    if not ended:
        if moment is not None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began


def _broken(folder: Path, found: Found) -> list[Path]:
    """The files that have their name and are not whole."""
    broken: list[Path] = []
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or not file.is_file():
            continue
        found.files += 1
        try:
            read_whole(file)
        except Exception:  # whatever a reader says of half a file
            broken.append(file)
    return broken


def read_whole(file: Path) -> None:
    """Reads a file to its end, as what its name says; raises what the reader raises where it is not whole."""
    if file.suffix == ".json":
        json.loads(file.read_text())
    elif file.suffix == ".png":
        Image.open(file).load()
    elif file.suffix == ".safetensors":
        load_file(file)
    elif file.suffix == ".parquet":
        pq.read_table(file)
    elif file.suffix == ".csv":
        rows = list(csv.reader(file.read_text().splitlines()))
        if len({len(row) for row in rows}) != 1:
            raise ValueError("rows of different lengths")
    elif file.suffix in (".html", ".svg") and not file.read_text().rstrip().endswith((">",)):
        raise ValueError("no end")


def _stamps(work: Work, folder: Path) -> dict[str, tuple[int, int]]:
    """Which finished files there are, and which ones they are: a file that is written again is another one."""
    found: dict[str, tuple[int, int]] = {}
    for pattern in work.finished:
        for file in folder.glob(pattern):
            name, data = file.relative_to(folder).as_posix(), file.stat()
            if "/." not in f"/{name}":
                found[name] = (data.st_ino, data.st_mtime_ns)
    return found


def run(words: list[str] | None = None) -> int:
    """The command line."""
    return 1 if any(of.wrong for of in main(tyro.cli(Kills, args=words)).values()) else 0


if __name__ == "__main__":
    sys.exit(run())
