"""Masks found by looking: cross-attention maps over steps, for sources before the run, for targets during it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from samecast.attention.modes.base import of_subject
from samecast.attention.plan import Masks
from samecast.attention.rule import Rules
from samecast.core.batch import Branch, name_of
from samecast.core.layers import Layer, select_layers
from samecast.core.maps import combine_maps, normalise, threshold_of
from samecast.core.masks import Blank, Grid, SubjectMask
from samecast.core.steps import Timeline
from samecast.core.tokens import SubjectTokens
from samecast.engine.blanks import Blanks
from samecast.engine.cast import Member
from samecast.errors import SamecastError
from samecast.models.base import Backbone


@dataclass(frozen=True)
class MapSpec:
    """What a rule wants to see, resolved to one model and run.

    Args:
        tokens: as the rule says it.
        phrase: the words.
        layers: indices of the cross-attention layers.
        steps: at which maps are taken.
        subject: the name of the subject whose words these are; empty where it is looked for in every picture.
        in_photos: whether its photos are looked at too.
    """

    tokens: SubjectTokens
    phrase: str
    layers: frozenset[int]
    steps: frozenset[int]
    subject: str = ""
    in_photos: bool = True

    def is_for(self, branch: Branch) -> bool:
        """Whether a picture is looked at: one of its subject, or that names it."""
        if branch.role == "source":
            return self.in_photos and self.subject in ("", branch.subject)
        return not self.subject or self.subject in branch.shows

    def columns(self, backbone: Backbone, branch: Branch, text: str) -> tuple[int, ...]:
        """The tokens of its words in a text that a picture is made under.

        Raises:
            SamecastError: the words are not in it, or come after what the model reads.
        """
        offsets = [offset for name, offset in branch.named if name == self.subject]
        if branch.role == "source" or None in offsets or not offsets:
            return backbone.find_words(text, self.phrase)
        return tuple(column for at in offsets if at is not None for column in self._at(backbone, text, at))

    def _at(self, backbone: Backbone, text: str, offset: int) -> tuple[int, ...]:
        """The tokens of the one occurrence that begins at a character."""
        length = len(backbone.find_words(self.phrase, self.phrase))
        up_to = text[: offset + len(self.phrase)]
        number = len(backbone.find_words(up_to, self.phrase)) // length
        found = backbone.find_words(text, self.phrase)[(number - 1) * length : number * length]
        if not found:
            raise SamecastError(
                f"the words of {self.subject}, {self.phrase!r}, come after what the model reads of {text[:40]!r}"
            )
        return found


class AttentionStore:
    """The maps gathered so far, and the masks they come to.

    Args:
        map_specs: what is wanted.
        backbone: which finds words in prompts.
        aspect: width of the pictures over their height.
    """

    def __init__(self, map_specs: Sequence[MapSpec], backbone: Backbone, aspect: float = 1.0) -> None:
        self.map_specs = tuple(map_specs)
        self._backbone, self._aspect = backbone, aspect
        self._sums: dict[tuple[SubjectTokens, Branch], Tensor] = {}
        self._masks: dict[tuple[SubjectTokens, Branch], SubjectMask] = {}
        self._blank: dict[tuple[SubjectTokens, Branch], dict[Grid, Blank]] = {}
        self._seen: set[tuple[int, Branch]] = set()
        self._of_step: dict[tuple[SubjectTokens, Branch], dict[int, SubjectMask]] = {}
        self.evaluations = 0
        """Rows that `map_targets` took."""

    def wanted_at(self, step: int) -> bool:
        """Whether maps are taken at a step."""
        return any(step in map_spec.steps for map_spec in self.map_specs)

    def is_current_at(self, step: int) -> bool:
        """Whether maps of a step alone are wanted, before it is taken."""
        return any(map_spec.tokens.average == "step" and step in map_spec.steps for map_spec in self.map_specs)

    def has(self, step: int, branch: Branch) -> bool:
        """Whether the maps of a branch at a step are in it, or nothing is looked for in it."""
        return (step, branch) in self._seen or not any(map_spec.is_for(branch) for map_spec in self.map_specs)

    def add(self, step: int, branch: Branch, text: str, maps: Mapping[int, Float[Tensor, "_ text"]]) -> None:
        """Takes the maps, by layer, of one branch at a step; once, however often that is evaluated.

        Args:
            step: at which they were made.
            branch: whose picture they are of.
            text: the prompt they were made under.
            maps: of each layer.
        """
        if (step, branch) in self._seen:
            return
        self._seen.add((step, branch))
        for map_spec in self.map_specs:
            if step in map_spec.steps and map_spec.is_for(branch):
                columns = map_spec.columns(self._backbone, branch, text)
                seen = combine_maps([maps[layer].cpu() for layer in sorted(map_spec.layers)], columns, self._aspect)
                if map_spec.tokens.average == "step":
                    mask = _mask(seen, map_spec.tokens, branch)
                    self._of_step.setdefault((map_spec.tokens, branch), {})[step] = mask
                    continue
                before = self._sums.get((map_spec.tokens, branch))
                self._sums[map_spec.tokens, branch] = seen if before is None else before + seen
                outdated = self._masks.pop((map_spec.tokens, branch), None)
                if outdated is not None:
                    self._blank.setdefault((map_spec.tokens, branch), {}).update(outdated.blank)

    def masks(self, step: int | None = None) -> Masks:
        """The masks of all branches that were looked at.

        Args:
            step: the current one, for those of one step alone; None is the last at which each was taken.

        Raises:
            SamecastError: a map is constant.
        """
        for (tokens, branch), total in self._sums.items():
            if (tokens, branch) not in self._masks:
                self._masks[tokens, branch] = _mask(total, tokens, branch)
        current = {
            key: of_step[max(of_step) if step is None else step]
            for key, of_step in self._of_step.items()
            if step is None or step in of_step
        }
        return {(tokens, branch): mask for (tokens, branch), mask in (self._masks | current).items()}

    @property
    def sums(self) -> dict[tuple[SubjectTokens, Branch], Tensor]:
        """The maps added up so far; with `restore`, all that it takes to go on elsewhere."""
        return dict(self._sums)

    def restore(self, sums: Mapping[tuple[SubjectTokens, Branch], Tensor]) -> None:
        """Goes on from maps that were added up elsewhere."""
        self._sums, self._masks = dict(sums), {}

    def fork(self, map_specs: Sequence[MapSpec] | None = None) -> "AttentionStore":
        """A book that goes on from this one by itself, with all or some of its looks."""
        map_specs = self.map_specs if map_specs is None else map_specs
        store = AttentionStore(map_specs, self._backbone, self._aspect)
        kept = {map_spec.tokens for map_spec in map_specs}
        store.restore({key: total for key, total in self._sums.items() if key[0] in kept})
        return store

    def blank(self) -> Blanks:
        """Where, at any step so far, a mask that was used told nothing apart."""
        several = {(tokens, branch): [mask] for (tokens, branch), mask in self._masks.items()}
        several |= {(tokens, branch): list(of_step.values()) for (tokens, branch), of_step in self._of_step.items()}
        return {
            (tokens, branch): {
                **self._blank.get((tokens, branch), {}),
                **{grid: blank for mask in masks for grid, blank in mask.blank.items()},
            }
            for (tokens, branch), masks in several.items()
        }


def _mask(total: Tensor, tokens: SubjectTokens, branch: Branch) -> SubjectMask:
    values = normalise(total, name_of(branch))
    return SubjectMask(values, threshold_of(values, tokens.threshold))


def make_map_specs(
    rules: Rules, layers: Sequence[Layer], schedule: Timeline, noun: str, members: Sequence[Member] = ()
) -> tuple[MapSpec, ...]:
    """What rules want to see.

    Args:
        rules: of the run.
        layers: the model's cross-attention layers.
        schedule: of the run.
        noun: the words where a rule names none.
        members: the named subjects, for modes that tell them apart.

    Raises:
        SamecastError: there are no words, no layers or no steps, or a target's mask is read before its first map.
    """
    map_specs: list[MapSpec] = []
    for rule in rules:
        if not isinstance(rule.tokens, SubjectTokens):
            continue
        if rule.mode.by_subject and members:
            found = [_of_member(rule.tokens, each, layers, schedule) for each in members if each.is_sought]
        else:
            found = [make_map_spec(rule.tokens, layers, schedule, noun)]
        if rule.tokens.average == "step":
            acting = frozenset(step for step in rule.steps.select(schedule.steps) if not schedule.is_identity(step))
            map_specs += [replace(map_spec, steps=acting) for map_spec in found]
            continue
        first = min(rule.steps.select(schedule.steps))
        begin = min((step for map_spec in found for step in map_spec.steps), default=-1)
        if rule.masks_targets and begin >= first:
            raise SamecastError(
                f"a rule reads masks of the pictures at step {first}, before there is a map of them"
                f" (maps from step {begin}): let it start later"
            )
        map_specs += found
    return tuple(dict.fromkeys(map_specs))


def _of_member(tokens: SubjectTokens, member: Member, layers: Sequence[Layer], schedule: Timeline) -> MapSpec:
    """What is to be seen of one of several subjects: its own words."""
    if tokens.phrase:
        raise SamecastError(
            f"each named subject is looked for by its own words: leave out the phrase {tokens.phrase!r}"
        )
    spec = make_map_spec(tokens, layers, schedule, member.words)
    in_photos = not member.masked_photos
    return replace(spec, tokens=of_subject(tokens, member.name), subject=member.name, in_photos=in_photos)


def make_map_spec(tokens: SubjectTokens, layers: Sequence[Layer], schedule: Timeline, noun: str) -> MapSpec:
    """What is to be seen, on one model and run.

    Args:
        tokens: as it was asked for.
        layers: the model's cross-attention layers.
        schedule: of the run.
        noun: the words where `tokens` names none.

    Raises:
        SamecastError: there are no words, no layers or no steps.
    """
    phrase = tokens.phrase.replace("{noun}", noun) or noun
    if not phrase:
        raise SamecastError("masks from maps need a word to look for: give the subject a class_noun, or a phrase")
    steps = frozenset(step for step in tokens.steps.select(schedule.steps) if not schedule.is_identity(step))
    if not steps:
        raise SamecastError(f"maps are asked for at {tokens.steps} alone, which changes nothing under this schedule")
    chosen = select_layers(tokens.selector(layers), layers)
    return MapSpec(tokens, phrase, frozenset(layer.index for layer in chosen), steps)


def map_caption(noun: str, map_specs: Sequence[MapSpec]) -> str:
    """What is said of a photo without a caption, so that there are words to look for."""
    return f"a photo of a {noun or ' '.join(map_spec.phrase for map_spec in map_specs[:1])}"


def check_averages(rules: Rules, place: str) -> None:
    """Refuses maps of the current step alone where no evaluation can be added before a step.

    Raises:
        SamecastError: a rule asks for them.
    """
    if any(isinstance(rule.tokens, SubjectTokens) and rule.tokens.average == "step" for rule in rules):
        raise SamecastError(f"{place} cannot take maps of the current step alone (map average 'step'): use 'steps'")
