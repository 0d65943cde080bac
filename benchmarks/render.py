"""What control costs: a controlled render of 1 and 4 targets against stock diffusers making as many pictures.

Both run in one process on one model, in turns, and the best of each is compared, so that the ratio says little of the
machine. The ratio of evaluations is the ideal: one edit takes half as many again (the inversion), four an eighth more.

    python benchmarks/render.py [--model PATH_OR_HUB_ID] [--steps 20] [--repeats 3]
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

import samecast as sc
from samecast.backbones.loading import load_backbone

PROMPTS = ("a dog running on the beach", "a dog in the snow", "a dog asleep in a room", "a dog from the front at night")


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    model: str = "diorama"
    """A directory, a hub id, a single file, or the embedded model."""

    steps: int = 20
    """Denoising steps of each picture."""

    repeats: int = 3
    """Runs of each, of which the fastest counts."""


def main(benchmark: Benchmark) -> None:
    """Measures and prints the table."""
    backbone = load_backbone(benchmark.model)
    model, stock = sc.Model(backbone), as_ddim(backbone.pipeline)
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((backbone.default_size,) * 2, Image.Resampling.BICUBIC)
    subject = sc.Subject(references=(photo,))
    settings = sc.RenderSettings(steps=benchmark.steps)
    rules = sc.masactrl(start=min(4, benchmark.steps - 1))
    table = Table(title=f"{benchmark.model}, {backbone.default_size} px, {benchmark.steps} steps, {backbone.device}")
    for heading in ("targets", "stock s", "samecast s", "ratio", "ratio of evaluations"):
        table.add_column(heading, justify="right")
    for count in (1, 4):
        prompts = list(PROMPTS[:count])
        plain, ours = best_of(
            benchmark.repeats,
            lambda prompts=prompts: stock(prompts, num_inference_steps=benchmark.steps, guidance_scale=7.5),
            lambda prompts=prompts: model.render(subject, prompts, rules=rules, settings=settings),
        )
        ideal = (1 + 2 * count) / (2 * count)
        table.add_row(str(count), f"{plain:.2f}", f"{ours:.2f}", f"{ours / plain:.2f}", f"{ideal:.2f}")
    Console().print(table)


def as_ddim(pipeline: Any) -> Any:
    """The same weights in a stock pipeline with the sampler that samecast uses."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    stock = StableDiffusionPipeline(**pipeline.components | {"scheduler": scheduler}, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    return stock


def best_of(repeats: int, *jobs: Callable[[], object]) -> list[float]:
    """The fastest run of each job in seconds; the jobs take turns, after one run each to warm up."""
    seconds: list[list[float]] = [[] for _ in jobs]
    for number in range(repeats + 1):
        for job, times in zip(jobs, seconds, strict=True):
            start = time.perf_counter()
            job()
            if number:
                times.append(time.perf_counter() - start)
    return [min(times) for times in seconds]


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
