"""Renders, cached once: `python -m training.data --count 32000` draws the training pictures into a memory-mapped file.

Picture i is `sample_spec(i)`, so everything else about it (caption, attributes) is computed from its number. The file
is filled in order and can be read while it grows; a killed run goes on where it stopped, and a larger `--count` adds to
what is there. `--name mates` draws to each of them a second photo of the same subject, in another scene (`mate`);
`--name duos` puts a subject of another class beside it, on pictures twice as wide (`sample_duo`).
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from samecast.diorama.renderer import Picture, render, render_duo
from samecast.diorama.scenes import Spec, sample_duo, sample_identity, sample_scene, sample_spec

ROOT = Path("runs")
SIZE = 128
CHUNK = 256


class Pictures:
    """The cached renders: `images` uint8 (count, 128, width, 3), `masks` bool and `parts` uint8 (count, 128, width),
    the first `ready` drawn; the width is 128, of duos 256."""

    def __init__(self, name: str = "train") -> None:
        self.folder = ROOT / "data" / name
        if not (self.folder / "images.npy").exists():
            raise SystemExit(f"no pictures in {self.folder}: run 'python -m training.data --name {name}' first")
        self.images = np.load(self.folder / "images.npy", mmap_mode="r")
        self.masks = np.load(self.folder / "masks.npy", mmap_mode="r")
        self.parts = np.load(self.folder / "parts.npy", mmap_mode="r")

    @property
    def ready(self) -> int:
        """How many pictures are drawn so far."""
        return int((self.folder / "ready").read_text())


def mate(number: int) -> Spec:
    """Return another photo of the subject of `sample_spec(number)`."""
    identity = sample_spec(number).identity
    return Spec(identity, sample_scene(np.random.default_rng((number, 1)), identity.kind))


def stray(number: int) -> Spec:
    """Return the scene of `mate(number)` with a subject of the same class and build, and other looks."""
    right = mate(number)
    other = sample_identity(np.random.default_rng((number, 3)), right.identity.kind)
    build = {name: getattr(right.identity, name) for name in ("legs", "girth", "head", "ears", "tail")}
    return replace(right, identity=replace(other, **build))


SPECS: dict[str, Callable[[int], Spec]] = {"mates": mate, "strays": stray}
"""What a set's pictures show, by their number, where it is not `sample_spec`'s."""


def picture(name: str, number: int) -> Picture:
    """Draw picture `number` of a set."""
    if name == "duos":
        return render_duo(sample_duo(number), SIZE)
    return render(spec_of(name, number), SIZE)


def spec_of(name: str, number: int) -> Spec:
    """Return what picture `number` of a set with one subject in each shows."""
    return SPECS.get(name, sample_spec)(number)


def grow(path: Path, count: int) -> None:
    """Make room for `count` rows in an .npy file, in place: its header leaves space for a longer count."""
    held = np.load(path, mmap_mode="r")
    if len(held) >= count:
        return
    shape = (count, *held.shape[1:])
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(held) | {"shape": shape})
        if file.tell() != held.offset:
            raise SystemExit(f"{path} cannot grow to {count} rows: delete its folder and draw again")
        file.truncate(held.offset + count * held.nbytes // len(held))


def draw(name: str, first_seed: int, count: int, threads: int | None) -> None:
    """Draw `count` pictures from `first_seed` on into `runs/data/<name>`."""
    folder = ROOT / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    width = SIZE * (2 if name == "duos" else 1)
    kinds = (
        ("images", np.uint8, (count, SIZE, width, 3)),
        ("masks", np.bool_, (count, SIZE, width)),
        ("parts", np.uint8, (count, SIZE, width)),
    )
    for file, dtype, shape in kinds:
        if not (folder / f"{file}.npy").exists():
            np.lib.format.open_memmap(folder / f"{file}.npy", mode="w+", dtype=dtype, shape=shape).flush()
            (folder / "ready").write_text("0")
        grow(folder / f"{file}.npy", count)
    images = np.load(folder / "images.npy", mmap_mode="r+")
    masks = np.load(folder / "masks.npy", mmap_mode="r+")
    parts = np.load(folder / "parts.npy", mmap_mode="r+")
    done, began, first = int((folder / "ready").read_text()), time.time(), int((folder / "ready").read_text())
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        while done < len(images):
            stop = min(done + CHUNK, len(images))
            numbers = range(first_seed + done, first_seed + stop)
            for index, drawn in zip(range(done, stop), pool.map(partial(picture, name), numbers), strict=True):
                images[index], masks[index], parts[index] = drawn.image, drawn.mask, drawn.parts
            done = stop
            (folder / "ready").write_text(str(done))
            rate = (done - first) / (time.time() - began)
            print(
                f"{name}: {done}/{len(images)} pictures, {rate:.0f}/s, {(len(images) - done) / rate / 60:.1f} min left",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="train")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=32_000)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    draw(arguments.name, arguments.first_seed, arguments.count, arguments.threads)
