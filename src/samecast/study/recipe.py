"""A study as data: everything that determines its pictures, in one frozen object, stored as `study.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from samecast.attention.rule import Rule
from samecast.attention.rule_files import rules_from_data, rules_to_data
from samecast.checked import Within, build, check_fields, shown
from samecast.core.settings import RenderSettings
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError
from samecast.experiments.store import content_key, joined_key
from samecast.experiments.work import code_version
from samecast.study.grid import Grid, Variant, View

FORMAT = 3
ENGINE = 2
"""Increased when a change of the code changes pictures beyond rounding, which invalidates earlier keys."""
Photos = Literal["first", "each", "together"]
SCORING = ("clip", "dino", "metrics")
"""Fields of the scores, which do not affect pictures."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a study, without its subjects.

    Args:
        grid: its variants and views.
        settings: settings of every render.
        model: as for `samecast.load`, with its revision if it is a hub id.
        revision: revision of the loaded weights: a commit, or a hash of their content.
        dtype: precision, by name.
        lora: (path, revision) of each LoRA.
        photos: which of several photos are read: the first, each separately as a repeat, or all together.
        seeds: pictures per prompt; more than one needs noise in `settings.init`.
        clip: CLIP model that scores alignment; empty for the model's default.
        dino: vision transformer that also scores image alignment; `none` for none, empty for the model's default.
        title: its title.
        metrics: names of metrics in `samecast.metrics.METRICS`; empty for the model's default. Metrics and scoring
            models do not affect pictures.

    Raises:
        SamecastError: a value has the wrong type or is out of range, or values contradict each other.
    """

    grid: Grid
    settings: RenderSettings
    model: str
    revision: str
    dtype: str
    lora: tuple[tuple[str, str], ...] = ()
    photos: Photos = "first"
    seeds: Annotated[int, Within(1, 100_000)] = 1
    clip: str = ""
    dino: str = ""
    title: str = "study"
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.seeds > 1 and self.settings.noise_share == 0:
            raise SamecastError(
                f"{self.seeds} seeds need random initial latents: give init 'noise' or a blend such as 0.3; with the"
                " photo's inverted latent, repeat over photos instead"
            )
        for variant in self.grid.variants:
            if any(rule.reads_targets or rule.tokens == "given" for rule in variant.rules):
                raise SamecastError(
                    f"{variant.name}: a study renders pictures separately and finds masks itself: rules cannot read"
                    " other pictures or given masks"
                )

    @cached_property
    def variant_keys(self) -> tuple[tuple[str, bool], ...]:
        """For each variant, the key of the facts common to its pictures, and whether it needs the subject's words."""
        return tuple(
            (content_key(rule_facts(self, variant.rules)), uses_maps(variant.rules)) for variant in self.grid.variants
        )


@dataclass(frozen=True)
class Cast:
    """One picture to make, without its rules.

    Args:
        photos: hashes of the pixels of the photos that are read.
        prompt: the scene.
        seed: seed of the noise.
        noun: the subject's words, which masks are found by.
        caption: caption of the photos.
    """

    photos: tuple[str, ...]
    prompt: str
    seed: int
    noun: str = ""
    caption: str = ""


def picture_facts(recipe: Recipe, cast: Cast, rules: Sequence[Rule]) -> dict[str, Any]:
    """The facts that determine a picture, and no others; JSON-serialisable.

    The model is identified by its content, not its path; batches, device and threads affect only rounding.
    """
    return {**cast_facts(recipe, cast, uses_maps(rules)), **rule_facts(recipe, rules)}


def picture_key(recipe: Recipe, cast: Cast, rules: Sequence[Rule]) -> str:
    """A picture's key, from all its facts."""
    of_rules, of_cast = rule_facts(recipe, rules), cast_facts(recipe, cast, uses_maps(rules))
    return joined_key(content_key(of_rules), content_key(of_cast))


def uses_maps(rules: Sequence[Rule]) -> bool:
    """Whether any rule finds the subject by its words."""
    return any(isinstance(rule.tokens, SubjectTokens) for rule in rules)


def cast_facts(recipe: Recipe, cast: Cast, looking: bool) -> dict[str, Any]:
    """The facts of a picture apart from its rules and the recipe."""
    return {
        "references": list(cast.photos),
        "prompt": cast.prompt,
        # Without effect if everything starts from the inverted latent.
        "seed": cast.seed if recipe.settings.noise_share else None,
        "noun": cast.noun if looking else None,
        "source_prompt": cast.caption,
    }


def rule_facts(recipe: Recipe, rules: Sequence[Rule]) -> dict[str, Any]:
    """The facts of a picture apart from its cast."""
    settings = recipe.settings
    return {
        "negative_prompt": settings.negative_prompt,
        "rules": rules_to_data(tuple(rules)),
        "steps": settings.num_inference_steps,
        "guidance_scale": settings.embedded_guidance,
        "true_cfg_scale": settings.true_cfg_scale,
        "guidance_rescale": settings.guidance_rescale,
        "init": settings.noise_share,
        "pairing": settings.pairing,
        "source_noise": settings.first_seed if settings.pairing == "straight" else None,
        "replay": settings.replay,
        "fixed_point": settings.fixed_point,
        # If these are None, the fitted photos determine the size, and their pixels are in the key.
        "height": settings.height,
        "width": settings.width,
        "revision": recipe.revision,
        "lora": [revision for _, revision in recipe.lora],
        "dtype": recipe.dtype,
        "code": [code_version(), ENGINE],
    }


def recipe_to_data(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON-serialisable data; `recipe_from_data` is the inverse."""
    data = {name: value for name, value in asdict(recipe).items() if name != "grid"}
    variants = [
        {"name": variant.name, "fields": dict(variant.fields), "rules": rules_to_data(variant.rules)}
        for variant in recipe.grid.variants
    ]
    return {"format": FORMAT, **data, "variants": variants, "views": [asdict(view) for view in recipe.grid.views]}


def recipe_from_data(data: Mapping[str, Any], where: str | Path) -> Recipe:
    """A recipe from the data of `recipe_to_data`.

    Raises:
        SamecastError: the data has another format, or is damaged.
    """
    if data.get("format") != FORMAT:
        raise SamecastError(
            f"{str(where)!r} has format {shown(data.get('format'))}; this version reads format {FORMAT}"
        )
    record = {name: value for name, value in data.items() if name not in ("format", "variants", "views")}
    of = repr(str(where))
    variants = [build(_Variant, entry, f"{of}: variant") for entry in _listed(data, "variants", of)]
    views = [build(_View, entry, f"{of}: view") for entry in _listed(data, "views", of)]
    grid = Grid(
        tuple(
            Variant(each.name, each.fields, rules_from_data(each.rules, f"{of}: {each.name}: ")) for each in variants
        ),
        tuple(View(each.axis, each.series, each.points) for each in views),
    )
    return build(Recipe, {**record, "grid": grid}, of)


def _listed(data: Mapping[str, Any], name: str, where: str) -> list[Any]:
    record = data.get(name)
    if not isinstance(record, list):
        raise SamecastError(f"{where} is damaged: {name} must be a list; got {shown(record)}")
    return record


@dataclass(frozen=True)
class _Variant:
    """A variant in `study.json`."""

    name: str
    fields: Mapping[str, Any]
    rules: Any

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class _View:
    """A view in `study.json`."""

    axis: str
    series: str
    points: tuple[tuple[int | float | str | None, str], ...]

    def __post_init__(self) -> None:
        check_fields(self)
