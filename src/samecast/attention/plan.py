"""What rules mean on one model and one run: at each step and layer, who reads whom, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from zlib import crc32

from samecast.attention.modes import Reader
from samecast.attention.modes.base import Masks as MasksFrom
from samecast.attention.modes.base import Part, given_for, of_subject
from samecast.attention.route import Route, make_route
from samecast.attention.rule import DECODER_LAYERS, Rule, Rules
from samecast.core.batch import Branch, Branches, Group, Layout, Place
from samecast.core.layers import Layer, describe_layers, select_layers
from samecast.core.masks import SubjectMask
from samecast.core.steps import Timeline
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError

Masks = Mapping[tuple[MasksFrom, Branch], SubjectMask]
"""The masks at hand, by where they come from and whose picture they are of."""


@dataclass(frozen=True)
class Plan:
    """Rules resolved to the layers and steps of one model and run.

    Args:
        acting: for each controlled step, for each controlled layer's index, the rules that act there.
    """

    acting: Mapping[int, Mapping[int, Rules]] = field(default_factory=dict[int, Mapping[int, Rules]])

    @cached_property
    def masks_sources(self) -> bool:
        """Whether any rule asks where the subject is in the sources."""
        return any(rule.masks_sources for step in self.acting for rule in self.rules_at(step))

    def rules_at(self, step: int) -> frozenset[Rule]:
        """All rules that act anywhere at a step."""
        return frozenset(rule for rules in self.acting.get(step, {}).values() for rule in rules)

    def source_layers_at(self, step: int) -> frozenset[int]:
        """Indices of the layers at which somebody reads a source at a step."""
        at_step = self.acting.get(step, {}).items()
        return frozenset(layer for layer, rules in at_step if any(rule.reads_source for rule in rules))

    def kept_parts_at(self, step: int) -> Mapping[int, frozenset[Part]]:
        """What has to be kept of a source at a step, by layer index: what the modes there read of it."""
        found: dict[int, frozenset[Part]] = {}
        for layer, rules in self.acting.get(step, {}).items():
            reading = [rule.mode for rule in rules if rule.reads_source]
            if reading:
                found[layer] = frozenset[Part](("key", "value")).union(*(mode.reads_besides for mode in reading))
        return found

    def merges_at(self, step: int) -> bool:
        """Whether a target of the one source's latent and text computes just what the source does.

        So it is while it reads nothing but the source and itself, and simply reads.
        """
        return not any(rule.reads_targets or not rule.mode.is_plain for rule in self.rules_at(step))

    def routes(
        self, step: int, branches: Branches, layout: Layout, kept: Mapping[Place, int], masks: Masks | None = None
    ) -> dict[int, Route]:
        """The route at each controlled layer of a step.

        Args:
            branches: who is in the run.
            layout: the batch of this step.
            kept: for each source place that was evaluated earlier, its row among the kept rows.
            masks: of the branches, where rules ask for masks.
        """
        routes: dict[int, Route] = {}
        for layer, rules in self.acting.get(step, {}).items():
            reads: dict[Place, Sequence[Place]] = {}
            readers: dict[Place, Reader] = {}
            for target in branches.targets:
                applying = [rule for rule in rules if rule.acts_on(target.index)]
                if not applying:
                    continue
                read = _branches_read(applying, target, branches)
                if applying[0].mode.by_subject:
                    reader = _cast_reader(applying, target, read, masks or {})
                else:
                    reader = _reader(applying[0], target, read, masks or {}, (step, layer))
                for group in branches.groups:
                    reads[Place(target, group)] = _places(read, group)
                    if reader is not None:
                        readers[Place(target, group)] = reader
            route = make_route(layout, kept, reads, readers)
            if not route.is_plain:
                routes[layer] = route
        return routes


def _branches_read(rules: Sequence[Rule], target: Branch, branches: Branches) -> list[Branch]:
    """Whom a target reads: the sources, then other targets, then itself; each once."""
    named = {source for rule in rules for source in rule.sources}
    sources = [source for source in branches.sources if any(rule.reads(source.subject) for rule in rules)]
    if rules[0].mode.by_subject:
        shown = _shown(target, branches.sources)
        return [*(source for source in sources if source.subject in shown), target]
    others = [other for other in branches.targets if other != target and ("targets" in named or other.index in named)]
    own = {"self", "targets", target.index} & named
    return [*sources, *others, *([target] if own else ())]


def _places(branches: Sequence[Branch], group: Group) -> list[Place]:
    return [Place(branch, group) for branch in branches]


def _reader(rule: Rule, target: Branch, read: Sequence[Branch], masks: Masks, at: tuple[int, int]) -> Reader | None:
    """How a target reads; None where it simply does."""
    mode = rule.mode
    if mode.is_plain:
        return None
    step, layer = at
    # Of what is read, a mode that does not mask the reader's own picture takes that whole.
    masked = [branch for branch in read if mode.masks_sources and (mode.masks_readers or branch != target)]
    return Reader(
        mode,
        tuple(branch == target for branch in read),
        masks[rule.tokens, target] if mode.masks_readers else None,
        tuple(masks[rule.tokens, branch] if branch in masked else None for branch in read),
        # By what is read, not by its position: permuting the prompts permutes the pictures.
        tuple(crc32(f"{step} {layer} {branch.role} {_name(branch, read)}".encode()) for branch in read),
    )


def _shown(target: Branch, sources: Sequence[Branch]) -> tuple[str, ...]:
    """The subjects in a target's picture; where subjects have no names, the one without a name."""
    return target.shows if any(source.subject for source in sources) else ("",)


