"""Named grids: that of the AIKU study, masks by their maps, and a full factorial.

The AIKU study varies three axes, one at a time, for two sets of layers. Spans are given for a run of 50 steps and scale
with other lengths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from samecast.attention.methods import masactrl
from samecast.attention.modes.base import Masked
from samecast.attention.rule import Rule, Rules
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError
from samecast.study.axes import Axis, Value, make_rules
from samecast.study.grid import Grid, Variant, View, factorial, only

Preset = Literal["aiku", "masks", "full"]

DECODER, ENCODER, BOTH = "10-15", "0-7", "0-7,10-15"
LAYER_SETS = {"decoder": DECODER, "encoder": ENCODER, "both": BOTH}
"""The AIKU study's two sets of layers, verbatim (its encoder includes the middle and the first decoder layer)."""
LAYER_WORDS = {selector: name for name, selector in LAYER_SETS.items()}
STARTS, FINALS, SKIPS = (0, 2, 4, 6, 8, 10), (20, 25, 30, 35, 40, 45, 50), (1, 2, 3, 4, 5, 6, 7, 8, 9)
FULL_STARTS = (0, 4, 8, 16)
HANDOVERS = (10, 20, 30, 40)
MAP_LAYERS = ("encoder", "mid", "decoder", "0-2", "3-5", "7-9", "10-12", "13-15")
THRESHOLDS: tuple[Value, ...] = (0.1, 0.2, 0.3, "otsu")
FULL_RUN, LAYERS = 50, 16


def preset_grid(preset: Preset, steps: int, *, only_seed: bool = False) -> Grid:
    """One of the presets.

    Args:
        preset: its name.
        steps: number of denoising steps.
        only_seed: for `aiku`, leave out settings that the AIKU study did not have.

    Raises:
        SamecastError: the preset does not exist, or has no additions to leave out.
    """
    makers = {"aiku": partial(aiku, beyond=not only_seed), "masks": masks, "full": full}
    if preset not in makers:
        raise SamecastError(f"preset must be {', '.join(makers)}; got {preset!r}")
    if only_seed and preset != "aiku":
        raise SamecastError(f"only the preset aiku has additions to leave out; got {preset!r}")
    return makers[preset](steps)


def fitted(grid: Grid, layers: int) -> Grid:
    """A preset's grid for a model without 16 layers: each span of layers is scaled to the number of layers.

    So the AIKU study's 0-7 and 10-15 become 0-34 and 44-69 of SDXL's 70: up to the first layer of the decoder, and from
    the first one that MasaCtrl's authors used for it.
    """
    if layers == LAYERS:
        return grid

    def rule_of(rule: Rule) -> Rule:
        mode = rule.mode
        if isinstance(mode, Masked) and isinstance(mode.tokens, SubjectTokens):
            mode = replace(mode, tokens=replace(mode.tokens, layers=scaled_layers(mode.tokens.layers, layers)))
        return replace(rule, layers=scaled_layers(rule.layers, layers), mode=mode)

    variants = (replace(variant, rules=tuple(map(rule_of, variant.rules))) for variant in grid.variants)
    return replace(grid, variants=tuple(variants))


def scaled_layers(selector: str, layers: int) -> str:
    """A selector of 16 layers scaled to another number of layers; names are unchanged."""

    def part(data: str) -> str:
        ends = data.split("-")
        if not all(end.isdigit() for end in ends):
            return data
        first, last = int(ends[0]), int(ends[-1])
        return f"{round(first * layers / LAYERS)}-{round((last + 1) * layers / LAYERS) - 1}"

    return ",".join(part(data) for data in selector.split(","))


def aiku(steps: int = FULL_RUN, *, beyond: bool = True) -> Grid:
    """The AIKU study's 44 runs, of which 42 are distinct: final step, start step and skip, for two sets of layers.

    Args:
        steps: number of denoising steps.
        beyond: add settings that it did not have: both sets together, first the encoder's then the decoder's, and no
            control.
    """
    draft, series = _Draft(steps), ["decoder", "encoder"]
    for name in ("decoder", "encoder"):
        draft.view("final", name, [(final, {"start": 4, "final": final}) for final in FINALS])
        draft.view("start", name, [(start, {"start": start}) for start in STARTS])
        draft.view("skip", name, [(skip, {"start": 4, "skip": skip}) for skip in SKIPS])
    if beyond:
        draft.view("final", "both", [(final, {"start": 4, "final": final}) for final in FINALS])
        draft.handover()
        draft.add("no control", {"layers": "none"}, ())
        series.append("both")
    whole = [(name, named[-1]) for name in series if (named := draft.named("final", name))]
    plain = [("no control", "no control")] if beyond else []
    draft.views.append(View("layers", f"steps {draft.scaled(4)}-{steps}", (*whole, *plain)))
    return draft.grid()


