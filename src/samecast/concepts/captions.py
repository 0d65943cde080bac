"""Regularisation captions for merging: everyday sentences whose text features say where weights shall stay as they are.

The paper takes a thousand captions of photos. These are made of a subject, what it does and a place, and are the same
every time; own captions, one to a line, do as well.
"""

from itertools import product
from pathlib import Path

from samecast.errors import SamecastError

_WHO = (
    *("a man", "a woman", "two children", "a dog", "a black cat", "a brown horse", "some birds", "a red car", "a boat"),
    *(
        "an old house",
        "a wooden chair",
        "a bowl of fruit",
        "a bunch of flowers",
        "a teddy bear",
        "a bicycle",
        "a train",
    ),
    *(
        "a slice of pizza",
        "a clock",
        "a guitar",
        "a pair of shoes",
        "a small plane",
        "a laptop",
        "a sofa",
        "a tall tree",
    ),
    *("a group of people",),
)
_WHERE = (
    *("on the beach", "in the snow", "in a forest", "on a busy street", "in front of a mountain", "in a kitchen"),
    *("at night", "next to a river", "on a table", "in the garden", "under a blue sky", "in a large room"),
    *("on green grass", "in the rain", "near a window", "on a wooden floor", "in a museum", "at sunset"),
    *("behind a fence", "in the desert"),
)
_HOW = ("a photo of {} {}", "{} {}, seen from above")


def default_captions() -> tuple[str, ...]:
    """A thousand captions."""
    return tuple(how.format(who, where) for how, who, where in product(_HOW, _WHO, _WHERE))


def read_captions(path: Path) -> tuple[str, ...]:
    """The lines of a text file, without those that are empty.

    Raises:
        SamecastError: it cannot be read, or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SamecastError(f"captions {path} cannot be read: {error}") from None
    captions = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not captions:
        raise SamecastError(f"captions {path} has no line of text; expected one caption to a line")
    return captions