def _cast_reader(rules: Sequence[Rule], target: Branch, read: Sequence[Branch], masks: Masks) -> Reader | None:
    """How a target reads whose mode tells subjects apart; None where it shows none of those that are read.

    All subjects in its picture compete for it, also those that nothing reads at this layer and step.
    """
    tokens, sources = rules[0].tokens, read[:-1]
    if not sources:
        return None
    shown = _shown(target, sources)

    def mask(name: str, branch: Branch) -> SubjectMask | None:
        found = masks.get((given_for(name if branch == target else ""), branch))
        look = of_subject(tokens, name) if isinstance(tokens, SubjectTokens) else tokens
        return found if found is not None else masks.get((look, branch))

    regions = {name: region for name in shown if (region := mask(name, target)) is not None}
    numbers = {name: number for number, name in enumerate(regions)}
    return Reader(
        rules[0].mode,
        (*(False for _ in sources), True),
        masks=(*(mask(source.subject, source) for source in sources), None),
        regions=tuple(regions.values()),
        region_of=(*(numbers[source.subject] for source in sources), -1),
        beside=(
            *(any("self" in rule.sources for rule in rules if rule.reads(each.subject)) for each in sources),
            False,
        ),
    )


def _name(branch: Branch, among: Sequence[Branch]) -> str:
    """A target by its text, and which of those with the same it is; a source by its number."""
    if branch.role != "target":
        return str(branch.index)
    alike = sorted((other.image, other.index) for other in among if other.prompt == branch.prompt)
    return f"{branch.prompt} {alike.index((branch.image, branch.index))}"


def make_plan(rules: Rules, layers: Sequence[Layer], schedule: Timeline, targets: int) -> Plan:
    """Resolves rules, and refuses those that would do nothing.

    Raises:
        SamecastError: a rule selects no layer, no step, only identity steps, or a missing target; or two rules would
            treat one target differently at one layer and step.
    """
    acting: dict[int, dict[int, Rules]] = {}
    for rule in rules:
        _check_targets(rule, targets)
        steps = [step for step in rule.steps.select(schedule.steps) if not schedule.is_identity(step)]
        if not steps:
            raise SamecastError(f"{rule.steps} selects only steps that change nothing under this model's schedule")
        selected = select_rule_layers(rule, layers)
        for step in steps:
            at_step = acting.setdefault(step, {})
            for layer in selected:
                at_step[layer.index] = (*at_step.get(layer.index, ()), rule)
    for step, at_step in acting.items():
        for rules_at in dict.fromkeys(at_step.values()):
            _check_modes(rules_at, step, targets)
    return Plan(acting)


def select_rule_layers(rule: Rule, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers of a rule.

    Raises:
        SamecastError: they are not there; or they are MasaCtrl's numbers of late decoder layers, which are the default,
            on a model whose layers of these numbers are not in a decoder.
    """
    decoder = [layer for layer in layers if layer.stage == "up"]
    if rule.layers == DECODER_LAYERS and not decoder:
        sets = [name for layer in layers for name in layer.sets]
        raise SamecastError(
            f"layers {DECODER_LAYERS}, the default, are late decoder layers of a U-Net; this model has"
            f" {describe_layers(layers)}: give layers, such as {next(iter(sets), 'all')}"
        )
    selected = select_layers(rule.layers, layers)
    if rule.layers == DECODER_LAYERS and not any(layer.stage == "up" for layer in selected):
        finest = [layer.index for layer in decoder if layer.resolution == max(layer.resolution for layer in decoder)]
        raise SamecastError(
            f"layers {DECODER_LAYERS} are late decoder layers in a model of 16; this model has {len(layers)}, and there"
            f" they are {selected[0].name} to {selected[-1].name}: give layers, such as {finest[0]}-{finest[-1]}"
        )
    return selected


def _check_targets(rule: Rule, targets: int) -> None:
    named = {"reader": rule.readers, "source": tuple(source for source in rule.sources if isinstance(source, int))}
    for role, numbers in named.items():
        absent = [number for number in numbers if number not in range(targets)] if numbers != "targets" else []
        if absent:
            raise SamecastError(f"a rule's {role} {absent[0]} is not among the {targets} images, 0..{targets - 1}")


def _check_modes(rules: Rules, step: int, targets: int) -> None:
    for target in range(targets):
        modes = {rule.mode for rule in rules if rule.acts_on(target)}
        if len(modes) > 1:
            named = " and ".join(sorted({mode.name for mode in modes}))
            raise SamecastError(
                f"two rules act on image {target} at step {step} and one layer with different modes, masks or weights"
                f" ({named}); give them different steps or layers"
            )
