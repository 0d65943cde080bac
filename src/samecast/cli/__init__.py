"""The command line: reads options, calls the library, shows the result.

Exit codes: 0 done; 1 a repeated run differs from its record, or pictures of a study could not be made; 2 a mistake in
the input, reported in one line; 130 interrupted, with nothing half-written. Commands are imported when they are called,
because they import torch.
"""

import logging
import sys
from collections.abc import Sequence

from samecast.cli.console import CONSOLE, OutputError, drop_output, report_error, sound_streams
from samecast.cli.parsing import parse, runner_of
from samecast.cli.words import Command
from samecast.errors import SamecastError

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
        report_error(f"the output cannot be printed: {error}")
        drop_output()
        return MISTAKE


def _answer(words: Sequence[str]) -> int:
    try:
        return _run(parse(words or ["--help"]))
    except SamecastError as error:
        report_error(str(error))
        return MISTAKE
    except KeyboardInterrupt as stop:
        CONSOLE.print(str(stop) or "interrupted; finished work is kept, and nothing is half-written")
        return INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        report_error(f"out of memory: lower --height and --width, or the number of pictures at once ({error})")
        return MISTAKE


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch raises an error type of its own on accelerators, a RuntimeError on the CPU."""
    data = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in data or "can't allocate memory" in data


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error


def _run(options: Command) -> int:
    """Run the command of these options."""
    _set_up_logging(verbose=getattr(options, "verbose", False))
    return DIFFERS if runner_of(options)(options) is False else DONE


def _set_up_logging(*, verbose: bool) -> None:
    """Logs samecast's details, or only its warnings; the libraries' logs only when verbose."""
    from rich.logging import RichHandler

    handler = RichHandler(console=CONSOLE, show_path=False)
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler], format="%(message)s")
    # `samecast.photos` reports everything that is wrong with a photo
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    logging.getLogger("samecast").setLevel(logging.INFO if verbose else logging.WARNING)
