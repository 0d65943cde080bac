"""The options of `samecast learn`: whom and where, and the settings of `samecast.learn.settings`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from samecast.checked import Option, Takes
from samecast.cli.options.common import ModelOptions
from samecast.learn.settings import METHODS, LearnSettings, Method, default_settings

_OWN: dict[str, Method] = {"mode": "custom-diffusion", "rank": "lora"}
"""Settings that one method alone has."""

_EMBEDDED = {method: default_settings(method, embedded=True) for method in METHODS}


def _takes(method: Method) -> Takes:
    """The settings that a method can be told."""
    names = [field.name for field in fields(LearnSettings) if field.name != "method"]
    return Takes(*(name for name in names if _OWN.get(name, method) == method))


def _elsewhere(method: Method) -> tuple[str, Any, str]:
    return "settings", default_settings(method, embedded=False), "with another --model"


@dataclass(frozen=True)
class LearnOptions(ModelOptions):
    """What every method can be told."""

    method: ClassVar[Method]
    settings: LearnSettings = _EMBEDDED["custom-diffusion"]

    photos: Annotated[Path | None, Option("subject", metavar="FOLDER")] = None
    """Folder with photos of the subject; three to five do."""

    noun: Annotated[str, Option("subject", metavar="WORD", default="subject.json in the folder")] = ""
    """What the photos show, in a word."""

    token: Annotated[str, Option("subject", metavar="<WORD>")] = "<new1>"
    """The word that will stand for the subject in prompts."""

    list: Annotated[Path | None, Option("subject", metavar="JSON")] = None
    """In place of --photos: several subjects, as concepts_list.json, or CustomConcept101's dataset.json or
    dataset_multiconcept.json."""

    entry: Annotated[int | None, Option("subject", default="all")] = None
    """Which entry of the list to learn, from 1: a subject of dataset.json, a group of dataset_multiconcept.json."""

    class_photos: Annotated[Path | None, Option("subject", metavar="FOLDER", default="generated")] = None
    """Pictures of the class, for prior preservation."""

    out: Annotated[
        Path | None, Option("output", aliases=("-o",), metavar="FOLDER", default="concepts/ and the name")
    ] = None
    """Folder for the concept. An unfinished run there goes on where it stopped. Several devices learn it together under
    `accelerate launch -m samecast learn ...`."""

    show: Annotated[tuple[str, ...], Option("output", metavar="PROMPT", repeated=True)] = ()
    """A prompt to draw every so often; two of each subject unless given."""

    show_every: Annotated[int | None, Option("output", default="four times")] = None
    """Steps between these pictures; 0 draws none."""

    tensorboard: Annotated[bool, Option("output")] = False
    """Keep loss and pictures for TensorBoard, in log/ of the folder."""


@dataclass(frozen=True)
class CustomDiffusionOptions(LearnOptions):
    """Custom Diffusion: keys and values of cross-attention, and a token.

    For example:

      samecast learn custom-diffusion --photos examples/rex
      samecast learn custom-diffusion --photos rex --noun dog --model path/to/stable-diffusion-v1-4
      samecast learn custom-diffusion --list concepts_list.json
    """

    method = "custom-diffusion"
    other = _elsewhere(method)
    settings: Annotated[LearnSettings, _takes(method)] = _EMBEDDED[method]


@dataclass(frozen=True)
class TextualInversionOptions(LearnOptions):
    """Textual Inversion: a token alone; the model stays as it is, and the file takes a few kilobytes.

    For example:

      samecast learn textual-inversion --photos rex --noun dog
    """

    method = "textual-inversion"
    other = _elsewhere(method)
    settings: Annotated[LearnSettings, _takes(method)] = _EMBEDDED[method]


@dataclass(frozen=True)
class LoraOptions(LearnOptions):
    """LoRA: low-rank additions to all attention, and a token.

    For example:

      samecast learn lora --photos rex --noun dog --rank 8
    """

    method = "lora"
    other = _elsewhere(method)
    settings: Annotated[LearnSettings, _takes(method)] = _EMBEDDED[method]


@dataclass(frozen=True)
class DreamboothOptions(LearnOptions):
    """DreamBooth: the whole denoiser. The file is as large as the denoiser.

    For example:

      samecast learn dreambooth --photos rex --noun dog
    """

    method = "dreambooth"
    other = _elsewhere(method)
    settings: Annotated[LearnSettings, _takes(method)] = _EMBEDDED[method]
