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
    """Print the contents of a concept file. For example:

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
    """The model that the concept was learned on; needed to merge, to compress, and to convert between LoRA and whole
    weights."""

    device: Annotated[str, Option("model", metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute."""


@dataclass(frozen=True)
class MergeOptions(BaseOptions):
    """Merge several concepts into one, in closed form, without training. For example:

    samecast concept merge rex.safetensors tom.safetensors --out both.safetensors
    """

    concepts: Annotated[tuple[Path, ...], Option(positional=True, metavar="FILE FILE [FILE ...]")] = ()
    """Two concepts or more, with different words, learned on one model."""

    captions: Annotated[Path | None, Option("method", metavar="FILE", default="a thousand everyday captions")] = None
    """Text file of captions whose pictures should not change, one per line."""

    out: OutFile = Path("merged.safetensors")
    """File to write. If it exists, the next free name is used."""


@dataclass(frozen=True, kw_only=True)
class CompressOptions(BaseOptions):
    """Compress a concept: its whole weights become low-rank changes. For example:

    samecast concept compress rex.safetensors --keep 0.6 --out small.safetensors
    """

    concept: Annotated[Path, Option(positional=True, metavar="FILE")]
    """The concept."""

    keep: Keep = 0.6
    """Share of the singular values' sum to keep in each layer, at most."""

    out: OutFile = Path("compressed.safetensors")
    """File to write. If it exists, the next free name is used."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(BaseOptions):
    """Convert a concept between the formats of different tools. The only command that reads pickles, restricted to
    data.

    For example:

      samecast concept convert delta.bin --out rex.safetensors
      samecast concept convert rex.safetensors --to peft --out rex-lora
      samecast concept convert rex.safetensors --rename "<new1>=<rex>" --out renamed.safetensors
    """

    concept: Annotated[Path, Option(positional=True, metavar="FILE")]
    """A file or folder: Custom Diffusion of Adobe, CompVis or diffusers, textual inversion, LoRA, or samecast's own."""

    to: Annotated[
        Literal["samecast", "official", "compvis", "diffusers", "textual-inversion", "a1111", "peft", "kohya"],
        Option("output", metavar="FORMAT"),
    ] = "samecast"
    """samecast, official (Adobe's delta.bin), compvis, diffusers (Custom Diffusion), textual-inversion, a1111
    (textual inversion as a pickle), peft or kohya (both LoRA)."""

    keep: Keep = 1.0
    """For whole weights as LoRA: share of the singular values' sum to keep in each layer, at most."""

    rename: Annotated[tuple[str, ...], Option("subject", metavar="OLD=NEW", repeated=True)] = ()
    """Rename a modifier token; may be repeated."""

    word: Annotated[str, Option("subject", metavar="WORD", default="the token in the file, or the file's name")] = ""
    """The modifier token, for a file that holds a single one; replaces the file's name for it."""

    out: Annotated[Path, Option("output", aliases=("-o",), metavar="PATH")] = Path("converted.safetensors")
    """File to write, or folder if the format has several files. If it exists, the next free name is used."""
