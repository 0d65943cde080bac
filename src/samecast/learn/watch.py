"""Monitoring a run: sample images of fixed prompts at intervals, and TensorBoard."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from samecast.checked import Within, check_fields
from samecast.core.settings import RenderSettings
from samecast.disk import replace_picture
from samecast.errors import SamecastError
from samecast.learn.lists import ToLearn
from samecast.render import Model
from samecast.report.grid import draw_grid
from samecast.report.panels import Panel, Row

STEPS = 25


@dataclass(frozen=True)
class Watching:
    """What to monitor of a run.

    Args:
        show_every: steps between sample images; None is a quarter of the run, 0 is never.
        prompts: prompts of the sample images; empty is two per subject.
        tensorboard: write loss and images for TensorBoard.
        save_seconds: shortest time between states in seconds; 0 writes one after each step.

    Raises:
        SamecastError: a value has the wrong type or is out of range, or TensorBoard is requested but not installed.
    """

    show_every: Annotated[int, Within(0, 10_000_000)] | None = None
    prompts: tuple[str, ...] = ()
    tensorboard: bool = False
    save_seconds: Annotated[float, Within(0)] = 30.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not all(prompt.strip() for prompt in self.prompts):
            raise SamecastError("a prompt of the sample images is empty: describe the picture")
        if self.tensorboard:
            _summary_writer()


class Watch:
    """Draws and writes sample images and logs; used by the main process alone.

    Args:
        folder: folder of the run.
        model: the model in training.
        subjects: the subjects.
        watching: what to monitor.
        size: side of the sample images, in pixels.
    """

    def __init__(self, folder: Path, model: Model, subjects: Sequence[ToLearn], watching: Watching, size: int) -> None:
        self.folder, self.model, self.watching = folder, model, watching
        scenes = [(each.caption, f"a {each.token} {each.noun}".strip() + " on the beach") for each in subjects]
        self.prompts = watching.prompts or tuple(prompt for pair in scenes for prompt in pair)
        self.settings = RenderSettings(num_inference_steps=STEPS, init="noise", height=size, width=size)
        self.writer = _summary_writer()(str(folder / "log")) if watching.tensorboard else None

    def loss(self, step: int, loss: float) -> None:
        """Logs a loss."""
        if self.writer is not None:
            self.writer.add_scalar("loss", loss, step)

    def pictures(self, step: int, steps: int, computing: AbstractContextManager[Any], *, again: bool = True) -> None:
        """Draws the fixed prompts, if this step is due.

        Args:
            step: number of the step.
            steps: number of steps in all.
            computing: context of the computation.
            again: whether to draw existing images again.
        """
        every = self.watching.show_every
        every = max(1, steps // 4) if every is None else every
        if not every or (step % every and step != steps):
            return
        file = self.folder / "samples" / f"step-{step:05d}.png"
        if not again and file.is_file():
            return
        with computing:
            made = self.model.render(None, self.prompts, rules=(), settings=self.settings)
        panels = tuple(Panel(render.image, render.prompt) for render in made.renders)
        grid = draw_grid([Row(panels, f"step {step}")])
        replace_picture(grid, file)
        if self.writer is not None:
            self.writer.add_image("samples", np.asarray(grid), step, dataformats="HWC")

    def close(self) -> None:
        """Closes the log."""
        if self.writer is not None:
            self.writer.close()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SamecastError("--tensorboard needs TensorBoard: pip install 'samecast[train]'") from None
    return SummaryWriter
