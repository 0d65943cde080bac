"""The options of `samecast layers`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samecast.checked import Option, Takes, Within
from samecast.cli.options.common import DEFAULTS, ModelOptions
from samecast.core.settings import RenderSettings


@dataclass(frozen=True)
class LayersOptions(ModelOptions):
    """List the attention layers of a model, as `--layers` addresses them; or find those that matter most.

    For example:

      samecast layers
      samecast layers --model path/to/stable-diffusion-v1-4
      samecast layers --probe --steps 10 --out vital.json
    """

    probe: Annotated[bool, Option("sampling")] = False
    """Render without each layer in turn, and compare the pictures with those of the whole model: where they change
    most, the layer is vital (Stable Flow, arXiv 2411.14430). That takes as many renders as there are layers."""

    prompts: Annotated[tuple[str, ...], Option("sampling", metavar="PROMPT", default="two of our own")] = ()
    """Scenes that the probe renders."""

    vital: Annotated[Annotated[int, Within(1, 10_000)] | None, Option("output", default="a sixth of all")] = None
    """How many of the layers count as vital."""

    settings: Annotated[RenderSettings, Takes("num_inference_steps", "guidance_scale", "seed", "height", "width")] = (
        DEFAULTS
    )

    out: Annotated[Path | None, Option("output", aliases=("-o",), metavar="FILE", default="none")] = None
    """A file of rules to write, for --rules: targets read the source at the vital layers."""
