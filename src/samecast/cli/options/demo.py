"""The options of `samecast demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samecast.checked import Within
from samecast.cli.options.common import Device, Model, arg


@dataclass(frozen=True)
class DemoOptions:
    """One subject, six prompts, four settings, judged: what control does, in a minute and a half on two cores.

    For example:

      samecast demo --out demo
    """

    out: Annotated[Path, arg(aliases=("-o",), metavar="FOLDER")] = Path("demo")
    """Folder for index.html and grid.png. An earlier demo there is replaced; otherwise the next free name is taken."""

    model: Model = "diorama"
    """Any model that `samecast render` takes."""

    steps: Annotated[int, arg(metavar="INT"), Within(1, 10_000)] = 50
    """Denoising steps. The spans of control keep their share of the run."""

    device: Device = "auto"
