"""Words to options, and tyro's boxed complaints to one line."""

import contextlib
import difflib
import io
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_type_hints

import tyro

from samecast.checked import check_fields
from samecast.cli.console import OutputError
from samecast.cli.options import Options
from samecast.cli.options.compare import CompareOptions
from samecast.cli.options.concept import ConceptOptions
from samecast.cli.options.demo import DemoOptions
from samecast.cli.options.diorama import DioramaOptions
from samecast.cli.options.layers import LayersOptions
from samecast.cli.options.learn import LearnOptions
from samecast.cli.options.masks import MasksOptions
from samecast.cli.options.render import RenderOptions
from samecast.cli.options.study import StudyOptions, StudyReportOptions, StudyStatusOptions
from samecast.cli.options.tune import TuneOptions
from samecast.errors import SamecastError

DESCRIPTION = """Cast a subject once, render it in any scene.

For example:

  samecast demo                                              see what it does
  samecast render photo.png "a dog running on the beach"     render your own photo
  samecast learn custom-diffusion --photos rex --noun dog    learn a subject from a few photos
  samecast render --help                                     all that it can be told
"""
_COMMANDS: dict[str, Any] = {
    "render": RenderOptions,
    "learn": LearnOptions,
    "masks": MasksOptions,
    "study": StudyOptions,
    "study status": StudyStatusOptions,
    "study report": StudyReportOptions,
    "tune": TuneOptions,
    "demo": DemoOptions,
    "layers": LayersOptions,
    "concept": ConceptOptions,
    "compare": CompareOptions,
    "diorama": DioramaOptions,
}
_Any = (
    Annotated[RenderOptions, tyro.conf.subcommand("render", description="Render the subject of a photo in new scenes.")]
    | Annotated[LearnOptions, tyro.conf.subcommand("learn", description="Learn a subject from photos.")]
    | Annotated[
        MasksOptions, tyro.conf.subcommand("masks", description="Find the subject of a photo, and draw its mask.")
    ]
    | Annotated[
        StudyOptions, tyro.conf.subcommand("study", description="Run a grid of settings, scored, plotted, written up.")
    ]
    | Annotated[TuneOptions, tyro.conf.subcommand("tune", description="Search the rules that suit one subject.")]
    | Annotated[
        DemoOptions, tyro.conf.subcommand("demo", description="One subject, six prompts, four settings, judged.")
    ]
    | Annotated[LayersOptions, tyro.conf.subcommand("layers", description="List the attention layers of a model.")]
    | Annotated[
        ConceptOptions,
        tyro.conf.subcommand("concept", description="Show, merge, compress and convert what was learned."),
    ]
    | Annotated[CompareOptions, tyro.conf.subcommand("compare", description="Compare training, attention and both.")]
    | Annotated[DioramaOptions, tyro.conf.subcommand("diorama", description="MapSpec at the embedded world.")]
)
_RULE = re.compile(r"^[\s│|]*[─-]{8,}[\s│|]*$|^[╭╰]")
_SUGGESTION = re.compile(r"(--[\w-]+)")


def parse(words: Sequence[str]) -> Options:
    """Read the words of a command line.

    Args:
        words: what follows `samecast`.

    Returns:
        The options of the command that was called.

    Raises:
        SamecastError: the words are no command; the message is one line.
        SystemExit: help or the version was asked for and has been printed; the code is 0.
        OutputError: it could not be printed.
    """
    if list(words) in (["--version"], ["-V"]):
        _print_version()
    command = next((" ".join(words[:n]) for n in (2, 1) if words[:n] and " ".join(words[:n]) in _COMMANDS), "")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = tyro.cli(
                _COMMANDS.get(command, _Any),
                prog=f"samecast {command}".strip(),
                description=None if command else DESCRIPTION,
                args=list(words[len(command.split()) :]),
                config=(
                    tyro.conf.OmitArgPrefixes,
                    tyro.conf.OmitSubcommandPrefixes,
                    tyro.conf.HelptextFromCommentsOff,
                ),
            )
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        where = f"samecast {command} --help" if command else "samecast --help"
        raise SamecastError(f"{_meant(words) or _summary(complaint.getvalue())} (see {where})") from None
    if (meant := _meant(words)) and not os.path.lexists(words[1]):  # taken for the annotations of a study
        raise SamecastError(meant)
    chosen = options.command if isinstance(options, DioramaOptions | ConceptOptions | LearnOptions) else options
    check_fields(chosen, lambda name: f"--{name.replace('_', '-')}")
    return chosen


def _print_version() -> None:
    from importlib import import_module

    from samecast.cli.console import RESULTS

    RESULTS.print(f"samecast {import_module('samecast').__version__}")
    raise SystemExit(0)


def _meant(words: Sequence[str]) -> str:
    """What a mistyped command was likely meant to be; empty where the command is one, or no command was named."""
    named = [word for word in words[:2] if not word.startswith("-")]
    if not named:
        return ""
    first, known = named[0], [name for name in _COMMANDS if " " not in name]
    if first not in known:
        return f"there is no command {first!r}{_near(first, known)}; there are {', '.join(known)}"
    second = _commands_of(first)
    if len(named) < 2 or named[1] in second or not second:
        return ""
    near = _near(named[1], second, before=f"{first} ")
    if first == "study" and not near:  # which takes a file there
        return ""
    return (
        f"there is no command '{first} {named[1]}'{near}; there are {', '.join(f'{first} {name}' for name in second)}"
    )


def _near(word: str, known: Sequence[str], before: str = "") -> str:
    found = difflib.get_close_matches(word.lower(), known, n=1)
    return f"; did you mean samecast {before}{found[0]}?" if found else ""


def _commands_of(first: str) -> list[str]:
    """The commands below one, by name."""
    beside = [name.partition(" ")[2] for name in _COMMANDS if name.startswith(f"{first} ")]
    data = get_type_hints(_COMMANDS[first], include_extras=True).get("command")
    return beside + [member.__metadata__[0].name for member in get_args(data)]


def _summary(box: str) -> str:
    """What is wrong and the likeliest remedy, out of a box of several sections."""
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
        suggestion = _SUGGESTION.search(section)
        if section.startswith("Perhaps you meant") and suggestion:
            message += f"; did you mean {suggestion[1]}?"
        elif section.startswith("Available subcommands"):
            message += f"; {section[:1].lower()}{section[1:]}"
    return message
