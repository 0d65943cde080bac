"""Where a long job is worked on, from the options that its commands have in common."""

from pathlib import Path
from typing import TYPE_CHECKING

from samecast.cli.options.common import ExecutorOptions
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from samecast.experiments.executors.ray import RayExecutor


def make_executor(options: ExecutorOptions) -> "RayExecutor | None":
    """The cluster that is asked for; None is this process.

    Raises:
        SamecastError: options of a cluster are given without one, one is out of range, or nobody is at its address.
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
    """Where this process loads a model: on the CPU where workers have the devices."""
    return options.device if options.executor == "local" or options.dry_run else "cpu"


def lasting(model: str) -> str:
    """A model's path as one that can be found from another folder too; a hub id, or a name, as it is."""
    try:
        return str(Path(model).expanduser().resolve()) if model and Path(model).expanduser().exists() else model
    except OSError:
        return model
