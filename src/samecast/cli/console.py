"""What the person at the terminal sees: results on stdout, everything else on stderr."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

CONSOLE = Console(stderr=True, highlight=False)
RESULTS = Console(highlight=False, soft_wrap=True)

STAGES = {
    "invert": "reading the photo",
    "source": "making the source",
    "look": "looking",
    "denoise": "rendering",
    "check": "checking inversion",
    "decode": "developing",
    "captions": "reading captions",
    "merge": "merging",
    "compress": "decomposing",
}
"""How the stages of a render are called in front of people."""

Report = Callable[[str, int, int], None]


def complain(message: str) -> None:
    """One line for one mistake, on stderr."""
    CONSOLE.print(f"[bold red]samecast:[/] {escape(' '.join(message.split()))}", soft_wrap=True)


def remark(message: str) -> None:
    """Something worth knowing that stops nothing, on stderr."""
    CONSOLE.print(f"[yellow]note:[/] {escape(message)}", soft_wrap=True)


def quiet_libraries() -> None:
    """Keep what diffusers and transformers remark to themselves; their failures still raise."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()


def working(what: str) -> "Progress":
    """A spinner for work whose length is unknown; use it in a `with`."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=CONSOLE,
        transient=True,
        disable=not CONSOLE.is_terminal,
    )
    progress.add_task(what, total=None)
    return progress


@contextmanager
def stages() -> Generator[Report]:
    """A bar for each stage of a render, with the time it still takes; yields what `Model.render` calls."""
    progress = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=CONSOLE,
        disable=not CONSOLE.is_terminal,
    )
    bars: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            bars[stage] = progress.add_task(STAGES.get(stage, stage), total=total)
        progress.update(bars[stage], completed=done, total=total)  # pyright: ignore[reportArgumentType]

    with progress:
        yield report
