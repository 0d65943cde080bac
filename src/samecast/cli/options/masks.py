"""The options of `samecast masks`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samecast.attention.methods import SUBJECT
from samecast.checked import Option, Takes
from samecast.cli.options.common import DEFAULTS, LoadOptions
from samecast.core.settings import RenderSettings
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens


@dataclass(frozen=True)
class MasksOptions(LoadOptions):
    """Find the subject of a photo in cross-attention maps, without rendering anything.

    The map, the mask and an overlay go into a new folder, with the photo as the model read it: mask.png fits
    reference.png. For example:

      samecast masks rex.png --noun dog
      samecast masks rex.png --noun dog --map-layers encoder --threshold otsu
      samecast masks rex.png --source-prompt "a red dog on a sofa" --map-words "red dog" --start 10 --final 30
    """

    references: Annotated[tuple[Path, ...], Option(positional=True, metavar="REFERENCE [REFERENCE ...]")] = ()
    """Photos of the subject; each gets its own mask."""

    noun: Annotated[str, Option("subject", metavar="WORD")] = ""
    """The class of the subject, such as dog; without --source-prompt the caption is "a photo of a" and this word."""

    tokens: Annotated[SubjectTokens, Takes("phrase", "layers", "threshold")] = SUBJECT

    steps: Annotated[Steps, Takes("start", "final", "skip", "stride")] = SUBJECT.steps
    """Steps whose maps are averaged."""

    settings: Annotated[RenderSettings, Takes("num_inference_steps", "height", "width", "fit", "source_prompt")] = (
        DEFAULTS
    )

    out: Annotated[
        Path | None, Option("output", aliases=("-o",), metavar="FOLDER", default="masks/ and the photo's name")
    ] = None
    """Folder to write. If it exists, the next free name is used."""
