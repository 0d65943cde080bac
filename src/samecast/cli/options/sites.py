"""The options of `samecast sites`."""

from dataclasses import dataclass
from typing import Annotated

import tyro

arg = tyro.conf.arg


@dataclass(frozen=True)
class SitesOptions:
    """List the attention layers of a model, as `--sites` addresses them.

    For example:

      samecast sites
      samecast sites --model path/to/stable-diffusion-v1-4
    """

    model: Annotated[str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model)")] = "diorama"
    """Any model that `samecast render` takes."""
