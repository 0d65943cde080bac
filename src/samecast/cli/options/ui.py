"""The options of `samecast ui`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from samecast.checked import Option, Within
from samecast.cli.options.common import ModelOptions


@dataclass(frozen=True)
class UiOptions(ModelOptions):
    """Open a page in the browser that renders, compares, learns and looks back.

    The page is for this machine alone: it listens on the loopback address and needs no network. For example:

      samecast ui
      samecast ui --model path/to/stable-diffusion-v1-4 --root work --port 7861
    """

    port: Annotated[int, Within(0, 65_535), Option("output")] = 7860
    """Port of the page; 0 takes a free one."""

    root: Annotated[Path, Option("output", metavar="FOLDER")] = Path()
    """Where files go, and whose runs are shown: those in renders/ and in other folders of this one."""

    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], Option("model")] = "auto"
    """Precision of the model; auto is float16 on CUDA and float32 elsewhere."""
