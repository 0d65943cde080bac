"""What every recipe shares: a resumable loop with a moving average of the weights, a cosine schedule and a log.

A recipe gives `train` a module and a function from step number to loss. Progress is the larger of steps done over steps
asked and minutes spent over minutes allowed, so the same recipe fits a laptop's hour and a GPU's ten minutes; both are
written beside the weights. `torchrun --nproc-per-node 2 -m training.unet ...` trains on two devices or two cores at
once: each process draws its own batches, gradients are averaged.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from training.data import ROOT
from training.muon import Muon, split


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
    optimiser: str = "adamw"
    rank: int = 0
    world: int = 1
    warmup: int = 200
    decay: float = 0.01
    average: float = 0.999
    steady: float = 0.0
    shares: dict[str, float] = field(default_factory=dict[str, float])
    """Parts of the module, by the beginning of their weights' names, that learn at a share of the rate."""

    def rate_at(self, step: int, progress: float) -> float:
        """Return a step's rate: warmed up, steady for a share `steady` of the run, then falling as a cosine does."""
        falling = max(0.0, progress - self.steady) / (1 - self.steady)
        return self.rate * min(1.0, (step + 1) / self.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * falling)))

    def draws(self, step: int) -> tuple[int, int]:
        """What a step's random numbers are seeded with: of its own for each process."""
        return self.seed, step * self.world + self.rank

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
    shared |= {"steady": 0.0}
    for option, default in (shared | defaults).items():
        kind: dict[str, Any] = {"action": "store_true"} if default is False else {"type": type(default)}
        parser.add_argument(f"--{option.replace('_', '-')}", default=default, **kind)
    parser.add_argument("--name", default=name)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--init-from", type=Path, help="start from these weights with a fresh optimiser")
    parser.add_argument("--optimiser", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--compile", action="store_true", help="compile the module: minutes at first, then faster")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    device = torch.device(given.device)
    dtype = fast_dtype(device) if given.dtype == "auto" else getattr(torch, given.dtype)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    made = Recipe(
        given.name, given.steps, given.minutes, given.rate, given.batch, given.seed, device, dtype, given.init_from,
        optimiser=given.optimiser, rank=rank, world=world, average=given.average, steady=given.steady,
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
    """Means of what the steps report, shown every 20 seconds and kept for TensorBoard and in `curve.csv`.

    A step that is on another number of rows than the recipe's batch reports it as `rows`.
    """

    def __init__(self, made: Recipe, step: int, spent: float) -> None:
        self.made, self.begun = made, spent
        self.writer = SummaryWriter(str(made.folder / "log"))
        self.running: dict[str, list[float]] = {}
        self.shown, self.rows = time.monotonic(), 0.0
        self.curve = made.folder / "curve.csv"
        if not self.curve.exists():
            self.curve.write_text("step,minutes,name,value\n")

    def keep(self, numbers: dict[str, float], step: int, spent: float) -> None:
        """Add numbers to the curve."""
        with self.curve.open("a") as file:
            file.writelines(f"{step},{spent / 60:.2f},{name},{value:.6g}\n" for name, value in numbers.items())

    def add(self, numbers: dict[str, float], progress: float, step: int, spent: float) -> None:
        """Take a step's numbers, and show the means when it is time."""
        self.rows += numbers.pop("rows", self.made.batch)
        for name, value in numbers.items():
            self.running.setdefault(name, []).append(value)
        if time.monotonic() - self.shown < 20:
            return
        self.shown = time.monotonic()
        means = {name: float(np.nanmean(values)) for name, values in self.running.items()}
        self.running.clear()
        for name, value in means.items():
            self.writer.add_scalar(name, value, step)
        record = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.keep(means, step, spent)
        rate = self.rows * self.made.world / max(spent - self.begun, 1e-9)
        print(
            f"{self.made.name} {progress:6.1%} step {step}: {record}; {rate:.0f} samples/s, {spent / 60:.1f} min",
            flush=True,
        )

    def held_out(self, numbers: dict[str, float], step: int, spent: float) -> dict[str, float]:
        """Show and keep an evaluation."""
        self.keep({f"held-out/{name}": value for name, value in numbers.items()}, step, spent)
        for name, value in numbers.items():
            self.writer.add_scalar(f"held-out/{name}", value, step)
        print(f"{self.made.name} step {step} held out: {json.dumps(numbers)}", flush=True)
        return numbers


def share_gradients(module: nn.Module) -> None:
    """Average the gradients over all processes, in one message."""
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat, op=torch.distributed.ReduceOp.SUM)
    flat /= torch.distributed.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))


def agreed(made: Recipe, spent: float) -> float:
    """Return the first process's clock, so that all stop at the same step and step at the same rate."""
    if made.world == 1:
        return spent
    clock = torch.tensor([spent], dtype=torch.float64)
    torch.distributed.broadcast(clock, 0)
    return clock.item()


