"""Regularisation captions for merging: everyday sentences for whose text features the weights should not change.

The paper uses a thousand captions of photos. These combine a subject, an action and a place, in a fixed order; a file
with one caption per line replaces them.
"""

from itertools import product
from pathlib import Path

from samecast.errors import SamecastError

_SUBJECTS = (
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
_PLACES = (
    *("on the beach", "in the snow", "in a forest", "on a busy street", "in front of a mountain", "in a kitchen"),
    *("at night", "next to a river", "on a table", "in the garden", "under a blue sky", "in a large room"),
    *("on green grass", "in the rain", "near a window", "on a wooden floor", "in a museum", "at sunset"),
    *("behind a fence", "in the desert"),
)
_TEMPLATES = ("a photo of {} {}", "{} {}, seen from above")


def default_captions() -> tuple[str, ...]:
    """A thousand captions."""
    return tuple(
        template.format(subject, place) for template, subject, place in product(_TEMPLATES, _SUBJECTS, _PLACES)
    )


def read_captions(path: Path) -> tuple[str, ...]:
    """The non-empty lines of a text file.

    Raises:
        SamecastError: the file cannot be read or has no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SamecastError(f"captions {path} cannot be read: {error}") from None
    captions = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not captions:
        raise SamecastError(f"captions {path} has no line of text; expected one caption per line")
    return captions