def masks(steps: int = FULL_RUN) -> Grid:
    """Masks of mutual self-attention from cross-attention maps of all stages and parts, by threshold."""
    draft = _Draft(steps)
    draft.add("no mask", {"maps": None, "layers": "decoder"}, make_rules({"start": draft.scaled(4)}, steps))
    for maps in MAP_LAYERS:
        points: list[tuple[Value, str]] = []
        for threshold in THRESHOLDS:
            fields: dict[str, Value] = {"start": draft.scaled(4), "maps": maps, "threshold": threshold}
            name = f"maps {maps}, threshold {threshold}"
            draft.add(name, {**fields, "layers": "decoder"}, make_rules(fields, steps))
            points.append((threshold, name))
        draft.views.append(View("threshold", f"maps {maps}", tuple(points)))
    for threshold in THRESHOLDS:
        of = [(maps, f"maps {maps}, threshold {threshold}") for maps in MAP_LAYERS]
        draft.views.append(View("maps", f"threshold {threshold}", ((None, "no mask"), *of)))
    return draft.grid()


def full(steps: int = FULL_RUN) -> Grid:
    """Start x final x skip x layers: 840 settings, less those that act at no step of a shorter run."""
    draft = _Draft(steps)
    grid = factorial(
        (
            Axis("start", tuple(dict.fromkeys(draft.scaled(start) for start in FULL_STARTS))),
            Axis("final", tuple(dict.fromkeys(draft.scaled(final) for final in FINALS))),
            Axis("skip", (None, *SKIPS)),
            Axis("layers", (DECODER, ENCODER, BOTH)),
        ),
        {},
        steps,
        words=LAYER_WORDS,
    )
    return only(grid, [variant.name for variant in grid.variants if _act(variant.rules, steps)])


def _act(rules: Rules, steps: int) -> bool:
    """Whether each rule acts at some step of a run."""
    try:
        return all(rule.steps.select(steps) for rule in rules)
    except SamecastError:
        return False


class _Draft:
    """A grid under construction; a variant shared by two axes is added once."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.variants: dict[str, Variant] = {}
        self.views: list[View] = []
        self.repeats = 0

    def scaled(self, step: int) -> int:
        """A step of a run of 50 steps, scaled to this run."""
        return round(step * self.steps / FULL_RUN)

    def named(self, axis: str, series: str) -> list[str]:
        """The variants of one view, in order."""
        return [name for view in self.views if (view.axis, view.series) == (axis, series) for _, name in view.points]

    def add(self, name: str, fields: Mapping[str, Value], rules: Rules) -> None:
        self.variants.setdefault(name, Variant(name, fields, rules))

    def view(self, axis: str, layers: str, points: Sequence[tuple[Value, Mapping[str, int]]]) -> None:
        named: dict[Value, str] = {}
        for _, data in points:
            fields: dict[str, Value] = {
                field: value if field == "skip" else self.scaled(value) for field, value in data.items()
            }
            fields = {"start": self.scaled(4), "final": self.steps, "skip": None, **fields}
            skipped = "" if fields["skip"] is None else f", skip {fields['skip']}"
            name = f"{layers}, steps {fields['start']}-{fields['final']}{skipped}"
            rules = make_rules({**fields, "layers": LAYER_SETS[layers]}, self.steps)
            if not _act(rules, self.steps):
                continue  # in a short run, a skip may leave no step
            self.repeats += name in self.variants
            self.add(name, {**fields, "layers": layers}, rules)
            named.setdefault(fields[axis], name)
        self.views.append(View(axis, layers, tuple(named.items())))

    def handover(self) -> None:
        """First the encoder's layers, then the decoder's."""
        start, points = self.scaled(4), dict[Value, str]()
        for step in dict.fromkeys(self.scaled(step) for step in HANDOVERS):
            if not start < step < self.steps:
                continue
            rules = masactrl(start, step - 1, layers=ENCODER) + masactrl(step, layers=DECODER)
            name = f"encoder to step {step - 1}, then decoder"
            fields: dict[str, Value] = {"start": start, "final": self.steps, "handover": step}
            self.add(name, {**fields, "layers": "encoder then decoder"}, rules)
            points[step] = name
        if points:
            self.views.append(View("handover", "encoder then decoder", tuple(points.items())))

    def grid(self) -> Grid:
        return Grid(tuple(self.variants.values()), tuple(self.views), self.repeats)
