"""Single values: what a text may hold, and how any value is quoted in a message."""

from samecast.errors import SamecastError

MOST_CHARACTERS = 100_000
_MOST_SHOWN = 80


def check_text(value: object, name: str) -> str:
    """A text that can be encoded, written down and printed.

    Args:
        value: to check.
        name: what it is, for the message.

    Raises:
        SamecastError: it is no text, holds bytes that are not UTF-8 or half of a surrogate pair, or is endless.
    """
    if not isinstance(value, str):
        raise SamecastError(f"{name} must be text; got {shown(value)}")
    reason = text_fault(value)
    if reason:
        raise SamecastError(f"{name} {reason}: {shown(value)}")
    return value


def text_fault(text: str) -> str:
    """What is wrong with a text; empty where nothing is."""
    if len(text) > MOST_CHARACTERS:
        return f"has {len(text):,} characters; {MOST_CHARACTERS:,} are the most"
    if "\0" in text:
        return "holds a null character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "is not UTF-8 text"
    return ""


def as_text(path: object) -> str:
    """A path as text that can be written down; bytes of it that are no text become escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def shown(value: object) -> str:
    """A value as a message quotes it: one line of 80 characters at most, whatever the value is."""
    try:
        text = repr(value[: _MOST_SHOWN + 1] if isinstance(value, str | bytes) else value)
    except Exception:  # integers of more than 4,300 digits, endless nesting, and whatever a __repr__ may raise
        text = f"a {type(value).__name__} that is too large to show"
    text = one_line(text)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def one_line(error: object) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
