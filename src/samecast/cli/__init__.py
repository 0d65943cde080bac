"""The command line: reads options, calls the library, shows what came out.

Exit codes: 0 done; 1 a repeated run differs from its record; 2 a mistake in what was asked, told in one line; 130
interrupted, with nothing half-written. Commands are imported when they are called, for they bring torch.
"""

import logging
import sys
from collections.abc import Sequence

from samecast.cli.concept_options import CompressOptions, ConvertOptions, MergeOptions, ShowOptions
from samecast.cli.console import CONSOLE, complain
from samecast.cli.learn_options import SharedOptions
from samecast.cli.options import (
    BenchmarkOptions,
    CompareOptions,
    DemoOptions,
    MasksOptions,
    Options,
    PhotosOptions,
    RenderOptions,
    SitesOptions,
)
from samecast.cli.parsing import parse
from samecast.errors import SamecastError

DONE, DIFFERS, MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        words: the words after `samecast`; None takes them from the process.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if words is None else words
    try:
        return _run(parse(words or ["--help"]))
    except SamecastError as error:
        complain(str(error))
        return MISTAKE
    except KeyboardInterrupt as stop:
        CONSOLE.print(str(stop) or "interrupted; nothing was written")
        return INTERRUPTED


def _run(options: Options) -> int:
    if isinstance(options, RenderOptions):
        _set_up_logging(verbose=options.verbose)
        from samecast.cli.render import run_render

        return DONE if run_render(options) else DIFFERS
    _set_up_logging(verbose=False)
    if isinstance(options, DemoOptions):
        from samecast.cli.demo import run_demo

        run_demo(options)
    elif isinstance(options, MasksOptions):
        from samecast.cli.masks import run_masks

        run_masks(options)
    elif isinstance(options, SitesOptions):
        from samecast.cli.sites import run_sites

        run_sites(options)
    elif isinstance(options, SharedOptions):
        from samecast.cli.learn import run_learn

        run_learn(options)
    elif isinstance(options, ShowOptions | MergeOptions | CompressOptions | ConvertOptions):
        from samecast.cli.concept import run_concept

        run_concept(options)
    elif isinstance(options, BenchmarkOptions):
        from samecast.cli.benchmark import run_benchmark

        run_benchmark(options)
    elif isinstance(options, CompareOptions):
        from samecast.cli.compare import run_compare

        run_compare(options)
    elif isinstance(options, PhotosOptions):
        from samecast.cli.diorama import run_photos

        run_photos(options)
    else:
        from samecast.cli.diorama import run_sheet

        run_sheet(options)
    return DONE


def _set_up_logging(*, verbose: bool) -> None:
    """Our own log in detail if asked for; the libraries' chatter only then too."""
    from rich.logging import RichHandler

    handler = RichHandler(console=CONSOLE, show_path=False)
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler], format="%(message)s")
