"""Sources as `attach` takes them: rows of the list of prompts, photos, or subjects."""

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

from PIL import Image

from samecast.attention.rule import Rules
from samecast.engine.given import one_or_more
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.subject import Subject, several_subjects

Photo = str | Path | Image.Image
Sources = int | Photo | Subject | Sequence[int | Photo] | Sequence[Subject]


def subjects_in(sources: Sources | None) -> tuple[Subject, ...]:
    """The subjects among sources, if these are subjects.

    Raises:
        SamecastError: some are subjects and others are not, or names are missing or there twice.
    """
    several = one_or_more(sources, Subject, Integral, str, Path, Image.Image) if sources is not None else ()
    if not any(isinstance(source, Subject) for source in several):
        return ()
    return several_subjects(several)


def part_sources(sources: Sources | None, rules: Rules) -> tuple[tuple[int, ...], tuple[Image.Image, ...]]:
    """Sources as rows of the list of prompts, and as photos, opened.

    Raises:
        SamecastError: they are both, or rules read none, or there are none to read, or a photo cannot be opened.
    """
    reading = any(rule.reads_source for rule in rules)
    if sources is None:
        return ((0,) if reading else ()), ()
    several = one_or_more(sources, Integral, str, Path, Image.Image)
    rows = tuple(int(source) for source in several if isinstance(source, Integral))
    photos = tuple(
        source if isinstance(source, Image.Image) else open_photo(source)
        for source in several
        if not isinstance(source, Integral)
    )
    if rows and photos:
        raise SamecastError("sources must be rows of the batch or photos, not both")
    if reading != bool(several):
        data = "these rules read a source: name one" if reading else "no rule reads a source: leave out sources"
        raise SamecastError(data)
    return rows, photos
