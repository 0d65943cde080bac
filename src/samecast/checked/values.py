"""Single values: validation of text, and quoting of values in messages."""

from samecast.errors import SamecastError

MOST_CHARACTERS = 100_000
_MOST_SHOWN = 80


def check_text(value: object, name: str) -> str:
    """Returns a text if it can be encoded, written and printed.

    Args:
        value: the value to check.
        name: its name in the message.

    Raises:
        SamecastError: it is not text, holds bytes that are not UTF-8, a lone surrogate or a null character, or is too
            long.
    """
    if not isinstance(value, str):
        raise SamecastError(f"{name} must be text; got {shown(value)}")
    reason = text_fault(value)
    if reason:
        raise SamecastError(f"{name} {reason}: {shown(value)}")
    return value


def text_fault(text: str) -> str:
    """The fault of a text, in words; empty for none."""
    if len(text) > MOST_CHARACTERS:
        return f"has {len(text):,} characters; at most {MOST_CHARACTERS:,} are allowed"
    if "\0" in text:
        return "holds a null character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "is not UTF-8 text"
    return ""


def as_text(path: object) -> str:
    """A path as text that can be written; undecodable bytes become escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def shown(value: object) -> str:
    """A value quoted for a message, in one line of at most 80 characters."""
    try:
        text = repr(value[: _MOST_SHOWN + 1] if isinstance(value, str | bytes) else value)
    except Exception:  # integers of more than 4,300 digits, deep nesting, and any error of a __repr__
        text = f"a {type(value).__name__} that is too large to show"
    text = one_line(text)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def one_line(error: object) -> str:
    """An error's message on one line; its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
