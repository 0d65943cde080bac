"""The options of `samecast render`. An option left at None is set by the method, the model or the machine."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from samecast.checked import RAW, Option
from samecast.cli.options.common import DEFAULTS, LoadOptions
from samecast.core.settings import RenderSettings
from samecast.engine.choices import method_options

if TYPE_CHECKING:
    MethodOptions = Any
else:
    MethodOptions = method_options()


@dataclass(frozen=True)
class RenderOptions(LoadOptions):
    """Render the subject of a photo in new scenes.

    Pictures, a labelled grid and the record of the run go into a new folder. For example:

      samecast render rex.png "a dog running on the beach"
      samecast render rex.png "a {noun} in the snow" "a {noun} at night" --noun dog
      samecast render rex.png "a dog at the lake" --final 25
      samecast render --subject rex=rex.png:dog --subject tom=tom.png:cat "a {rex} and a {tom} on the beach"
      samecast render rex.png "a dog at the lake" --init noise --images-per-prompt 4
      samecast render --source-prompt "a photo of a dog" "a dog running on the beach"
      samecast render rex.jpg "a dog on the beach" --model path/to/stable-diffusion-v1-4
      samecast render --concept rex.safetensors --init noise --method none "a <new1> dog on the beach"
      samecast render --again renders/rex/render.json
    """

    inputs: Annotated[
        tuple[Annotated[str, RAW], ...], Option(positional=True, metavar="[REFERENCE ...] PROMPT [PROMPT ...]")
    ] = ()
    """Photos of the subject, usually one, then the prompts. The first photo gives the layout. Leave photos out with
    --source-prompt, or if nothing reads one: --method none --init noise."""

    reference: Annotated[tuple[Path, ...], Option("subject", metavar="FILE", repeated=True)] = ()
    """A photo of the subject, whatever its file name; all positional arguments are then prompts. May be repeated."""

    subject: Annotated[
        tuple[Annotated[str, RAW], ...], Option("subject", metavar="NAME=PHOTO[,PHOTO]:NOUN", repeated=True)
    ] = ()
    """One of several subjects in the same picture, by a name that prompts write in braces: --subject rex=rex.png:dog
    and "a {rex} on the beach". A folder stands for the photos in it. With it all other words are prompts, pictures
    start from noise unless --init is given, and the method is cast by default."""

    noun: Annotated[str, Option("subject", metavar="WORD")] = ""
    """The class of the subject, such as dog; replaces {noun} in the prompts."""

    mask: Annotated[tuple[Path, ...], Option("subject", metavar="FILE", repeated=True)] = ()
    """Mask of the subject in the photo, white on black; once for each photo. For masactrl-masked and free-custom.
    With --subject: rex=mask.png, for cast too."""

    target_mask: Annotated[tuple[Path, ...], Option("subject", metavar="FILE", repeated=True)] = ()
    """Mask of the subject in the new pictures: one for all, or one for each prompt. For masactrl-masked and consistory.
    With --subject: rex=mask.png, for cast."""

    method: MethodOptions = field(default_factory=method_options())

    rules: Annotated[Path | None, Option("method", metavar="RULES.JSON")] = None
    """Rules from a file, written by `samecast tune` or by hand (docs/rules.md), in place of --method and its options.
    """

    settings: RenderSettings = DEFAULTS

    prediction_type: Annotated[Literal["auto", "epsilon", "v_prediction"], Option("advanced")] = "auto"
    """What the model predicts: epsilon (the noise) or v_prediction (the velocity); auto reads it from the model's
    files. A single file of Stable Diffusion 2.x may not state it, and is then assumed to be v_prediction."""

    out: Annotated[
        Path | None,
        Option("output", aliases=("-o",), metavar="FOLDER", default="renders/ and the photo's name"),
    ] = None
    """Folder for the pictures. If it exists, the next free name is used."""

    again: Annotated[Path | None, Option("output", metavar="RENDER.JSON")] = None
    """Repeat the run of this record bit for bit, into a new folder. Goes with --out, and with --model if it has moved.
    """

    verbose: Annotated[bool, Option("output", aliases=("-v",))] = False
    """Log details."""
