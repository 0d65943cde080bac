"""Parses arguments into options, and turns tyro's boxed errors into one line."""

import contextlib
import difflib
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass
from importlib import import_module
from typing import Annotated, Any, Union

import tyro

from samecast.checked import leaves
from samecast.cli.console import RESULTS, OutputError
from samecast.cli.words import Command, parser_of, read_words
from samecast.errors import SamecastError

DESCRIPTION = """Cast a subject once, render it in any scene.

For example:

  samecast demo                                              see what it does
  samecast render photo.png "a dog running on the beach"     render your own photo
  samecast learn custom-diffusion --photos rex --noun dog    learn a subject from a few photos
  samecast render --help                                     list its options
"""


@dataclass(frozen=True)
class Entry:
    """A command.

    Args:
        options: module and name of its dataclass, in `samecast.cli.options`.
        run: module and name of the function that runs it, in `samecast.cli`.
        about: one line of help.
    """

    options: str
    run: str
    about: str


COMMANDS = {
    "render": Entry("render.RenderOptions", "render.run_render", "Render the subject of a photo in new scenes."),
    "learn custom-diffusion": Entry(
        "learn.CustomDiffusionOptions", "learn.run_learn", "Keys and values of cross-attention."
    ),
    "learn textual-inversion": Entry("learn.TextualInversionOptions", "learn.run_learn", "A token alone."),
    "learn lora": Entry("learn.LoraOptions", "learn.run_learn", "Low-rank changes of all attention layers."),
    "learn dreambooth": Entry("learn.DreamboothOptions", "learn.run_learn", "The whole denoiser."),
    "masks": Entry("masks.MasksOptions", "masks.run_masks", "Find the subject of a photo and its mask."),
    "study": Entry(
        "study.StudyOptions", "study.run_study_command", "Run a grid of settings, scored, plotted, written up."
    ),
    "study status": Entry("study.StudyStatusOptions", "study_status.run_status", "Show the progress of a study."),
    "study report": Entry(
        "study.StudyReportOptions", "study_status.run_report", "Rebuild a study's table, figures and page."
    ),
    "tune": Entry("tune.TuneOptions", "tune.run_tune", "Search for the rules that suit one subject."),
    "ui": Entry("ui.UiOptions", "ui.run_ui", "Open a web page for all of this."),
    "demo": Entry("demo.DemoOptions", "demo.run_demo", "One subject, six prompts, four settings, scored."),
    "layers": Entry("layers.LayersOptions", "layers.run_layers", "List the attention layers of a model."),
    "concept show": Entry("concept.ShowOptions", "concept.run_show", "Print the contents of a concept file."),
    "concept merge": Entry("concept.MergeOptions", "concept.run_merge", "Merge several concepts into one."),
    "concept compress": Entry("concept.CompressOptions", "concept.run_compress", "Compress a concept."),
    "concept convert": Entry(
        "concept.ConvertOptions", "concept.run_convert", "Convert between the formats of different tools."
    ),
    "compare": Entry("compare.CompareOptions", "compare.run_compare", "Compare training, attention and both."),
    "diorama sheet": Entry("diorama.SheetOptions", "diorama.run_sheet", "Draw a contact sheet."),
    "diorama photos": Entry("diorama.PhotosOptions", "diorama.run_photos", "Draw photos of a subject."),
    "diorama benchmark": Entry(
        "diorama.BenchmarkOptions", "benchmark.run_benchmark", "Compare methods on held-out subjects."
    ),
}
GROUPS = {
    "learn": "Learn a subject from photos into a concept file, for `samecast render --concept`.",
    "concept": "Show, merge, compress and convert concepts.",
    "diorama": "Draw the embedded world, and benchmark methods on it.",
}
"""The help of command groups."""
FORMER = {"--sites": "--layers", "--map-sites": "--map-layers", "--size": "--height and --width", "sites": "layers"}
"""Current names of options and commands, by their names in samecast 0.1."""
FORMER_OF = {"masks": {"--words": "--map-words", "--sites": "--map-layers"}}
"""The same for names that only one command had."""
_RULE = re.compile(r"^[\s│|]*[─-]{8,}[\s│|]*$|^[╭╰]")
_FLAG = re.compile(r"--[\w-]+")
_NAMES = re.compile(r"(--[\w-]+)(?:, (--[\w-]+))?")
"""The first suggested option, and its alias."""