def optimisers_of(made: Recipe, module: nn.Module) -> list[torch.optim.Optimizer]:
    """Return what steps the weights: AdamW alone, or Muon inside and AdamW for the rest. Frozen weights stay out."""
    inner, outer = split(module) if made.optimiser == "muon" else ([], list(module.parameters()))
    names = {weight: name for name, weight in module.named_parameters()}

    def groups(weights: list[nn.Parameter]) -> list[dict[str, Any]]:
        by_share: dict[float, list[nn.Parameter]] = {}
        for weight in (weight for weight in weights if weight.requires_grad):
            share = next((share for start, share in made.shares.items() if names[weight].startswith(start)), 1.0)
            by_share.setdefault(share, []).append(weight)
        return [{"params": params, "share": share} for share, params in by_share.items()]

    adamw = torch.optim.AdamW(groups(outer), lr=made.rate, betas=(0.9, 0.99), weight_decay=made.decay, fused=True)
    return [adamw, Muon(groups(inner), lr=made.rate, weight_decay=made.decay)] if inner else [adamw]


class Training:
    """A module on its way: its weights, their average, its optimisers, how many steps and seconds it has had."""

    def __init__(self, made: Recipe, module: nn.Module) -> None:
        self.made, self.module = made, module
        self.optimisers = optimisers_of(made, module)
        self.average = Average(module, made.average)
        self.step, self.spent = 0, 0.0
        self.file = made.folder / "last.pt"
        if self.file.exists():
            state = torch.load(self.file, map_location=made.device, weights_only=True)
            module.load_state_dict(state["module"])
            for optimiser, held in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(held)
            self.average.weights = state["average"]
            self.step, self.spent = state["step"], state["spent"]
            print(f"{made.name}: resumed at step {self.step}", flush=True)

    @property
    def progress(self) -> float:
        """How much of the run is done: by steps or by minutes, whichever is further."""
        return max(self.step / self.made.steps, self.spent / (self.made.minutes * 60))

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        held = {
            "module": self.module.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average.weights,
            "step": self.step,
            "spent": self.spent,
        }
        torch.save(held, self.file.with_suffix(".part"))
        self.file.with_suffix(".part").replace(self.file)

    def advance(self, loss_at: Callable[[int], tuple[torch.Tensor, dict[str, float]]]) -> dict[str, float]:
        """Take one step; return its numbers."""
        made, tick = self.made, time.monotonic()
        torch.manual_seed(made.seed * 1_000_003 + made.draws(self.step)[1])
        rate = made.rate_at(self.step, self.progress)
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = rate * group["share"]
        loss, numbers = loss_at(self.step)
        if not torch.isfinite(loss):
            raise SystemExit(f"{made.name}: the loss is {loss.item()} at step {self.step}; lower --rate and resume")
        self.module.zero_grad(set_to_none=True)
        loss.backward()
        if made.world > 1:
            share_gradients(self.module)
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.average.update(self.module, self.step)
        self.step, self.spent = self.step + 1, agreed(made, self.spent + time.monotonic() - tick)
        return {"loss": loss.item()} | numbers


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
    module.train()  # what was loaded from a folder comes in evaluation mode
    run = Training(made, module)
    if made.rank:  # the first process alone tells, evaluates and saves
        while run.progress < 1:
            run.advance(loss_at)
        return run.average.weights
    log, saved = Log(made, run.step, run.spent), time.monotonic()
    while run.progress < 1:
        numbers = run.advance(loss_at)
        log.add(numbers, run.progress, run.step, run.spent)
        if run.step % evaluate_every == 0:
            log.held_out(evaluated(module, run.average, evaluate, run.step), run.step, run.spent)
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            run.save()
    run.save()
    final = log.held_out(evaluated(module, run.average, evaluate, run.step), run.step, run.spent)
    facts = {
        "steps": run.step,
        "minutes": round(run.spent / 60, 1),
        "batch": made.batch * made.world,
        "rate": made.rate,
        "seed": made.seed,
        "device": str(made.device),
        "dtype": str(made.dtype),
        "optimiser": made.optimiser,
        "init_from": str(made.init_from),
        "held_out": final,
    }
    (made.folder / "facts.json").write_text(json.dumps(facts, indent=2))
    return run.average.weights


def evaluated(
    module: nn.Module, average: Average, evaluate: Callable[[int], dict[str, float]], step: int
) -> dict[str, float]:
    """Run an evaluation with the averaged weights in place, then put the trained ones back."""
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(average.weights)
    module.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # compiling again for this would take minutes
            return evaluate(step)
    finally:
        module.load_state_dict(kept)
        module.train()
