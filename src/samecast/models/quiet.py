"""Silences the libraries' output while loading, and shortens their error messages."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet_libraries(*, keep_bars: bool = False) -> Generator[None]:
    """Suppresses the libraries' log output and, unless `keep_bars`, progress bars; errors are still raised."""
    libraries: list[Any] = [diffusers_logging, transformers_logging]
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        if not keep_bars:
            library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Deprecation warnings of the libraries' own interfaces, and peft's warning about a second adapter.
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of an error's message: libraries write whole paragraphs."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
