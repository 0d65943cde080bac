"""The AIKU grid on shared prefixes against each configuration alone, as the reference code runs it; in one process.

The reference inverts a photo once, with two equal rows, then denoises configuration after configuration in batches of
four rows (source and target, both guidance groups), decodes each picture and scores it. The study does the same grid
(its additions left out) with everything that it does besides: records, checkpoints, tables, figures and the page. With
`--workers` it runs on as many of Ray's workers on this machine, of one core each, and their start counts.

    python -m benchmarks.study [--model PATH_OR_HUB_ID] [--subjects 2] [--workers 2] [--configurations 44]
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from einops import rearrange
from rich.console import Console
from rich.table import Table

import samecast as sc
from samecast.core import ddim
from samecast.core.layers import select_layers
from samecast.experiments.executors.ray import RayExecutor
from samecast.metrics import Metric
from samecast.models.loading import load_backbone
from samecast.models.unet import UNetBackbone
from samecast.study.grid import Variant, runs_of
from samecast.study.job import prepare, run_study
from samecast.study.presets import aiku
from samecast.study.publish import publish
from samecast.study.recipe import Recipe
from samecast.study.scoring import metrics_of, score
from samecast.study.subjects import StudySubject, bundled
from samecast.study.unit import ExecutionConfig


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    model: str = "diorama"
    """A directory, a hub id, a single file, or the embedded model."""

    subjects: int = 1
    """Of the bundled subjects."""

    configurations: int = 44
    """How many of the 44 to run alone for each subject; what fewer take is scaled up to 44."""

    workers: int = 0
    """Of Ray, for the study; 0 is this process alone."""

    steps: int = 50
    """Denoising steps."""


class Masactrl:
    """One self-attention layer as MasaCtrl's code has it: targets' keys and values replaced by the source's."""

    def __init__(self, original: Any) -> None:
        self.original, self.active = original, False

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The layer's output."""
        if not self.active:
            return self.original(attn, hidden_states, *args, **kwargs)
        read = hidden_states[[0, 0, 2, 2]]  # source and target, unconditional and conditional
        query, key, value = (
            rearrange(states, "row token (heads channel) -> row heads token channel", heads=attn.heads)
            for states in (attn.to_q(hidden_states), attn.to_k(read), attn.to_v(read))
        )
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        merged = rearrange(output, "row heads token channel -> row token (heads channel)")
        return attn.to_out[1](attn.to_out[0](merged))


@torch.inference_mode()
def inverted(backbone: UNetBackbone, subject: StudySubject, steps: int) -> tuple[torch.Tensor, int]:
    """The latent that a photo comes from, and how many rows that took."""
    schedule = backbone.schedule(steps)
    empty = backbone.encode_prompts([""])[0]
    latent, rows = backbone.encode_image(subject.references[0]), 0
    for step in reversed(schedule.working_steps):
        doubled = torch.stack([latent, latent])
        prediction = backbone.predict(doubled, schedule.timesteps[step], torch.stack([empty, empty]))
        latent, rows = ddim.invert(latent[None], prediction[:1], schedule, step)[0], rows + 2
    return latent, rows


@torch.inference_mode()
def alone(
    backbone: UNetBackbone,
    subject: StudySubject,
    latent: torch.Tensor,
    variants: list[Variant],
    steps: int,
    metrics: Sequence[Metric],
) -> int:
    """Each configuration by itself; returns how many rows that took."""
    schedule, rows = backbone.schedule(steps), 0
    empty, prompt = (backbone.encode_prompts([text])[0] for text in ("", subject.prompts[0]))
    layers = [(bound, Masactrl(bound.module.processor)) for bound in backbone.self_attention()]
    layers = [bound.layer for bound, _ in layers]
    texts = torch.stack([empty, empty, empty, prompt])
    try:
        for bound, processor in layers:
            bound.module.set_processor(processor)
        for variant in variants:
            (rule,) = variant.rules
            controlled = {layer.index for layer in select_layers(rule.layers, layers)}
            acting = set(rule.steps.select(steps))
            pair = torch.stack([latent, latent])
            for step in schedule.working_steps:
                for bound, processor in layers:
                    processor.active = step in acting and bound.layer.index in controlled
                unconditional, conditional = backbone.predict(
                    torch.cat([pair, pair]), schedule.timesteps[step], texts
                ).chunk(2)
                guided = unconditional + backbone.default_guidance * (conditional - unconditional)
                pair, rows = ddim.denoise(pair, guided, schedule, step), rows + 4
            image = backbone.decode(pair[1:])[0]
            list(score(metrics, subject, [("", subject.prompts[0], image)], {}))
    finally:
        for bound, processor in layers:
            bound.module.set_processor(processor.original)
    return rows


def main(benchmark: Benchmark) -> None:
    """Measures and prints the table."""
    backbone = load_backbone(benchmark.model)
    grid = aiku(benchmark.steps, beyond=False)
    named = {variant.name: variant for variant in grid.variants}
    everything = [named[name] for view in grid.views for _, name in view.points]
    chosen = everything[:: max(1, len(everything) // benchmark.configurations)][: benchmark.configurations]
    subjects = bundled(backbone.default_size, subjects=benchmark.subjects)
    settings = sc.RenderSettings(num_inference_steps=benchmark.steps)
    with tempfile.TemporaryDirectory() as place:
        recipe = Recipe(grid, settings, benchmark.model, "", "")
        folder, _ = prepare(Path(place) / "study", recipe, subjects, backbone)
        settled = folder.recipe()  # both are scored by the very same models
        metrics = metrics_of(settled, str(backbone.device))
        began = time.perf_counter()
        if benchmark.workers:
            ran = run_study(folder, ExecutionConfig(folder.path), executor=RayExecutor(benchmark.workers))
        else:
            ran = run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
        made = time.perf_counter() - began
        assert publish(folder).count, "the study that was timed has no table"
        ours = time.perf_counter() - began
    theirs, rows, share = 0.0, 0, len(everything) / len(chosen)
    for subject in subjects:
        began = time.perf_counter()
        latent, taken = inverted(backbone, subject, benchmark.steps)
        theirs, rows = theirs + time.perf_counter() - began, rows + taken
        began = time.perf_counter()
        taken = alone(backbone, subject, latent, chosen, benchmark.steps, metrics)
        theirs, rows = theirs + (time.perf_counter() - began) * share, rows + round(taken * share)
    evaluations = sum(tally.evaluations for tally in ran.tallies)
    hands = f"{benchmark.workers} workers" if benchmark.workers else "one process"
    title = f"{benchmark.model}, {benchmark.subjects} subjects, {runs_of(grid)} runs each; the study on {hands}"
    table = Table(title=title)
    for heading in ("", "each alone", "study", "ratio"):
        table.add_column(heading, justify="right")
    table.add_row("evaluations", f"{rows:,}", f"{evaluations:,}", f"{rows / evaluations:.2f}")
    table.add_row("seconds, made and scored", f"{theirs:.1f}", f"{made:.1f}", f"{theirs / made:.2f}")
    table.add_row("seconds, with tables, figures and page", f"{theirs:.1f}", f"{ours:.1f}", f"{theirs / ours:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
