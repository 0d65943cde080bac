"""`samecast ui`: the page in the browser."""

import gc
from importlib import import_module

from samecast.cli.options.ui import UiOptions


def run_ui(options: UiOptions) -> None:
    """Serve the page until it is interrupted.

    Raises:
        SamecastError: the extra is not installed, the folder cannot be written, or the port is taken.
    """
    gc.disable()  # importing Gradio makes a million objects that stay: a quarter of its time is looking through them
    try:
        # By name, for the page stands above the command line, whose options are its forms.
        server = import_module("samecast.ui.server")
    finally:
        gc.enable()
    server.serve(options)
