"""The set-up of a run, the same for renders, searches for masks, stock pipelines, studies and estimates.

`resolve` says what rules mean on one model and one run of steps: who reads whom, and what is looked for in which
cross-attention maps. `prepare` fixes what all passes of a run share: the attached session, the texts' embeddings, how
many rows go into one call of the denoiser, and what is kept of the sources in memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from samecast.attention.plan import Plan, make_plan
from samecast.attention.rule import Rules
from samecast.attention.session import Session
from samecast.core.batch import Branch, Branches, Role
from samecast.core.ddim import Schedule
from samecast.core.settings import RenderSettings
from samecast.core.steps import Timeline
from samecast.engine.attention_store import AttentionStore, MapSpec, make_map_specs, map_caption
from samecast.engine.cast import Member
from samecast.engine.memory import MemoryPlan, plan_memory
from samecast.engine.run import Run
from samecast.models.base import Backbone
from samecast.photos import nearest_shape

# 16 rows of 64 x 64 latents (512 px). Small latents want large batches, as there a call costs more than its rows.
BATCH_TOKENS, LARGEST_BATCH = 16 * 64 * 64, 64


@dataclass(frozen=True)
class Resolved:
    """What rules mean on one model and run.

    Args:
        plan: who reads whom.
        map_specs: what is looked for in cross-attention maps.
        caption: the text under which sources are looked at.
        captions: the same of named subjects' photos, by name.
    """

    plan: Plan
    map_specs: tuple[MapSpec, ...] = ()
    caption: str = ""
    captions: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, plan: Plan, map_specs: Sequence[MapSpec], noun: str, caption: str) -> "Resolved":
        """The plan and looks of a run whose sources have a caption, or none: then it is "a photo of a" and the noun."""
        return cls(plan, tuple(map_specs), caption or map_caption(noun, map_specs))

    def check_words(self, backbone: Backbone, branches: Iterable[Branch]) -> None:
        """Refuses pictures whose text lacks a word that is looked for in them; sources are looked at by caption.

        Raises:
            SamecastError: one does.
        """
        for branch in branches:
            text = branch.prompt if branch.role == "target" else self.caption_of(branch)
            for map_spec in self.map_specs:
                if map_spec.is_for(branch):
                    map_spec.columns(backbone, branch, text)

    def caption_of(self, source: Branch) -> str:
        """The text under which a source is looked at."""
        return source.prompt or self.captions.get(source.subject, self.caption)


def resolve(
    backbone: Backbone,
    rules: Rules,
    timeline: Timeline,
    *,
    targets: int,
    noun: str = "",
    caption: str = "",
    members: Sequence[Member] = (),
) -> Resolved:
    """What rules mean on one model and run.

    Args:
        backbone: the model.
        rules: who reads whom.
        timeline: the steps of the run.
        targets: how many pictures are made.
        noun: what the subject is; the words that are looked for where a rule names none.
        caption: of the sources; empty is "a photo of a" and the noun, where anything is looked for.
        members: the named subjects.

    Raises:
        SamecastError: a rule selects no layer, step or target, or looks for nothing: see `make_plan`, `make_map_specs`.
    """
    map_specs = looks_on(backbone, rules, timeline, noun, members)
    resolved = Resolved.of(plan_on(backbone, rules, timeline, targets=targets), map_specs, noun, caption)
    return replace(resolved, captions={} if caption else {member.name: member.caption for member in members})


def plan_on(backbone: Backbone, rules: Rules, timeline: Timeline, *, targets: int) -> Plan:
    """Who reads whom on a model; errors as for `make_plan`."""
    return make_plan(rules, [bound.layer for bound in backbone.self_attention()], timeline, targets)


def looks_on(
    backbone: Backbone, rules: Rules, timeline: Timeline, noun: str, members: Sequence[Member] = ()
) -> tuple[MapSpec, ...]:
    """What rules look for on a model; errors as for `make_map_specs`."""
    return make_map_specs(rules, [bound.layer for bound in backbone.cross_attention()], timeline, noun, members)


@dataclass(frozen=True)
class Prepared:
    """What all passes of a run share.

    Args:
        run: model, session, schedule, plan and embeddings.
        shape: (channel, height, width) of a latent.
        rows: most rows in one call of the denoiser.
        keeping: what is kept of the sources.
        map_specs: what is looked for in cross-attention maps.
        caption: the text under which sources are looked at.
        captions: the same of named subjects' photos, by name.
    """

    run: Run
    shape: tuple[int, int, int]
    rows: int
    keeping: MemoryPlan
    map_specs: tuple[MapSpec, ...]
    caption: str
    captions: Mapping[str, str] = field(default_factory=dict[str, str])

    def store(self) -> AttentionStore | None:
        """A new book for the maps; None where nothing is looked for."""
        return (
            AttentionStore(self.map_specs, self.run.backbone, self.shape[2] / self.shape[1]) if self.map_specs else None
        )


def prepare(
    backbone: Backbone,
    schedule: Schedule,
    resolved: Resolved,
    branches: Branches,
    *,
    height: int,
    width: int,
    session: Session | None = None,
    steps: Iterable[int] = (),
    memory: float | None = None,
    batch_rows: int | None = None,
    embedded: Mapping[Role, float] | None = None,
) -> Prepared:
    """Sets a run up.

    Args:
        backbone: the model.
        schedule: its noise levels.
        resolved: what rules mean on it.
        branches: the pictures to be made, whose texts are encoded, and their sources.
        height: of the pictures in pixels.
        width: likewise.
        session: one that is attached already; None makes one, to be attached by the caller.
        steps: those that the sources' pass evaluates, so that what is read of them can be kept.
        memory: most GiB for what is kept; None is half of what is free.
        batch_rows: most rows in one call of the denoiser; None chooses by the pictures' size.
        embedded: guidance scales by role, for denoisers that take them as an input; without one it is 1.

    Raises:
        SamecastError: the model cannot make pictures of this size, or a text is too long for it.
    """
    shape = backbone.latent_shape(height, width)
    rows = largest_batch(shape, batch_rows, len(branches.groups))
    keeping = plan_memory(backbone, resolved.plan, branches, size=(height, width), steps=steps, budget=memory)
    if session is None:
        session = Session(backbone, frozenset(layer for map_spec in resolved.map_specs for layer in map_spec.layers))
    looked_at = (resolved.caption, *resolved.captions.values()) if resolved.map_specs else ()
    texts = dict.fromkeys((*branches.layout().texts, *looked_at))
    # One at a time: a text's embedding must not depend on the others, not even in rounding.
    embeddings = {text: backbone.encode_prompts([text])[0] for text in texts}
    run = Run(backbone, session, schedule, resolved.plan, embeddings, keeping.recomputed, embedded or {})
    return Prepared(run, shape, rows, keeping, resolved.map_specs, resolved.caption, resolved.captions)


def size_of(backbone: Backbone, settings: RenderSettings, photo: tuple[int, int] | None) -> tuple[int, int]:
    """The height and width of a run's pictures in pixels.

    Of several photos the first one's shape is the run's; the others are cropped to it, or padded under `fit="pad"`.

    Args:
        backbone: the model.
        settings: `height`, `width` and `fit`.
        photo: width and height of the first photo; None where there is none.
    """
    side, multiple = backbone.default_size, backbone.size_multiple
    if photo is None or settings.fit != "keep" or (settings.height and settings.width):
        return settings.height or side, settings.width or side
    width, height = photo
    if settings.height:
        return settings.height, max(1, round(settings.height * width / height / multiple)) * multiple
    if settings.width:
        return max(1, round(settings.width * height / width / multiple)) * multiple, settings.width
    return nearest_shape(width, height, side=side, multiple=multiple)


def largest_batch(shape: tuple[int, int, int], batch_rows: int | None, groups: int) -> int:
    """Most rows in one call of the denoiser, and room for one branch in all its guidance groups at least.

    Args:
        shape: (channel, height, width) of a latent.
        batch_rows: as asked for; None chooses by the latent's size.
        groups: how many guidance groups a branch has.
    """
    return max(groups, batch_rows or min(LARGEST_BATCH, BATCH_TOKENS // (shape[1] * shape[2])))


def kept_steps(settings: RenderSettings) -> range:
    """The steps whose inputs an inversion evaluates just as a source would; none by MasaCtrl's pairing, or where the
    source is not replayed. A source that is not inverted is evaluated at all."""
    if settings.pairing == "straight":
        return range(settings.num_inference_steps)
    return range(1, settings.num_inference_steps) if settings.pairing == "matched" and settings.replay else range(0)


def source_steps(settings: RenderSettings) -> range:
    """The steps whose inputs the sources' pass evaluates: the inversion of a photo, or its free denoising."""
    return kept_steps(settings) if settings.replay else range(settings.num_inference_steps)


def rows_beside(plan: Plan, branches: Branches, kept: Iterable[int]) -> int:
    """How many rows of sources join a batch of targets at the step that takes most.

    Args:
        plan: who reads whom.
        branches: whose sources these are.
        kept: steps at which what is read of the sources was kept.
    """
    live = any(plan.source_layers_at(step) for step in set(plan.acting) - set(kept))
    return len(branches.layout(targets=()).rows) if live else 0
