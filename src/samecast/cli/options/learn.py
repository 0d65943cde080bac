"""`samecast learn` as data: the options that all methods share, and each method's own.

What an option leaves at None is the method's default: its paper's, or what suits the embedded model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from samecast.cli.options.common import Model, On, Size, arg

_METHODS = "(default: the method's)"


@dataclass(frozen=True)
class SharedOptions:
    """What every method can be told."""

    photos: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Folder with photos of the subject; three to five do."""

    noun: Annotated[str, arg(metavar="WORD", help_behavior_hint="(default: subject.json in the folder)")] = ""
    """What the photos show, in a word."""

    token: Annotated[str, arg(metavar="<WORD>")] = "<new1>"
    """The word that will stand for the subject in prompts."""

    list: Annotated[Path | None, arg(metavar="JSON", help_behavior_hint="")] = None
    """In place of --photos: several subjects, as concepts_list.json, or CustomConcept101's dataset.json or
    dataset_multiconcept.json."""

    entry: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: all)")] = None
    """Which entry of the list to learn, from 1: a subject of dataset.json, a group of dataset_multiconcept.json."""

    class_photos: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: generated)")] = None
    """Pictures of the class, for prior preservation."""

    out: Annotated[
        Path | None, arg(aliases=("-o",), metavar="FOLDER", help_behavior_hint="(default: concepts/ and the name)")
    ] = None
    """Folder for the concept. An unfinished run there goes on where it stopped."""

    model: Model = "diorama"
    """Any model that `samecast render` takes."""

    steps: Annotated[int | None, arg(metavar="INT", help_behavior_hint=_METHODS)] = None
    """How many steps to take."""

    batch: Annotated[int | None, arg(metavar="INT", help_behavior_hint=_METHODS)] = None
    """Photos at once, on each device."""

    accumulate: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 1)")] = None
    """Batches that make up one step."""

    learning_rate: Annotated[float | None, arg(metavar="RATE", help_behavior_hint=_METHODS)] = None
    """Of the weights, for one photo a step; it grows with the photos of a step."""

    token_rate: Annotated[float | None, arg(metavar="RATE", help_behavior_hint=_METHODS)] = None
    """Of the token, likewise; 0 leaves it as it begins."""

    weight_decay: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: 0.01)")] = None
    """Of the weights."""

    prior_weight: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint=_METHODS)] = None
    """How much the class pictures count, which keep the class what it was; 0 does without them."""

    class_images: Annotated[int | None, arg(metavar="INT", help_behavior_hint=_METHODS)] = None
    """How many class pictures are generated where none are given."""

    augment: Annotated[Literal["scale", "none"] | None, arg(metavar="scale|none", help_behavior_hint=_METHODS)] = None
    """Show photos also smaller and larger, and say so in the caption."""

    views: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: without end)")] = None
    """With --augment scale: make so many views of each photo, encode them once and keep them."""

    no_flip: Annotated[On, arg(help_behavior_hint="")] = False
    """Do not show photos mirrored: for what has writing on it."""

    varied: Annotated[On, arg(help_behavior_hint="")] = False
    """Say captions in ten ways; textual-inversion always does."""

    initializer: Annotated[
        str | None, arg(metavar="TEXT", help_behavior_hint="(default: a rare word, or the noun)")
    ] = None
    """Words at which the token begins."""

    size: Size = None

    fit: Literal["crop", "pad"] = "crop"
    """How a photo becomes square: cut to its centre, or padded with white."""

    seed: Annotated[int, arg(metavar="INT")] = 0
    """Seed of everything that is drawn."""

    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """To compute in; what is trained stays in float32."""

    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """AdamW, or with 8-bit moments (needs the extra `8bit`)."""

    checkpointing: Annotated[On, arg(help_behavior_hint="")] = False
    """Less memory for a third more time."""

    show: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], arg(metavar="PROMPT")] = ()
    """A prompt to draw every so often; two of each subject unless given."""

    show_every: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: four times)")] = None
    """Steps between these pictures; 0 draws none."""

    tensorboard: Annotated[On, arg(help_behavior_hint="")] = False
    """Keep loss and pictures for TensorBoard, in log/ of the folder."""

    device: Annotated[str, arg(metavar="auto|cpu|cuda|mps")] = "auto"
    """Where to compute. Several devices: accelerate launch -m samecast learn ..."""


@dataclass(frozen=True)
class CustomDiffusionOptions(SharedOptions):
    """Custom Diffusion: keys and values of cross-attention, and a token.

    For example:

      samecast learn custom-diffusion --photos examples/rex
      samecast learn custom-diffusion --photos rex --noun dog --model path/to/stable-diffusion-v1-4
      samecast learn custom-diffusion --list concepts_list.json
    """

    mode: Annotated[
        Literal["kv", "crossattn"] | None,
        arg(help_behavior_hint="(default: kv, as the paper; crossattn on the embedded model)"),
    ] = None
    """Train keys and values, or queries and outputs too."""


@dataclass(frozen=True)
class TextualInversionOptions(SharedOptions):
    """Textual Inversion: a token alone; the model stays as it is, and the file takes a few kilobytes.

    For example:

      samecast learn textual-inversion --photos rex --noun dog
    """


@dataclass(frozen=True)
class LoraOptions(SharedOptions):
    """LoRA: low-rank additions to all attention, and a token.

    For example:

      samecast learn lora --photos rex --noun dog --rank 8
    """

    rank: Annotated[int, arg(metavar="INT")] = 4
    """Rank of the additions: larger holds more and makes a larger file."""


@dataclass(frozen=True)
class DreamboothOptions(SharedOptions):
    """DreamBooth: the whole denoiser. The file is as large as the denoiser.

    For example:

      samecast learn dreambooth --photos rex --noun dog
    """


@dataclass(frozen=True)
class LearnOptions:
    """Learn a subject from photos: a concept file comes out, for `samecast render --concept`."""

    command: (
        Annotated[
            CustomDiffusionOptions,
            tyro.conf.subcommand("custom-diffusion", description="Keys and values of cross-attention."),
        ]
        | Annotated[TextualInversionOptions, tyro.conf.subcommand("textual-inversion", description="A token alone.")]
        | Annotated[LoraOptions, tyro.conf.subcommand("lora", description="Low-rank additions to all attention.")]
        | Annotated[DreamboothOptions, tyro.conf.subcommand("dreambooth", description="The whole denoiser.")]
    )
