"""From a recipe and a subject to the pictures to make, as content keys, and to what a model needs to make them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from samecast.attention.plan import Plan
from samecast.attention.rule import Rules
from samecast.core.batch import Branch
from samecast.engine.prepare import Resolved, looks_on, plan_on
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
    """Photos that are read at once, and all that is made of them.

    Args:
        numbers: of the photos, from 0.
        casts: the pictures to make, before it is said by which rules; in an order of their own, so that how prompts
            were listed changes nothing.
    """

    numbers: tuple[int, ...]
    casts: tuple[Cast, ...]


def sources_of(recipe: Recipe, subject: StudySubject) -> tuple[Sources, ...]:
    """What is read of a subject's photos: the first, each for itself, or all together."""
    hashes = hashes_of(subject.references)
    repeats = [number for number, data in enumerate(hashes) if data not in hashes[:number]]  # one photo twice is none
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
        key: of the picture; the same where two variants come to the same rules.
        variant: which.
        cast: for whom.
        numbers: of the photos that are read.
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
    """Rules resolved on one model, once each.

    Args:
        recipe: of the study.
        backbone: the model.
    """

    def __init__(self, recipe: Recipe, backbone: Backbone) -> None:
        self._recipe = recipe
        self._backbone = backbone
        self._plans: dict[Rules, Plan] = {}
        self.schedule = backbone.schedule(recipe.settings.num_inference_steps)

    def plan(self, rules: Rules) -> Plan:
        """Who reads whom; errors as for `make_plan`."""
        if rules not in self._plans:
            self._plans[rules] = plan_on(self._backbone, rules, self.schedule, targets=1)
        return self._plans[rules]

    def job(self, order: Order) -> PictureJob:
        """One entry as a picture to make.

        Raises:
            SamecastError: its rules look for words that are not there, or have no layer or step on this model.
        """
        cast, plan = order.cast, self.plan(order.variant.rules)
        map_specs = looks_on(self._backbone, order.variant.rules, self.schedule, cast.noun)
        resolved = Resolved.of(plan, map_specs, cast.noun, cast.caption)
        branch = Branch("target", 0, cast.prompt, self._recipe.settings.negative_prompt)
        resolved.check_words(self._backbone, (Branch("source", 0, cast.caption), branch))
        return PictureJob(order.key, branch, cast.seed, plan, map_specs)

    def check(self, subject: StudySubject) -> None:
        """Refuses, before any work is done, what could not be made of a subject; reads none of its photos.

        Raises:
            SamecastError: told with the subject and the variant.
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
    """All that any plan does: what an inversion has to keep for them all."""
    acting: dict[int, dict[int, Rules]] = {}
    for plan in plans:
        for step, layers in plan.acting.items():
            at_step = acting.setdefault(step, {})
            for layer, rules in layers.items():
                at_step[layer] = tuple(dict.fromkeys((*at_step.get(layer, ()), *rules)))
    return Plan(acting)
