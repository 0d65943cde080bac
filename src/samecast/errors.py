"""The one exception a user's mistake raises, and the one warning of what has no effect.

Its message is a single line: what was expected, what came, and what to do. The command line prints it and exits with 2;
the library raises it. Anything else that escapes is a bug of ours.
"""


class SamecastError(ValueError):
    """A mistake in what the caller gave (a path, a prompt, a setting), told in one line."""


class SamecastWarning(UserWarning):
    """What was asked for had no effect, told in one line."""
