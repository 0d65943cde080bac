"""Where: the attention layers of a denoiser, addressed by name, stage or execution index.

Indices count in execution order (down, mid, up), as MasaCtrl counts them: Stable Diffusion 1.x has self-attention sites
0-5 in the encoder, 6 in the middle and 7-15 in the decoder. (diffusers lists its processors down, up, mid.)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from samecast.errors import SamecastError

Stage = Literal["down", "mid", "up"]
_STAGE_WORDS: dict[str, tuple[Stage, ...]] = {
    "encoder": ("down",),
    "mid": ("mid",),
    "decoder": ("up",),
    "all": ("down", "mid", "up"),
}
_TERM = re.compile(r"(?:(?P<stage>down|mid|up)\.)?(?P<first>\d+)(?:-(?P<last>\d+))?")


@dataclass(frozen=True)
class Site:
    """One attention layer of the denoiser.

    Args:
        name: stage and position within the stage, like `up.3`.
        index: position in execution order over all sites of its kind.
        kind: `self`: its keys and values come from the image's own tokens.
        stage: `down` (encoder), `mid` or `up` (decoder).
        resolution: side in tokens on the model's default image size.
    """

    name: str
    index: int
    kind: Literal["self"]
    stage: Stage
    resolution: int


def describe_sites(sites: Sequence[Site]) -> str:
    """The choices in one line: `down.0-5 (0-5), mid.0 (6), up.0-8 (7-15)`."""

    def span(first: int, last: int) -> str:
        return f"{first}-{last}" if last > first else str(first)

    parts: list[str] = []
    for stage, members in groupby(sites, key=lambda site: site.stage):
        group = list(members)
        parts.append(f"{stage}.{span(0, len(group) - 1)} ({span(group[0].index, group[-1].index)})")
    return ", ".join(parts)


def select_sites(selector: str, sites: Sequence[Site]) -> tuple[Site, ...]:
    """The sites that a selector names, in execution order.

    Args:
        selector: terms joined by commas, whose union is taken. A term is a stage (`encoder`, `mid`, `decoder`, `all`),
            an execution index or range (`7`, `10-15`), or a name or range of names (`up.8`, `up.3-8`).
        sites: all the sites of the model, in execution order.

    Raises:
        SamecastError: a term is malformed or names a site that this model has not; the message lists the choices.
    """
    chosen: set[Site] = set()
    for term in selector.split(","):
        chosen |= _select_term(term.strip(), sites)
    return tuple(site for site in sites if site in chosen)


def _select_term(term: str, sites: Sequence[Site]) -> set[Site]:
    if term in _STAGE_WORDS:
        found = {site for site in sites if site.stage in _STAGE_WORDS[term]}
        wanted = max(1, len(found))
    else:
        match = _TERM.fullmatch(term)
        if match is None:
            raise SamecastError(
                f"sites {term!r} is not a selector;"
                " use encoder, mid, decoder, all, indices like 10-15 or names like up.8"
            )
        first, last = int(match["first"]), int(match["last"] or match["first"])
        if last < first:
            raise SamecastError(f"sites {term!r} runs backwards; write {last}-{first}")
        members = [site for site in sites if match["stage"] in (None, site.stage)]
        found = set(members[first : last + 1])
        wanted = last - first + 1
    if len(found) < wanted:
        verb = "match nothing" if not found else "go beyond the last site"
        raise SamecastError(f"sites {term!r} {verb}; this model has {describe_sites(sites)}")
    return found
