"""The training loop: samples in order, steps determined by seed and number, and a state on disk for resuming.

A step's random choices depend on its number alone (`draws`), and the state holds everything else that the next step
depends on. So on the same machine a run that is killed at any moment and resumed gives the same bits as an
uninterrupted one.
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
"""Maximal gradient norm, as in diffusers' training scripts."""
_SAVING_SHARE = 20
"""The time between two states is at least this multiple of the last write's duration."""

AfterStep = Callable[[int, int, float], None]


@dataclass
class Loop:
    """A run in progress.

    Args:
        trained: the trained parameters.
        objective: the loss.
        draws: the samples.
        settings: training settings.
        devices: the processes that share each step.
        file: path of the state.
        key: key of the run.
        save_seconds: shortest time between states in seconds; 0 writes one after each step.
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

    def run(self, after_step: AfterStep) -> None:
        """Runs the remaining steps.

        Args:
            after_step: called after each step with its number from 1, the number of steps and its loss; a
                KeyboardInterrupt that it raises stops the run like Ctrl-C.

        Raises:
            SamecastError: the loss is not finite.
            KeyboardInterrupt: after an interrupt, once the step is done and the state written.
        """
        every = max(1, self.steps // 100)
        # Processes that wait for each other's gradients cannot all stop after the same step.
        with interrupts_between_steps() if self.devices.count == 1 else nullcontext(lambda: False) as interrupted:
            while self.step < self.steps:
                began = time.perf_counter()
                self.recent.append(self.advance())
                self.seconds += time.perf_counter() - began
                if self.step % every == 0 or self.step == self.steps:
                    self.losses.append((self.step, sum(self.recent) / len(self.recent)))
                    self.recent.clear()
                self._save_if_due()
                try:
                    after_step(self.step, self.steps, self.losses[-1][1] if self.losses else self.recent[-1])
                except KeyboardInterrupt:  # stopped from a thread that no signal reaches
                    self.save()
                    raise
                if interrupted():
                    self.save()
                    raise KeyboardInterrupt

    def advance(self) -> float:
        """Runs one step; returns the loss per photo."""
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
            # Before the first update the learning rate cannot be the cause.
            helps = "lower --learning-rate or --token-rate" if self.step else remedy(backbone.dtype, backbone.identity)
            raise SamecastError(f"the loss is {loss} at step {self.step + 1}: {helps}")
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, _LARGEST_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return loss

    def save(self) -> None:
        """Writes the state atomically."""
        began = time.monotonic()
        state = State(
            step=self.step,
            key=self.key,
            weights=self.trained.named(),
            # bitsandbytes overrides it and nests its tensors; the base class's form can be loaded again.
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
    """Defers the first Ctrl-C within a block; yields a function that reports it. A second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may set a signal handler
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
    """AdamW, plain or with 8-bit moments, as a function of parameter groups.

    Raises:
        SamecastError: the package for 8-bit moments is not installed.
    """
    if name == "adamw":
        return torch.optim.AdamW
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SamecastError("adamw8bit needs bitsandbytes: pip install 'samecast[8bit]', or choose adamw") from None
    return bitsandbytes.optim.AdamW8bit
