"""Words to options, and tyro's boxed complaints to one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from samecast.cli.options import Options
from samecast.cli.options.compare import CompareOptions
from samecast.cli.options.concept import ConceptOptions
from samecast.cli.options.demo import DemoOptions
from samecast.cli.options.diorama import DioramaOptions
from samecast.cli.options.learn import LearnOptions
from samecast.cli.options.masks import MasksOptions
from samecast.cli.options.render import RenderOptions
from samecast.cli.options.sites import SitesOptions
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
    "sites": SitesOptions,
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
    | Annotated[SitesOptions, tyro.conf.subcommand("sites", description="List the attention layers of a model.")]
    | Annotated[
        ConceptOptions,
        tyro.conf.subcommand("concept", description="Show, merge, compress and convert what was learned."),
    ]
    | Annotated[CompareOptions, tyro.conf.subcommand("compare", description="Compare training, attention and both.")]
    | Annotated[DioramaOptions, tyro.conf.subcommand("diorama", description="Look at the embedded world.")]
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
        SystemExit: help was asked for and has been printed; the code is 0.
    """
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
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        where = f"samecast {command} --help" if command else "samecast --help"
        raise SamecastError(f"{_summary(complaint.getvalue())} (see {where})") from None
    return options.command if isinstance(options, DioramaOptions | ConceptOptions | LearnOptions) else options


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
