"""The options of `samecast concept`. Nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from samecast.checked import Within
from samecast.cli.options.common import Device, arg

_Model = Annotated[
    str, arg(metavar="MODEL", help_behavior_hint="(default: the embedded model, if it was learned on that)")
]


@dataclass(frozen=True)
class ShowOptions:
    """Tell what is in a file of a concept. For example:

    samecast concept show rex.safetensors
    """

    concept: Annotated[tyro.conf.Positional[Path], arg(metavar="FILE")]
    """A file or folder of any format, except pickles."""


@dataclass(frozen=True)
class MergeOptions:
    """Make one concept of several, in closed form, without training. For example:

    samecast concept merge rex.safetensors tom.safetensors --out both.safetensors
    """

    concepts: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], arg(metavar="FILE FILE [FILE ...]", help_behavior_hint="")
    ]
    """Two concepts or more, with different words, learned on one model."""

    out: Annotated[Path, arg(aliases=("-o",), metavar="FILE")] = Path("merged.safetensors")
    """File to write. Where it exists, the next free name is taken."""

    captions: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: a thousand everyday ones)")] = (
        None
    )
    """Text, one caption to a line, of what is to stay as it is."""

    model: _Model = ""
    """The model that the concepts were learned on."""

    device: Device = "auto"


@dataclass(frozen=True)
class CompressOptions:
    """Make a concept smaller: its whole weights become changes of low rank. For example:

    samecast concept compress rex.safetensors --keep 0.6 --out small.safetensors
    """

    concept: Annotated[tyro.conf.Positional[Path], arg(metavar="FILE")]
    """The concept."""

    out: Annotated[Path, arg(aliases=("-o",), metavar="FILE")] = Path("compressed.safetensors")
    """File to write. Where it exists, the next free name is taken."""

    keep: Annotated[float, arg(metavar="0-1"), Within(0, 1)] = 0.6
    """At most this share of the singular values' sum is kept of each layer."""

    model: _Model = ""
    """The model that the concept was learned on."""

    device: Device = "auto"


@dataclass(frozen=True)
class ConvertOptions:
    """Read a concept of any tool and write it for any other. The one command that reads pickles, as data alone.

    For example:

      samecast concept convert delta.bin --out rex.safetensors
      samecast concept convert rex.safetensors --to peft --out rex-lora
      samecast concept convert rex.safetensors --rename "<new1>=<rex>" --out renamed.safetensors
    """

    concept: Annotated[tyro.conf.Positional[Path], arg(metavar="FILE")]
    """A file or folder: Custom Diffusion's of Adobe, CompVis and diffusers, textual inversion, LoRA, samecast's own."""

    to: Annotated[
        Literal["samecast", "official", "compvis", "diffusers", "textual-inversion", "a1111", "peft", "kohya"],
        arg(metavar="FORMAT"),
    ] = "samecast"
    """samecast, official (Adobe's delta.bin), compvis, diffusers (Custom Diffusion), textual-inversion, a1111
    (textual inversion as a pickle), peft or kohya (both LoRA)."""

    out: Annotated[Path, arg(aliases=("-o",), metavar="PATH")] = Path("converted.safetensors")
    """File to write, or folder, where the format takes several files. Where it exists, the next free name is taken."""

    keep: Annotated[float, arg(metavar="0-1"), Within(0, 1)] = 1.0
    """For whole weights as LoRA: at most this share of the singular values' sum is kept of each layer."""

    rename: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="OLD=NEW")] = ()
    """Another name for a modifier token; may be repeated."""

    word: Annotated[str, arg(metavar="WORD", help_behavior_hint="(default: what the file says, or its name)")] = ""
    """The modifier token, for a file that has one, whatever it is called there."""

    model: _Model = ""
    """The model that the concept was learned on; needed to make whole weights LoRA, and LoRA whole weights."""

    device: Device = "auto"


@dataclass(frozen=True)
class ConceptOptions:
    """Show, merge, compress and convert what was learned of a subject."""

    command: (
        Annotated[ShowOptions, tyro.conf.subcommand("show", description="Tell what is in a file.")]
        | Annotated[MergeOptions, tyro.conf.subcommand("merge", description="Make one concept of several.")]
        | Annotated[CompressOptions, tyro.conf.subcommand("compress", description="Make a concept smaller.")]
        | Annotated[ConvertOptions, tyro.conf.subcommand("convert", description="Read and write other tools' files.")]
    )
