"""The options of `samecast demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samecast.checked import Takes
from samecast.cli.options.common import DEFAULTS, ModelOptions, Out
from samecast.core.settings import RenderSettings


@dataclass(frozen=True)
class DemoOptions(ModelOptions):
    """One subject, six prompts, four settings, scored: what control does, in a minute and a half on two cores.

    For example:

      samecast demo --out demo
    """

    out: Out = Path("demo")
    """Folder for index.html and grid.png. An earlier demo there is replaced; otherwise the next free name is used."""

    settings: Annotated[RenderSettings, Takes("num_inference_steps")] = DEFAULTS