def parse(words: Sequence[str]) -> Command:
    """Parse a command line.

    Args:
        words: the arguments after `samecast`.

    Returns:
        The options of the command.

    Raises:
        SamecastError: the words are not a valid command; the message is one line.
        SystemExit: help or the version was printed; the code is 0.
        OutputError: help could not be printed.
    """
    if list(words) in (["--version"], ["-V"]):
        RESULTS.print(f"samecast {import_module('samecast').__version__}")
        raise SystemExit(0)
    name = next((" ".join(words[:n]) for n in (2, 1) if words[:n] and " ".join(words[:n]) in COMMANDS), "")
    if not name:
        return _listed(words)
    kind, rest = options_of(name), list(words[len(name.split()) :])
    former = {**FORMER, **FORMER_OF.get(name, {})}
    own = {flag for leaf in leaves(kind) for flag in (leaf.flag, *leaf.option.aliases)}
    for flag in (word.partition("=")[0] for word in rest if word.startswith("--")):
        if flag in former and flag not in own:
            raise SamecastError(f"{flag} is now {former[flag]} (see samecast {name} --help)")
    typed = _parsed(words, name, parser_of(kind), None, rest)
    if (meant := _meant(words)) and not os.path.lexists(words[1]):  # parsed as the annotations of a study
        raise SamecastError(meant)
    return read_words(kind, typed)


def options_of(name: str) -> type[Command]:
    """The dataclass of a command's options."""
    return _attribute("samecast.cli.options", COMMANDS[name].options)


def runner_of(options: Command) -> Callable[[Any], bool | None]:
    """The function that runs the command of some options; it returns False for a difference or a failure."""
    kind = type(options)
    data = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
    return _attribute("samecast.cli", next(entry.run for entry in COMMANDS.values() if entry.options == data))


def _attribute(package: str, place: str) -> Any:
    module, _, name = place.partition(".")
    return getattr(import_module(f"{package}.{module}"), name)


def _listed(words: Sequence[str]) -> Command:
    """Handles arguments that name no command yet: help lists the commands, and all else is an error."""
    group = words[0] if words and words[0] in GROUPS else ""
    below = _below(group)
    stubs = [
        Annotated[make_dataclass(name, []), tyro.conf.subcommand(name, description=data)]
        for name, data in below.items()
    ]
    description = GROUPS.get(group, DESCRIPTION)
    _parsed(words, group, Union[tuple(stubs)], description, list(words[bool(group) :]))  # noqa: UP007
    raise SamecastError(f"{' '.join(words)} is not a command; the commands are {', '.join(below)}")


def _parsed(words: Sequence[str], name: str, kind: Any, description: str | None, rest: Sequence[str]) -> Any:
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind,
                prog=f"samecast {name}".strip(),
                description=description,
                args=list(rest),
                config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.HelptextFromCommentsOff, tyro.conf.DisallowNone),
            )
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        where = f"samecast {name} --help" if name else "samecast --help"
        raise SamecastError(f"{_meant(words) or _summary(complaint.getvalue())} (see {where})") from None


def _below(group: str) -> dict[str, str]:
    """The possible next words with their help: the commands of a group, or all commands and groups."""
    found: dict[str, str] = {}
    for name, entry in COMMANDS.items():
        first, _, second = name.partition(" ")
        if group and first == group and second:
            found[second] = entry.about
        elif not group:
            found.setdefault(first, GROUPS.get(first, entry.about))
    return found


def _meant(words: Sequence[str]) -> str:
    """The error for a mistyped command, with a suggestion; empty if the command exists or none was named."""
    named = [word for word in words[:2] if not word.startswith("-")]
    if not named:
        return ""
    first, known = named[0], list(_below(""))
    if first in FORMER:
        return f"samecast {first} is now samecast {FORMER[first]}"
    if first not in known:
        return f"unknown command {first!r}{_near(first, known)}; the commands are {', '.join(known)}"
    second = list(_below(first))
    if len(named) < 2 or named[1] in second or not second:
        return ""
    near = _near(named[1], second, before=f"{first} ")
    if first == "study" and not near:  # the word after `study` may also be a file
        return ""
    return f"unknown command '{first} {named[1]}'{near}; there are {', '.join(f'{first} {name}' for name in second)}"


def _near(word: str, known: Sequence[str], before: str = "") -> str:
    found = difflib.get_close_matches(word.lower(), known, n=1)
    return f"; did you mean samecast {before}{found[0]}?" if found else ""


def _summary(box: str) -> str:
    """The error and the likeliest remedy, from tyro's box of several sections."""
    sections: list[str] = [""]
    for line in box.splitlines():
        if _RULE.match(line):
            sections.append("")
        else:
            sections[-1] = f"{sections[-1]} {line.strip(' │|')}".strip()
    # The title is a section where a terminal lacks line-drawing characters, and part of the frame elsewhere.
    sections = [section for section in sections[1:] if section]
    message = sections[0].partition(" Got errors:")[0].rstrip(".")
    message = message[:1].lower() + message[1:]
    for section in sections[1:]:
        first = _NAMES.search(section)
        if section.startswith("Perhaps you meant") and first:
            names, typed = [name for name in first.groups() if name], _FLAG.search(message)
            near = difflib.get_close_matches(typed[0] if typed else "", names, n=1)
            message += f"; did you mean {near[0] if near else names[0]}?"
        elif section.startswith("Available subcommands"):
            message += f"; {section[:1].lower()}{section[1:]}"
    return message
