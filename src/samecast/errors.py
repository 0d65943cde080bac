"""The exception for user errors, and the warning for settings without effect.

A message is a single line: what was expected, what was given, and what to do. The library raises it; the command line
prints it and exits with 2. Any other exception is a bug.
"""


class SamecastError(ValueError):
    """An invalid input (a path, a prompt, a setting), described in one line."""


class SamecastWarning(UserWarning):
    """A setting without effect, described in one line."""
