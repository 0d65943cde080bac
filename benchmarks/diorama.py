"""Renders a second of the embedded world, on all cores: at 64 px with 2 x 2 supersampling at least 80 on two cores."""

import os
import time

from rich.console import Console
from rich.table import Table

from samecast.diorama.renderer import render_many
from samecast.diorama.scenes import sample_spec


def main() -> None:
    """Measure and print."""
    table = Table(title=f"renders a second, {os.cpu_count()} cores")
    table.add_column("pixels")
    for supersampling in (1, 2):
        table.add_column(f"{supersampling} x {supersampling} samples", justify="right")
    specs = [sample_spec(seed) for seed in range(192)]
    list(render_many(specs[:2], 64))  # compile
    for size in (64, 128, 256):
        rates: list[str] = []
        for supersampling in (1, 2):
            some = specs[: 192 * 64 // size]
            began = time.perf_counter()
            list(render_many(some, size, supersampling))
            rates.append(f"{len(some) / (time.perf_counter() - began):.0f}")
        table.add_row(f"{size} x {size}", *rates)
    Console().print(table)


if __name__ == "__main__":
    main()
