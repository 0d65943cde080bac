"""Masks found by looking: cross-attention maps over steps, for sources before the run, for targets during it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from samecast.attention.modes.base import Masks as MasksFrom
from samecast.backbones.base import Backbone
from samecast.control.plan import Masks
from samecast.control.rule import Rules
from samecast.control.run import Advance, Run
from samecast.control.source import Trajectory
from samecast.control.targets import split_evenly
from samecast.core.branches import Branch, Branches, name_of
from samecast.core.maps import combine_maps, normalise, threshold_of
from samecast.core.masks import Blank, Grid, SubjectMask
from samecast.core.sites import Site, select_sites
from samecast.core.steps import Timeline
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError


@dataclass(frozen=True)
class Look:
    """What a rule wants to see, resolved to one model and run.

    Args:
        tokens: as the rule says it.
        phrase: the words.
        sites: indices of the cross-attention sites.
        steps: at which maps are taken.
    """

    tokens: SubjectTokens
    phrase: str
    sites: frozenset[int]
    steps: frozenset[int]


Blanks = Mapping[tuple[MasksFrom, Branch], Mapping[Grid, Blank]]
"""For each mask, the grids of tokens at which it separated nothing, and what it was there."""


def tell_blanks(blanks: Blanks) -> list[str]:
    """One line for all empty masks and one for all full ones."""
    found: list[str] = []
    for kind, consequence in (("empty", "nothing counts as the subject"), ("full", "everything counts as the subject")):
        named = {name_of(branch) for (_, branch), sides in blanks.items() if kind in sides.values()}
        places = {grid for sides in blanks.values() for grid, what in sides.items() if what == kind}
        if named:
            sizes = " and ".join(f"{width} x {height}" for height, width in sorted(places))
            found.append(
                f"the mask of {', '.join(sorted(named))} is {kind} at {sizes} tokens, where {consequence};"
                " try another mask, threshold or finer sites"
            )
    return found


class MapBook:
    """The maps gathered so far, and the masks they come to.

    Args:
        looks: what is wanted.
        backbone: which finds words in prompts.
    """

    def __init__(self, looks: Sequence[Look], backbone: Backbone) -> None:
        self.looks = tuple(looks)
        self._backbone = backbone
        self._sums: dict[tuple[SubjectTokens, Branch], Tensor] = {}
        self._masks: dict[tuple[SubjectTokens, Branch], SubjectMask] = {}
        self._blank: dict[tuple[SubjectTokens, Branch], dict[Grid, Blank]] = {}
        self._seen: set[tuple[int, Branch]] = set()

    def wanted_at(self, step: int) -> bool:
        """Whether maps are taken at a step."""
        return any(step in look.steps for look in self.looks)

    def has(self, step: int, branch: Branch) -> bool:
        """Whether the maps of a branch at a step are in it."""
        return (step, branch) in self._seen

    def add(self, step: int, branch: Branch, text: str, maps: Mapping[int, Float[Tensor, "_ text"]]) -> None:
        """Takes the maps, by site, of one branch at a step; once, however often that is evaluated.

        Args:
            step: at which they were made.
            branch: whose picture they are of.
            text: the prompt they were made under.
            maps: of each site.
        """
        if self.has(step, branch):
            return
        self._seen.add((step, branch))
        for look in self.looks:
            if step in look.steps:
                columns = self._backbone.find_words(text, look.phrase)
                seen = combine_maps([maps[site].cpu() for site in sorted(look.sites)], columns)
                before = self._sums.get((look.tokens, branch))
                self._sums[look.tokens, branch] = seen if before is None else before + seen
                outdated = self._masks.pop((look.tokens, branch), None)
                if outdated is not None:
                    self._blank.setdefault((look.tokens, branch), {}).update(outdated.blank)

    def masks(self) -> Masks:
        """The masks of all branches that were looked at.

        Raises:
            SamecastError: a map is constant.
        """
        for (tokens, branch), total in self._sums.items():
            if (tokens, branch) not in self._masks:
                values = normalise(total, name_of(branch))
                self._masks[tokens, branch] = SubjectMask(values, threshold_of(values, tokens.threshold))
        return {(tokens, branch): mask for (tokens, branch), mask in self._masks.items()}

    @property
    def sums(self) -> dict[tuple[SubjectTokens, Branch], Tensor]:
        """The maps added up so far; with `restore`, all that it takes to go on elsewhere."""
        return dict(self._sums)

    def restore(self, sums: Mapping[tuple[SubjectTokens, Branch], Tensor]) -> None:
        """Goes on from maps that were added up elsewhere."""
        self._sums, self._masks = dict(sums), {}

    def fork(self, looks: Sequence[Look] | None = None) -> "MapBook":
        """A book that goes on from this one by itself, with all or some of its looks."""
        looks = self.looks if looks is None else looks
        book = MapBook(looks, self._backbone)
        kept = {look.tokens for look in looks}
        book.restore({key: total for key, total in self._sums.items() if key[0] in kept})
        return book

    def blank(self) -> Blanks:
        """Where, at any step so far, a mask that was used told nothing apart."""
        return {
            (tokens, branch): {**self._blank.get((tokens, branch), {}), **mask.blank}
            for (tokens, branch), mask in self._masks.items()
        }


def make_looks(rules: Rules, sites: Sequence[Site], schedule: Timeline, noun: str) -> tuple[Look, ...]:
    """What rules want to see.

    Args:
        rules: of the run.
        sites: the model's cross-attention sites.
        schedule: of the run.
        noun: the words where a rule names none.

    Raises:
        SamecastError: there are no words, no sites or no steps, or a target's mask is read before its first map.
    """
    looks: list[Look] = []
    for rule in rules:
        if not isinstance(rule.tokens, SubjectTokens):
            continue
        look = make_look(rule.tokens, sites, schedule, noun)
        first = min(rule.steps.select(schedule.steps))
        if rule.masks_targets and min(look.steps) >= first:
            raise SamecastError(
                f"a rule reads masks of the pictures at step {first}, before there is a map of them"
                f" (maps from step {min(look.steps)}): let it start later"
            )
        looks.append(look)
    return tuple(dict.fromkeys(looks))


def make_look(tokens: SubjectTokens, sites: Sequence[Site], schedule: Timeline, noun: str) -> Look:
    """What is to be seen, on one model and run.

    Args:
        tokens: as it was asked for.
        sites: the model's cross-attention sites.
        schedule: of the run.
        noun: the words where `tokens` names none.

    Raises:
        SamecastError: there are no words, no sites or no steps.
    """
    phrase = tokens.phrase.replace("{noun}", noun) or noun
    if not phrase:
        raise SamecastError("masks from maps need a word to look for: give the subject a class_noun, or a phrase")
    steps = frozenset(step for step in tokens.steps.select(schedule.steps) if not schedule.is_identity(step))
    if not steps:
        raise SamecastError(f"maps are asked for at {tokens.steps} alone, which changes nothing under this schedule")
    chosen = select_sites(tokens.selector(sites), sites)
    return Look(tokens, phrase, frozenset(site.index for site in chosen), steps)


def watch_caption(noun: str, looks: Sequence[Look]) -> str:
    """What is said of a photo without a caption, so that there are words to look for."""
    return f"a photo of a {noun or ' '.join(look.phrase for look in looks[:1])}"


def look_at_sources(
    run: Run,
    book: MapBook,
    trajectory: Trajectory,
    caption: str,
    *,
    rows: int,
    advance: Advance | None = None,
) -> int:
    """Takes the sources' maps where the book has none yet, by rows captioned with the words, which do nothing else.

    With an empty prompt a source has no word to look for; the rows run beside its own and are counted apart. With a
    caption its own evaluations show it already, save at steps that inversion does not evaluate, such as the first.

    Args:
        run: the render's fixed parts.
        book: what is wanted, and what is there.
        trajectory: the sources'.
        caption: which has the words.
        rows: most in one call of the denoiser.
        advance: called after each step.

    Returns:
        How many rows that took.
    """
    taken = 0
    for step in sorted({step for look in book.looks for step in look.steps}):
        lacking = [source for source in trajectory.sources if not book.has(step, source)]
        for chunk in split_evenly(lacking, rows):
            maps: dict[int, Tensor] = {}
            watched = tuple(Branch("source", source.index, caption) for source in chunk)
            latents = trajectory.latents[step][[trajectory.sources.index(source) for source in chunk]]
            run.evaluate(
                Branches((), watched, 1.0).layout(),
                dict(zip(watched, latents, strict=True)),
                run.schedule.timesteps[step],
                map_rows=range(len(watched)),
                maps=maps,
            )
            taken += len(watched)
            for row, source in enumerate(chunk):
                book.add(step, source, caption, {site: values[row] for site, values in maps.items()})
        if advance is not None:
            advance()
    return taken
