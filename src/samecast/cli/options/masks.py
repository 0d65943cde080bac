"""The options of `samecast masks`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from samecast.cli.options.common import Device, Dtype, Fit, Height, Lora, Model, Size, Width, arg


@dataclass(frozen=True)
class MasksOptions:
    """Find the subject of a photo in cross-attention maps, without rendering anything.

    The map, the mask and an overlay go into a new folder, with the photo as the model read it: mask.png fits
    reference.png. For example:

      samecast masks rex.png --noun dog
      samecast masks rex.png --noun dog --layers encoder --threshold otsu
      samecast masks rex.png --source-prompt "a red dog on a sofa" --words "red dog" --start 10 --final 30
    """

    references: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], arg(metavar="REFERENCE [REFERENCE ...]", help_behavior_hint="")
    ] = ()
    """Photos of the subject; each is looked at by itself."""

    noun: Annotated[str, arg(metavar="WORD", help_behavior_hint="")] = ""
    """What the subject is, in a word."""

    words: Annotated[str, arg(metavar="TEXT", help_behavior_hint="(default: the noun)")] = ""
    """The words of the caption whose maps are taken."""

    source_prompt: Annotated[str, arg(metavar="TEXT", help_behavior_hint="(default: a photo of a NOUN)")] = ""
    """Caption of the photo."""

    layers: Annotated[str, arg(metavar="LAYERS", help_behavior_hint="(default: MasaCtrl's)")] = ""
    """Cross-attention layers whose maps are taken: encoder, mid, decoder, numbers, names like up.3-8, or sizes like
    @16; commas join. `samecast layers` lists them."""

    start: Annotated[int | float, arg(metavar="STEP")] = 0
    """First denoising step whose maps are taken; 0.5 is the middle of the run."""

    final: Annotated[int | float | None, arg(metavar="STEP", help_behavior_hint="(default: the last)")] = None
    """Last denoising step whose maps are taken."""

    threshold: Annotated[float | Literal["otsu"], arg(metavar="0-1|otsu")] = "otsu"
    """From which value of the map on is the subject; otsu chooses by itself."""

    steps: Annotated[int, arg(metavar="INT")] = 50
    """Steps of the inversion."""

    model: Model = "diorama"
    """Any model that `samecast render` takes."""

    lora: Lora = ()

    concept: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="FILE[:STRENGTH]")] = ()
    """What was learned of a subject, to apply to the model; its word can be looked for: --words "<new1> dog"
    in a --source-prompt that says it."""

    out: Annotated[Path | None, arg(aliases=("-o",), metavar="FOLDER", help_behavior_hint="")] = None
    """Folder to write; masks/ and the photo's name unless given. Where it exists, the next free name is taken."""

    size: Size = None

    height: Height = None

    width: Width = None

    fit: Fit = "keep"

    device: Device = "auto"

    dtype: Dtype = "auto"
