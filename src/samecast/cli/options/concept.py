"""The options of `samecast concept`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from samecast.checked import Option, Within
from samecast.cli.options.common import OutFile
from samecast.cli.words import Command

Keep = Annotated[float, Within(0, 1), Option("method")]


@dataclass(frozen=True)
class ShowOptions(Command):
    """Tell what is in a file of a concept. For example:

    samecast concept show rex.safetensors
    """

    concept: Annotated[Path, Option(positional=True, metavar="FILE")]
    """A file or folder of any format, except pickles."""


@dataclass(frozen=True)
class BaseOptions(Command):
    """The model that a concept was learned on."""

    model: Annotated[str, Option("model", metavar="MODEL", default="the embedded model, if it was learned on that")] = (
        ""
    )
    """The model that was learned on: needed to merge and to compress, and to make LoRA of whole weights and back."""

    device: Annotated[str, Option("model", metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""


@dataclass(frozen=True)
class MergeOptions(BaseOptions):
    """Make one concept of several, in closed form, without training. For example:

    samecast concept merge rex.safetensors tom.safetensors --out both.safetensors
    """

    concepts: Annotated[tuple[Path, ...], Option(positional=True, metavar="FILE FILE [FILE ...]")] = ()
    """Two concepts or more, with different words, learned on one model."""

    captions: Annotated[Path | None, Option("method", metavar="FILE", default="a thousand everyday ones")] = None
    """Text, one caption to a line, of what is to stay as it is."""

    out: OutFile = Path("merged.safetensors")
    """File to write. Where it exists, the next free name is taken."""


@dataclass(frozen=True, kw_only=True)
class CompressOptions(BaseOptions):
    """Make a concept smaller: its whole weights become changes of low rank. For example:

    samecast concept compress rex.safetensors --keep 0.6 --out small.safetensors
    """

    concept: Annotated[Path, Option(positional=True, metavar="FILE")]
    """The concept."""

    keep: Keep = 0.6
    """At most this share of the singular values' sum is kept of each layer."""

    out: OutFile = Path("compressed.safetensors")
    """File to write. Where it exists, the next free name is taken."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(BaseOptions):
    """Read a concept of any tool and write it for any other. The one command that reads pickles, as data alone.

    For example:

      samecast concept convert delta.bin --out rex.safetensors
      samecast concept convert rex.safetensors --to peft --out rex-lora
      samecast concept convert rex.safetensors --rename "<new1>=<rex>" --out renamed.safetensors
    """

    concept: Annotated[Path, Option(positional=True, metavar="FILE")]
    """A file or folder: Custom Diffusion's of Adobe, CompVis and diffusers, textual inversion, LoRA, samecast's own."""

    to: Annotated[
        Literal["samecast", "official", "compvis", "diffusers", "textual-inversion", "a1111", "peft", "kohya"],
        Option("output", metavar="FORMAT"),
    ] = "samecast"
    """samecast, official (Adobe's delta.bin), compvis, diffusers (Custom Diffusion), textual-inversion, a1111
    (textual inversion as a pickle), peft or kohya (both LoRA)."""

    keep: Keep = 1.0
    """For whole weights as LoRA: at most this share of the singular values' sum is kept of each layer."""

    rename: Annotated[tuple[str, ...], Option("subject", metavar="OLD=NEW", repeated=True)] = ()
    """Another name for a modifier token; may be repeated."""

    word: Annotated[str, Option("subject", metavar="WORD", default="what the file says, or its name")] = ""
    """The modifier token, for a file that has one, whatever it is called there."""

    out: Annotated[Path, Option("output", aliases=("-o",), metavar="PATH")] = Path("converted.safetensors")
    """File to write, or folder, where the format takes several files. Where it exists, the next free name is taken."""
