"""The command line: reads options, calls the library, shows what came out.

Exit codes: 0 done; 1 a repeated run differs from its record, or pictures of a study could not be made; 2 a mistake in
what was asked, told in one line; 130 interrupted, with nothing half-written. Commands are imported when they are
called, for they bring torch.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from samecast.cli.console import CONSOLE, OutputError, drop_output, report_error, sound_streams
from samecast.cli.options import Options
from samecast.cli.options.compare import CompareOptions
from samecast.cli.options.concept import CompressOptions, ConvertOptions, MergeOptions, ShowOptions
from samecast.cli.options.demo import DemoOptions
from samecast.cli.options.diorama import BenchmarkOptions, PhotosOptions, SheetOptions
from samecast.cli.options.layers import LayersOptions
from samecast.cli.options.learn import SharedOptions
from samecast.cli.options.masks import MasksOptions
from samecast.cli.options.render import RenderOptions
from samecast.cli.options.study import StudyOptions, StudyReportOptions, StudyStatusOptions
from samecast.cli.options.tune import TuneOptions
from samecast.cli.parsing import parse
from samecast.errors import SamecastError

_COMMANDS: dict[type, tuple[str, str]] = {  # by module and function
    RenderOptions: ("render", "run_render"),
    SharedOptions: ("learn", "run_learn"),
    MasksOptions: ("masks", "run_masks"),
    StudyOptions: ("study", "run_study_command"),
    StudyStatusOptions: ("study_status", "run_status"),
    StudyReportOptions: ("study_status", "run_report"),
    TuneOptions: ("tune", "run_tune"),
    DemoOptions: ("demo", "run_demo"),
    LayersOptions: ("layers", "run_layers"),
    ShowOptions: ("concept", "run_concept"),
    MergeOptions: ("concept", "run_concept"),
    CompressOptions: ("concept", "run_concept"),
    ConvertOptions: ("concept", "run_concept"),
    CompareOptions: ("compare", "run_compare"),
    BenchmarkOptions: ("benchmark", "run_benchmark"),
    PhotosOptions: ("diorama", "run_photos"),
    SheetOptions: ("diorama", "run_sheet"),
}
DONE, DIFFERS, MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        words: the words after `samecast`; None takes them from the process.

    Returns:
        The exit code.
    """
    sound_streams()
    try:
        try:
            return _answer(sys.argv[1:] if words is None else words)
        finally:
            _flush()
    except OutputError as error:
        report_error(f"what was to be printed cannot be: {error}")
        drop_output()
        return MISTAKE


def _answer(words: Sequence[str]) -> int:
    try:
        return _run(parse(words or ["--help"]))
    except SamecastError as error:
        report_error(str(error))
        return MISTAKE
    except KeyboardInterrupt as stop:
        CONSOLE.print(str(stop) or "interrupted; what was finished is kept, and nothing is half-written")
        return INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        report_error(f"memory does not suffice: lower --size or the number of pictures at once ({error})")
        return MISTAKE


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch says so in an error of its own on accelerators, and in words on the CPU."""
    data = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in data or "can't allocate memory" in data


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error


def _run(options: Options) -> int:
    """Run what the options ask for; a command that finds a difference returns False."""
    _set_up_logging(verbose=isinstance(options, RenderOptions) and options.verbose)
    module, name = next(_COMMANDS[kind] for kind in type(options).__mro__ if kind in _COMMANDS)
    run: Callable[[Options], bool | None] = getattr(import_module(f"samecast.cli.{module}"), name)
    return DIFFERS if run(options) is False else DONE


def _set_up_logging(*, verbose: bool) -> None:
    """Our own log in detail if asked for, otherwise its warnings; the libraries' chatter only if asked for."""
    from rich.logging import RichHandler

    handler = RichHandler(console=CONSOLE, show_path=False)
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler], format="%(message)s")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # `samecast.photos` says all that is wrong with a photo
    logging.getLogger("samecast").setLevel(logging.INFO if verbose else logging.WARNING)
