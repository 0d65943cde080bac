"""`samecast ui`: the page in the browser."""

from importlib import import_module

from samecast.cli.options.ui import UiOptions


def run_ui(options: UiOptions) -> None:
    """Serve the page until it is interrupted.

    Raises:
        SamecastError: the extra is not installed, the folder cannot be written, or the port is taken.
    """
    # By name, for the page stands above the command line, whose options are its forms.
    import_module("samecast.ui.server").serve(options)
