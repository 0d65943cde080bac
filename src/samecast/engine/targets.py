"""Prompts to targets: who is to be rendered, and from which noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from samecast.core.batch import Branch
from samecast.core.prompts import check_prompts
from samecast.core.settings import RenderSettings
from samecast.engine.cast import Member, fill_in
from samecast.errors import SamecastError

_Member = TypeVar("_Member")


@dataclass(frozen=True)
class Target:
    """One picture to make.

    Args:
        branch: its place in the run.
        prompt: as the user gave it.
        seed: of its noise.
    """

    branch: Branch
    prompt: str
    seed: int


def make_targets(
    prompts: Sequence[str], settings: RenderSettings, *, noun: str, members: Sequence[Member] = (), shift: int = 0
) -> tuple[Target, ...]:
    """All pictures, prompt by prompt.

    Every prompt's n-th picture has the same seed, so that neither order nor number of the prompts changes a picture;
    unless the settings give each picture a seed of its own.

    Args:
        prompts: one scene each.
        settings: how many pictures of each, and what they should not show.
        noun: what `{noun}` stands for.
        members: the named subjects, which `{name}` stands for.
        shift: added to every seed.

    Raises:
        SamecastError: no prompt, one that is empty or no text, `{noun}` without a noun, a name without a
            subject, or seeds for other pictures.
    """
    if isinstance(prompts, str):
        raise SamecastError(f"prompts must be a list of texts; got the one text {prompts[:40]!r}")
    if not prompts:
        raise SamecastError("at least one prompt is needed; got none")
    check_prompts(prompts)
    negative = fill_in(settings.negative_prompt, noun, members).text
    wanted = [prompt for prompt in prompts for _ in range(settings.num_images_per_prompt)]
    seeds = settings.seeds(len(prompts))
    filled = [fill_in(prompt, noun, members) for prompt in wanted]
    return tuple(
        Target(Branch("target", index, of.text, negative, named=of.named), prompt, seed + shift)
        for index, (of, prompt, seed) in enumerate(zip(filled, wanted, seeds, strict=True))
    )


def expand(text: str, noun: str) -> str:
    """The text with `{noun}` filled in.

    Raises:
        SamecastError: it asks for a noun and there is none.
    """
    return fill_in(text, noun).text


def split_evenly(members: Sequence[_Member], largest: int) -> list[tuple[_Member, ...]]:
    """Consecutive chunks, as few as `largest` allows and as equal as can be: a small last call wastes its overhead."""
    if not members:
        return []
    count = math.ceil(len(members) / largest)
    size = math.ceil(len(members) / count)
    return [tuple(members[at : at + size]) for at in range(0, len(members), size)]
