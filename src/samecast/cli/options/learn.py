"""The options of `samecast learn`: subjects, folders, and the settings of `samecast.learn.settings`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from samecast.checked import Option, Takes
from samecast.cli.options.common import ModelOptions
from samecast.learn.settings import METHODS, LearnSettings, Method, default_settings

_OWN: dict[str, Method] = {"mode": "custom-diffusion", "rank": "lora"}
"""Settings that only one method has."""

_EMBEDDED = {method: default_settings(method, embedded=True) for method in METHODS}


def _takes(method: Method) -> Takes:
    """The settings of one method."""
    names = [field.name for field in fields(LearnSettings) if field.name != "method"]
    return Takes(*(name for name in names if _OWN.get(name, method) == method))


def _elsewhere(method: Method) -> tuple[str, Any, str]:
    return "settings", default_settings(method, embedded=False), "with another --model"


@dataclass(frozen=True)
class LearnOptions(ModelOptions):
    """The options of every method."""

    method: ClassVar[Method]
    settings: LearnSettings = _EMBEDDED["custom-diffusion"]

    photos: Annotated[Path | None, Option("subject", metavar="FOLDER")] = None
    """Folder with photos of the subject; three to five are enough."""

    noun: Annotated[str, Option("subject", metavar="WORD", default="subject.json in the folder")] = ""
    """The class of the subject, such as dog."""

    token: Annotated[str, Option("subject", metavar="<WORD>")] = "<new1>"
    """The modifier token: the word for the subject in prompts."""

    list: Annotated[Path | None, Option("subject", metavar="JSON")] = None
    """In place of --photos: several subjects, from concepts_list.json, or CustomConcept101's dataset.json or
    dataset_multiconcept.json."""

    entry: Annotated[int | None, Option("subject", default="all")] = None
    """Number of the list's entry to learn, from 1: a subject of dataset.json, a group of dataset_multiconcept.json."""

    class_photos: Annotated[Path | None, Option("subject", metavar="FOLDER", default="generated")] = None
    """Folder with pictures of the class, for prior preservation."""

    out: Annotated[
        Path | None, Option("output", aliases=("-o",), metavar="FOLDER", default="concepts/ and the name")
    ] = None
    """Folder for the concept. An unfinished run there is resumed. To use several devices, run
    `accelerate launch -m samecast learn ...`."""

    show: Annotated[tuple[str, ...], Option("output", metavar="PROMPT", repeated=True)] = ()
    """A prompt to render during training; by default two for each subject. May be repeated."""

    show_every: Annotated[int | None, Option("output", default="a quarter of the training")] = None
    """Training steps between these pictures; 0 for none."""

    tensorboard: Annotated[bool, Option("output")] = False
    """Log loss and pictures for TensorBoard, in log/ of the folder."""


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
    """Textual Inversion: a token alone; the model is not changed, and the file takes a few kilobytes.

    For example:

      samecast learn textual-inversion --photos rex --noun dog
    """

    method = "textual-inversion"
    other = _elsewhere(method)
    settings: Annotated[LearnSettings, _takes(method)] = _EMBEDDED[method]


@dataclass(frozen=True)
class LoraOptions(LearnOptions):
    """LoRA: low-rank changes of all attention layers, and a token.

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
