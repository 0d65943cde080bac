"""The options of `samecast sites`."""

from dataclasses import dataclass

from samecast.cli.options.common import Model


@dataclass(frozen=True)
class SitesOptions:
    """List the attention layers of a model, as `--sites` addresses them.

    For example:

      samecast sites
      samecast sites --model path/to/stable-diffusion-v1-4
    """

    model: Model = "diorama"
    """Any model that `samecast render` takes."""
