"""Keeping the libraries' voices down: what they say while loading, and what they say when they fail."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet_libraries(*, keep_bars: bool = False) -> Generator[None]:
    """Holds back the libraries' own chatter and, unless they are to be kept, bars; failures still raise."""
    libraries: list[Any] = [diffusers_logging, transformers_logging]
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        if not keep_bars:
            library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Their remarks on their own interfaces, and on a second adapter beside a first.
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error says, in one line: libraries write whole paragraphs."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
