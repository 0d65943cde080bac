"""Binds a recipe to a subject: the pictures to make, their content keys, and the inputs of the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from samecast.attention.plan import Plan, make_plan
from samecast.attention.rule import Rule, Rules
from samecast.core.batch import Branch
from samecast.engine.attention_store import check_averages
from samecast.engine.prepare import Resolved, looks_on
from samecast.errors import SamecastError
from samecast.experiments.store import content_key, joined_key
from samecast.models.base import Backbone
from samecast.study.grid import Variant
from samecast.study.lockstep import PictureJob
from samecast.study.photos import hashes_of
from samecast.study.recipe import Cast, Recipe, cast_facts, uses_maps
from samecast.study.subjects import StudySubject


@dataclass(frozen=True)
class Sources:
    """Photos that are read together, and the pictures made from them.

    Args:
        numbers: indices of the photos, from 0.
        casts: the pictures to make, without their rules, in a canonical order that is independent of the order of the
            prompts.
    """

    numbers: tuple[int, ...]
    casts: tuple[Cast, ...]


def sources_of(recipe: Recipe, subject: StudySubject) -> tuple[Sources, ...]:
    """The photos of a subject that are read: the first, each separately, or all together."""
    hashes = hashes_of(subject.references)
    repeats = [
        number for number, data in enumerate(hashes) if data not in hashes[:number]
    ]  # a photo cannot be read twice at once
    together = tuple(range(len(subject.references)))
    chosen = {"first": [(0,)], "each": [(number,) for number in repeats], "together": [together]}
    return tuple(
        Sources(
            numbers,
            tuple(
                Cast(
                    tuple(hashes[number] for number in numbers),
                    prompt,
                    recipe.settings.first_seed + seed,
                    subject.class_noun,
                    subject.source_prompt,
                )
                for prompt in sorted(subject.prompts)
                for seed in range(recipe.seeds)
            ),
        )
        for numbers in chosen[recipe.photos]
    )


@dataclass(frozen=True, slots=True)
class Order:
    """One entry of a study's table: a variant for a cast.

    Args:
        key: key of the picture; the same for two variants with equal rules.
        variant: the variant.
        cast: photos, prompt and seed.
        numbers: indices of the photos that are read.
    """

    key: str
    variant: Variant
    cast: Cast
    numbers: tuple[int, ...]


def orders_of(recipe: Recipe, subject: StudySubject) -> Iterator[Order]:
    """All entries of one subject, in the table's order."""
    for sources in sources_of(recipe, subject):
        for cast in sources.casts:
            yield from orders_for(recipe, cast, sources.numbers)


def orders_for(recipe: Recipe, cast: Cast, numbers: tuple[int, ...]) -> Iterator[Order]:
    """The entries of one cast, in the grid's order."""
    keys = {looking: content_key(cast_facts(recipe, cast, looking)) for looking in (True, False)}
    for variant, (key, looking) in zip(recipe.grid.variants, recipe.variant_keys, strict=True):
        yield Order(joined_key(key, keys[looking]), variant, cast, numbers)


class Binding:
    """Resolves rules on one model, caching the results.

    Args:
        recipe: the study's recipe.
        backbone: the model.
    """

    def __init__(self, recipe: Recipe, backbone: Backbone) -> None:
        self._recipe = recipe
        self._backbone = backbone
        self._layers = [bound.layer for bound in backbone.self_attention()]
        self._plans: dict[Rules, Plan] = {}
        self.schedule = backbone.schedule(recipe.settings.num_inference_steps)

    def plan(self, rules: Rules) -> Plan:
        """The plan of some rules; errors as for `make_plan`."""
        if rules not in self._plans:
            check_averages(rules, "a study")
            self._plans[rules] = make_plan(rules, self._layers, self.schedule, targets=1)
        return self._plans[rules]

    def job(self, order: Order) -> PictureJob:
        """One entry as a picture to make.

        Raises:
            SamecastError: its rules name words that the caption lacks, or match no layer or step of this model.
        """
        cast, plan = order.cast, self.plan(order.variant.rules)
        map_specs = looks_on(self._backbone, order.variant.rules, self.schedule, cast.noun)
        resolved = Resolved.of(plan, map_specs, cast.noun, cast.caption)
        branch = Branch("target", 0, cast.prompt, self._recipe.settings.negative_prompt)
        resolved.check_words(self._backbone, (Branch("source", 0, cast.caption), branch))
        return PictureJob(order.key, branch, cast.seed, plan, map_specs)

    def check(self, subject: StudySubject) -> None:
        """Checks all entries of a subject before any work is done, without reading its photos.

        Raises:
            SamecastError: an entry cannot be made; the message names the subject and the variant.
        """
        for variant in self._recipe.grid.variants:
            try:
                self.plan(variant.rules)
                if uses_maps(variant.rules):
                    for prompt in subject.prompts:
                        cast = Cast((), prompt, 0, subject.class_noun, subject.source_prompt)
                        self.job(Order("", variant, cast, ()))
            except SamecastError as error:
                raise SamecastError(f"{subject.name}, {variant.name}: {error}") from None


def union(plans: Sequence[Plan]) -> Plan:
    """The union of some plans: what an inversion has to keep for all of them."""
    acting: dict[int, dict[int, dict[Rule, None]]] = {}
    for plan in plans:
        for step, layers in plan.acting.items():
            at_step = acting.setdefault(step, {})
            for layer, rules in layers.items():
                at_step.setdefault(layer, {}).update(dict.fromkeys(rules))
    return Plan({step: {layer: tuple(rules) for layer, rules in layers.items()} for step, layers in acting.items()})
