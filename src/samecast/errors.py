"""The one exception a user's mistake raises, and the one warning of what has no effect.

Its message is a single line: what was expected, what came, and what to do. The command line prints it and exits with 2;
the library raises it. Anything else that escapes is a bug of ours.
"""


class SamecastError(ValueError):
    """A mistake in what the caller gave (a path, a prompt, a setting), told in one line."""


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
    """What was asked for had no effect, told in one line."""
