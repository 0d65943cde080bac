"""The options of `samecast layers`."""

from dataclasses import dataclass

from samecast.cli.options.common import ModelOptions


@dataclass(frozen=True)
class LayersOptions(ModelOptions):
    """List the attention layers of a model, as `--layers` addresses them.

    For example:

      samecast layers
      samecast layers --model path/to/stable-diffusion-v1-4
    """
