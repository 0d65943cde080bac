"""The options of `samecast layers`."""

from dataclasses import dataclass

from samecast.cli.options.common import Model


@dataclass(frozen=True)
class LayersOptions:
    """List the attention layers of a model, as `--layers` addresses them.

    For example:

      samecast layers
      samecast layers --model path/to/stable-diffusion-v1-4
    """

    model: Model = "diorama"
    """Any model that `samecast render` takes."""
