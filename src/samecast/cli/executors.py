"""Where a long job runs, from the options that its commands share."""

from pathlib import Path
from typing import TYPE_CHECKING

from samecast.cli.options.common import ExecutorOptions
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from samecast.experiments.executors.ray import RayExecutor


def make_executor(options: ExecutorOptions) -> "RayExecutor | None":
    """The requested cluster; None for this process.

    Raises:
        SamecastError: cluster options are given without a cluster, one is out of range, or no cluster answers.
    """
    if options.executor == "local":
        if options.workers or options.address or options.wait != ExecutorOptions.wait:
            raise SamecastError("--workers, --address and --wait go with --executor ray")
        return None
    from samecast.experiments.executors.ray import RayExecutor

    executor = RayExecutor(options.workers, options.address, options.wait)
    if options.dry_run:
        return None
    executor.knock()  # before a model is loaded
    return executor


def device_here(options: ExecutorOptions) -> str:
    """The device on which this process loads a model: the CPU if workers have the devices."""
    return options.device if options.executor == "local" or options.dry_run else "cpu"


def lasting(model: str) -> str:
    """A model's path made absolute; hub ids and names are unchanged."""
    try:
        return str(Path(model).expanduser().resolve()) if model and Path(model).expanduser().exists() else model
    except OSError:
        return model
