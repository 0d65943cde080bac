"""The exception for user errors, and the warning for settings without effect.

A message is a single line: what was expected, what was given, and what to do. The library raises it; the command line
prints it and exits with 2. Any other exception is a bug.
"""


class SamecastError(ValueError):
    """An invalid input (a path, a prompt, a setting), described in one line."""


def lacking(extra: str, error: ImportError) -> SamecastError:
    """The error that says which extra to install.

    Args:
        extra: of this package, that brings what could not be imported.
        error: what the import raised.
    """
    library = (error.name or "a library").partition(".")[0]
    reason = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported ({error})"
    return SamecastError(" ".join(f"{library} {reason}: pip install 'samecast[{extra}]'".split()))


class SamecastWarning(UserWarning):
    """A setting without effect, described in one line."""
