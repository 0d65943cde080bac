"""Watching a run: pictures of fixed prompts every so often, and TensorBoard."""

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
    """What to see of a run.

    Args:
        show_every: steps between pictures; None is a quarter of the run, 0 shows none.
        prompts: of the pictures; none are two of each subject.
        tensorboard: keep loss and pictures for TensorBoard.
        save_seconds: how long between states to go on from, at least; 0 writes one after each step.

    Raises:
        SamecastError: a value is of another type or out of its range, or TensorBoard is wanted and not there.
    """

    show_every: Annotated[int, Within(0, 10_000_000)] | None = None
    prompts: tuple[str, ...] = ()
    tensorboard: bool = False
    save_seconds: Annotated[float, Within(0)] = 30.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not all(prompt.strip() for prompt in self.prompts):
            raise SamecastError("a prompt to show is empty: say what the pictures shall be of")
        if self.tensorboard:
            _summary_writer()


class Watch:
    """Draws and writes what is watched; made by the main process alone.

    Args:
        folder: of the run.
        model: which is trained.
        subjects: that are learnt.
        watching: what to see.
        size: of the pictures, in pixels.
    """

    def __init__(self, folder: Path, model: Model, subjects: Sequence[ToLearn], watching: Watching, size: int) -> None:
        self.folder, self.model, self.watching = folder, model, watching
        scenes = [(each.caption, f"a {each.token} {each.noun}".strip() + " on the beach") for each in subjects]
        self.prompts = watching.prompts or tuple(prompt for pair in scenes for prompt in pair)
        self.settings = RenderSettings(steps=STEPS, init="noise", height=size, width=size)
        self.writer = _summary_writer()(str(folder / "log")) if watching.tensorboard else None

    def loss(self, step: int, loss: float) -> None:
        """Keeps a loss."""
        if self.writer is not None:
            self.writer.add_scalar("loss", loss, step)

    def pictures(self, step: int, steps: int, computing: AbstractContextManager[Any], *, again: bool = True) -> None:
        """Draws the fixed prompts, if it is time.

        Args:
            step: that was taken.
            steps: how many there are.
            computing: what to draw within.
            again: whether to draw what is there already.
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
        """Ends the log."""
        if self.writer is not None:
            self.writer.close()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SamecastError("--tensorboard needs TensorBoard: pip install 'samecast[train]'") from None
    return SummaryWriter
