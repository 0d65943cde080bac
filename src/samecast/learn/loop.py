"""The training loop: samples in order, steps that follow from the seed and their number, a state on disk to go on from.

Whatever a step draws follows from its number (`draws`), and the state holds everything else that the next step depends
on. So a run that is killed at any moment and started again ends with the same bits as one that was not, on the same
machine.
"""

import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samecast.disk import replace_file, save_tensors
from samecast.errors import SamecastError
from samecast.learn.devices import Devices
from samecast.learn.draws import Draws
from samecast.learn.objective import Objective
from samecast.learn.settings import LearnSettings, Optimizer
from samecast.learn.state import State, pack, read_state
from samecast.learn.trained import Trained
from samecast.models.finite import remedy

_LARGEST_NORM = 1.0
"""Gradients are scaled down to it, as in diffusers' recipes."""
_SAVING_SHARE = 20
"""A state is written when at least so many times the last writing's duration has gone by."""

Told = Callable[[int, int, float], None]


@dataclass
class Loop:
    """A run on its way.

    Args:
        trained: what moves.
        objective: by what it moves.
        draws: the samples.
        settings: how to learn.
        devices: who else takes part of each step.
        file: where the state is kept.
        key: of the run.
        save_seconds: how long to go on between states, at least; 0 writes one after each step.
    """

    trained: Trained
    objective: Objective
    draws: Draws
    settings: LearnSettings
    devices: Devices
    file: Path
    key: str
    save_seconds: float = 30.0
    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    recent: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        self.photos = self.settings.photos_per_step(self.devices.count)
        self.steps = self.settings.steps_in_all(len(self.trained.subjects), self.devices.count)
        self.parameters = list(self.trained.named().values())
        self.optimizer = find_optimizer(self.settings.optimizer)(self.trained.groups(self.photos))
        half = self.settings.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.objective.material.device.type, enabled=half)
        self._saved, self._saving = time.monotonic(), 0.0
        if self.file.exists():
            self._resume(read_state(self.file, self.key))

    def run(self, data: Told) -> None:
        """Takes the steps that are left.

        Args:
            data: after each step its number from 1, how many there are, and its loss.

        Raises:
            SamecastError: the loss is not a number any more.
            KeyboardInterrupt: as asked for, after the step and with the state written.
        """
        every = max(1, self.steps // 100)
        # Processes that wait for each other's gradients could not all end after the same step.
        with interrupts_between_steps() if self.devices.count == 1 else nullcontext(lambda: False) as interrupted:
            while self.step < self.steps:
                began = time.perf_counter()
                self.recent.append(self.advance())
                self.seconds += time.perf_counter() - began
                if self.step % every == 0 or self.step == self.steps:
                    self.losses.append((self.step, sum(self.recent) / len(self.recent)))
                    self.recent.clear()
                self._save_if_due()
                data(self.step, self.steps, self.losses[-1][1] if self.losses else self.recent[-1])
                if interrupted():
                    self.save()
                    raise KeyboardInterrupt

    def advance(self) -> float:
        """Takes one step; returns the loss of a photo."""
        settings, devices = self.settings, self.devices
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.objective.material.device)
        for call in range(settings.accumulate):
            first = self.step * self.photos + (call * devices.count + devices.index) * settings.batch
            samples = [self.draws.sample(first + number) for number in range(settings.batch)]
            loss = self.objective(samples) / self.photos
            self.scaler.scale(loss).backward()
            total += loss.detach()
        loss = float(devices.add_up(self.parameters, total))
        if not loss < float("inf"):
            backbone = self.objective.backbone
            # Before the first update no rate can be at fault.
            helps = "lower --learning-rate or --token-rate" if self.step else remedy(backbone.dtype, backbone.identity)
            raise SamecastError(f"the loss is {loss} at step {self.step + 1}: {helps}")
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, _LARGEST_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return loss

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        began = time.monotonic()
        state = State(
            step=self.step,
            key=self.key,
            weights=self.trained.named(),
            # bitsandbytes' own puts its tensors in a dictionary within; the plain one is what goes back in.
            optimizer=torch.optim.Optimizer.state_dict(self.optimizer)["state"],
            scaler=self.scaler.state_dict(),
            seconds=self.seconds,
            losses=tuple(self.losses),
            recent=tuple(self.recent),
        )
        tensors, words = pack(state)
        replace_file(self.file, lambda part: save_tensors(tensors, part, words))
        self._saved = time.monotonic()
        self._saving = self._saved - began

    def _save_if_due(self) -> None:
        since = time.monotonic() - self._saved
        due = max(self.save_seconds, _SAVING_SHARE * self._saving) if self.save_seconds else 0.0
        if self.devices.is_main and since >= due:
            self.save()

    def _resume(self, state: State) -> None:
        with torch.no_grad():
            for name, parameter in self.trained.named().items():
                parameter.copy_(state.weights[name])
        groups: Any = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": dict(state.optimizer), "param_groups": groups})
        if state.scaler:
            self.scaler.load_state_dict(dict(state.scaler))
        self.step, self.seconds = state.step, state.seconds
        self.losses, self.recent = list(state.losses), list(state.recent)


@contextmanager
def interrupts_between_steps() -> Generator[Callable[[], bool]]:
    """Holds the first Ctrl-C back within a block, which is told whether there was one; a second ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may say what a signal does
        return
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def hold(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hold)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def find_optimizer(name: Optimizer) -> Callable[[list[dict[str, Any]]], torch.optim.Optimizer]:
    """AdamW, plain or with 8-bit moments; to be called with groups of parameters.

    Raises:
        SamecastError: 8-bit moments need a package that is not there.
    """
    if name == "adamw":
        return torch.optim.AdamW
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SamecastError("adamw8bit needs bitsandbytes: pip install 'samecast[8bit]', or take adamw") from None
    return bitsandbytes.optim.AdamW8bit
