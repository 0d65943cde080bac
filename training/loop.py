"""What every recipe shares: a resumable loop with a moving average of the weights, a cosine schedule and a log.

A recipe gives `train` a module and a function from step number to loss. Progress is the larger of steps done over steps
asked and minutes spent over minutes allowed, so the same recipe fits a laptop's hour and a GPU's ten minutes; both are
written beside the weights.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from training.data import ROOT


@dataclass
class Recipe:
    """How long and how fast: shared options of all recipes."""

    name: str
    steps: int
    minutes: float
    rate: float
    batch: int
    seed: int
    device: torch.device
    dtype: torch.dtype
    init_from: Path | None
    warmup: int = 200
    decay: float = 0.01
    average: float = 0.999

    @property
    def folder(self) -> Path:
        """Where checkpoints and logs go."""
        return ROOT / self.name


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is faster than float32 (GPUs; CPUs with AMX), measured, not guessed from a name."""
    if device.type != "cpu":
        return torch.bfloat16

    def seconds(dtype: torch.dtype) -> float:
        a = torch.randn(1024, 1024, dtype=dtype)
        for _ in range(3):
            a @ a
        began = time.perf_counter()
        for _ in range(10):
            a @ a
        return time.perf_counter() - began

    return torch.bfloat16 if seconds(torch.bfloat16) * 1.5 < seconds(torch.float32) else torch.float32


def recipe(name: str, **defaults: Any) -> tuple[Recipe, argparse.Namespace]:
    """Read the shared options from the command line; unknown extra defaults become options of the recipe's own."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    shared = {"steps": 10**9, "minutes": 1e9, "rate": 1e-3, "batch": 32, "seed": 0, "threads": 0, "average": 0.999}
    for option, default in (shared | defaults).items():
        parser.add_argument(f"--{option.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--name", default=name)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--init-from", type=Path, help="start from these weights with a fresh optimiser")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    device = torch.device(given.device)
    dtype = fast_dtype(device) if given.dtype == "auto" else getattr(torch, given.dtype)
    made = Recipe(
        given.name, given.steps, given.minutes, given.rate, given.batch, given.seed, device, dtype, given.init_from,
        average=given.average,
    )  # fmt: skip
    print(f"{made.name}: {device}, {dtype}, {torch.get_num_threads()} threads", flush=True)
    return made, given


class Average:
    """An exponential moving average of a module's weights, with a short memory at first."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone().float() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights."""
        keep = min(self.decay, (1 + step) / (10 + step))
        ours, theirs = [], []
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                ours.append(self.weights[name])
                theirs.append(value.float())
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(ours, theirs, 1 - keep)


class Log:
    """Means of what the steps report, shown every 20 seconds and kept for TensorBoard."""

    def __init__(self, made: Recipe, step: int, spent: float) -> None:
        self.made, self.first, self.begun = made, step, spent
        self.writer = SummaryWriter(str(made.folder / "log"))
        self.running: dict[str, list[float]] = {}
        self.shown = time.monotonic()

    def add(self, numbers: dict[str, float], progress: float, step: int, spent: float) -> None:
        """Take a step's numbers, and show the means when it is time."""
        for name, value in numbers.items():
            self.running.setdefault(name, []).append(value)
        if time.monotonic() - self.shown < 20:
            return
        self.shown = time.monotonic()
        means = {name: float(np.nanmean(values)) for name, values in self.running.items()}
        self.running.clear()
        for name, value in means.items():
            self.writer.add_scalar(name, value, step)
        told = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
        rate = (step - self.first) * self.made.batch / max(spent - self.begun, 1e-9)
        print(
            f"{self.made.name} {progress:6.1%} step {step}: {told}; {rate:.0f} samples/s, {spent / 60:.1f} min",
            flush=True,
        )

    def held_out(self, numbers: dict[str, float], step: int) -> dict[str, float]:
        """Show and keep an evaluation."""
        for name, value in numbers.items():
            self.writer.add_scalar(f"held-out/{name}", value, step)
        print(f"{self.made.name} step {step} held out: {json.dumps(numbers)}", flush=True)
        return numbers


def train(
    made: Recipe,
    module: nn.Module,
    loss_at: Callable[[int], tuple[torch.Tensor, dict[str, float]]],
    evaluate: Callable[[int], dict[str, float]],
    evaluate_every: int = 2000,
) -> dict[str, torch.Tensor]:
    """Train a module and return its averaged weights; resumes from `runs/<name>/last.pt` if that is there.

    What a step draws depends on the seed and the step's number alone, so a resumed run sees what an unbroken one would.
    """
    made.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = made.folder / "last.pt"
    optimiser = torch.optim.AdamW(module.parameters(), lr=made.rate, betas=(0.9, 0.99), weight_decay=made.decay)
    average = Average(module, made.average)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=made.device, weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        average.weights = state["average"]
        step, spent = state["step"], state["spent"]
        print(f"{made.name}: resumed at step {step}", flush=True)
    log = Log(made, step, spent)

    def save() -> None:
        held = {"module": module.state_dict(), "optimiser": optimiser.state_dict(), "average": average.weights}
        torch.save(held | {"step": step, "spent": spent}, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)

    saved = time.monotonic()
    while (progress := max(step / made.steps, spent / (made.minutes * 60))) < 1:
        tick = time.monotonic()
        torch.manual_seed(made.seed * 1_000_003 + step)
        factor = min(1.0, (step + 1) / made.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = made.rate * factor
        loss, numbers = loss_at(step)
        if not torch.isfinite(loss):
            raise SystemExit(f"{made.name}: the loss is {loss.item()} at step {step}; lower --rate and resume")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        average.update(module, step)
        step, spent = step + 1, spent + time.monotonic() - tick
        log.add({"loss": loss.item()} | numbers, progress, step, spent)
        if step % evaluate_every == 0:
            log.held_out(evaluated(module, average, evaluate, step), step)
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            save()
    save()
    final = log.held_out(evaluated(module, average, evaluate, step), step)
    facts = {"steps": step, "minutes": round(spent / 60, 1), "batch": made.batch, "rate": made.rate, "seed": made.seed}
    facts |= {"device": str(made.device), "dtype": str(made.dtype), "init_from": str(made.init_from), "held_out": final}
    (made.folder / "facts.json").write_text(json.dumps(facts, indent=2))
    return average.weights


def evaluated(
    module: nn.Module, average: Average, evaluate: Callable[[int], dict[str, float]], step: int
) -> dict[str, float]:
    """Run an evaluation with the averaged weights in place, then put the trained ones back."""
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(average.weights)
    module.eval()
    try:
        with torch.no_grad():
            return evaluate(step)
    finally:
        module.load_state_dict(kept)
        module.train()
