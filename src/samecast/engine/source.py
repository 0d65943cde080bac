"""The source: a photo inverted, or a picture generated, once; and all that targets will read of it.

Inversion with matched pairing runs the denoiser on exactly the latents and timesteps that a source branch would have in
denoising, where it replays the inversion latent by latent. So what the controlled layers need of the source, the keys
and values of their attention, is kept from those very evaluations, and the source costs nothing more. Its latent ends
bit-identical to the encoded reference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.attention.attend import States
from samecast.attention.modes.base import Part
from samecast.core import ddim
from samecast.core.batch import Branch, Branches, Group, Layout, Place
from samecast.core.settings import Pairing
from samecast.engine.run import Advance, Run
from samecast.models.base import Backbone


@runtime_checkable
class Book(Protocol):
    """What takes cross-attention maps."""

    def wanted_at(self, step: int) -> bool:
        """Whether maps are taken at a step."""
        ...

    def add(self, step: int, branch: Branch, text: str, maps: Mapping[int, Tensor]) -> None:
        """Takes those of one branch, by layer: (pixel, text)."""
        ...


@dataclass(frozen=True)
class Trajectory:
    """The sources' way through the noise levels.

    Args:
        sources: whose; several where a subject has several references.
        latents: level j is the input of step j; the last level is the clean end.
        kept: for each step at which it was kept, by layer index, what is read of its rows there.
        kept_rows: the row among the kept rows at which each place is found.
    """

    sources: tuple[Branch, ...]
    latents: Float[Tensor, "level source channel height width"]
    kept: Mapping[int, Mapping[int, States]]
    kept_rows: Mapping[Place, int]

    @property
    def clean(self) -> Float[Tensor, "source channel height width"]:
        """The latents that the sources end on."""
        return self.latents[-1]


@dataclass(frozen=True)
class Level:
    """What one step of an inversion came to.

    Args:
        latents: of the sources after it.
        step: whose input was evaluated for it; None where the step changes nothing.
        kept: of that evaluation, by layer index.
    """

    latents: Float[Tensor, "source channel height width"]
    step: int | None = None
    kept: Mapping[int, States] = field(default_factory=dict[int, States])


Note = Callable[[Level], None]
"""Called with each step of an inversion, so that it can be gone on with from there."""


def join_trajectories(parts: Sequence[Trajectory]) -> Trajectory:
    """Trajectories of several sources, which went their ways apart, as one."""
    if len(parts) == 1:
        return parts[0]
    kept: dict[int, dict[int, States]] = {
        step: {
            layer: {name: torch.cat([part.kept[step][layer][name] for part in parts]) for name in states}
            for layer, states in layers.items()
        }
        for step, layers in parts[0].kept.items()
    }
    rows: dict[Place, int] = {}
    offset = 0
    for part in parts:
        rows |= {place: offset + row for place, row in part.kept_rows.items()}
        offset += 1 + max(part.kept_rows.values())
    sources = tuple(source for part in parts for source in part.sources)
    return Trajectory(sources, torch.cat([part.latents for part in parts], dim=1), kept, rows)


def encode_photos(backbone: Backbone, photos: Sequence[Image.Image]) -> Float[Tensor, "source channel height width"]:
    """The latents of photos of one size."""
    return torch.stack([backbone.encode_image(photo) for photo in photos])


def invert_references(
    run: Run,
    branches: Branches,
    references: Float[Tensor, "source channel height width"],
    *,
    pairing: Pairing,
    keeps: bool = True,
    fixed_point: int = 0,
    store: Book | None = None,
    begun: Sequence[Level] = (),
    note: Note | None = None,
    advance: Advance,
) -> Trajectory:
    """Inverts encoded photos in one batch, without guidance, under their caption.

    Args:
        run: the render's fixed parts.
        branches: whose sources these are.
        references: the photos' latents.
        pairing: under `masactrl` the evaluations are not those of a source pass, and nothing is kept.
        keeps: whether to keep what will be read of the sources; not where they are denoised freely afterwards.
        fixed_point: refinements of each step. The source's own evaluations, and so what is kept, stay those of the
            first guess: they are at the level that the step starts from, which is settled by then.
        store: takes the maps of the sources' own evaluations, where their caption has the words.
        begun: what was noted of it before it was interrupted; its maps are not in the book.
        note: called after each step.
        advance: called after each evaluated step.
    """
    sources, schedule = branches.sources, run.schedule
    levels = [Level(references), *begun]
    for level in begun:
        if level.step is not None:
            advance()

    def reached(level: Level) -> None:
        levels.append(level)
        if note is not None:
            note(level)

    for step in reversed(range(schedule.steps - len(begun))):
        latents = levels[-1].latents
        if schedule.is_identity(step):
            reached(Level(latents))
            continue
        # Matched: the latent we are on is the input of the step after this one.
        evaluated = step + 1 if pairing == "matched" else step
        keep = run.keeps_at(evaluated) if keeps and pairing == "matched" else {}
        watch = store if pairing == "matched" else None
        # The caption's row moves the source; the row without is there only for targets' unconditional rows to read.
        groups: tuple[Group, ...] = branches.groups if keep else ("conditional",)
        layout = branches.layout(targets=(), sources=groups)
        timestep = schedule.evaluated_timestep(evaluated)
        at_hand = dict(zip(sources, latents, strict=True))
        prediction, states = _evaluate(run, layout, at_hand, (evaluated, timestep), keep, watch)
        conditional = layout.gather(prediction, sources, "conditional")
        guess = ddim.invert(latents, conditional, schedule, step)
        for _ in range(fixed_point):
            guess = ddim.undo(latents, predict_sources(run, sources, guess, step), schedule, step)
        run.check(guess)
        reached(Level(guess, evaluated, states))
        advance()
    kept = {level.step: level.kept for level in levels if level.step is not None and level.kept}
    stacked = torch.stack([level.latents for level in reversed(levels)])
    return Trajectory(sources, stacked, kept, branches.layout(targets=()).row_of)


def mix_references(
    run: Run,
    branches: Branches,
    references: Float[Tensor, "source channel height width"],
    noise: Float[Tensor, "source channel height width"],
    *,
    store: Book | None = None,
    advance: Advance,
) -> Trajectory:
    """The straight way from noise to encoded photos, without an inversion: signal * photo + noise * eps at each level,
    one fixed noise for each. In flow matching that is the path of training, x_s = (1 - s) x0 + s eps.

    Takes one evaluation for each step at which something is kept of it, or seen in it, at most one a step.

    Args:
        run: the render's fixed parts.
        branches: whose sources these are.
        references: the photos' latents.
        noise: of each.
        store: takes the maps of these evaluations, where the caption has the words.
        advance: called after each step that changes anything.
    """
    sources, schedule = branches.sources, run.schedule
    layout = branches.layout(targets=())
    levels = [level.signal * references + level.noise * noise for level in schedule.levels]
    kept: dict[int, Mapping[int, States]] = {}
    for step in schedule.working_steps:
        keep = run.keeps_at(step)
        if keep or (store is not None and store.wanted_at(step)):
            at_hand = dict(zip(sources, levels[step], strict=True))
            _, states = _evaluate(run, layout, at_hand, (step, schedule.timesteps[step]), keep, store)
            if keep:
                kept[step] = states
        advance()
    return Trajectory(sources, torch.stack([*levels, references]), kept, layout.row_of)


def _evaluate(
    run: Run,
    layout: Layout,
    latents: Mapping[Branch, Float[Tensor, "channel height width"]],
    at: tuple[int, int | float],
    keep: Mapping[int, frozenset[Part]],
    store: Book | None,
) -> tuple[Float[Tensor, "row channel height width"], dict[int, States]]:
    """One call for the sources, at a step and its timestep: predictions, and the states to keep. Their conditional rows
    give maps to a book that wants them."""
    step, timestep = at
    wanted = store is not None and store.wanted_at(step)
    rows = [layout.row_of[Place(source, "conditional")] for source in latents] if wanted else []
    maps: dict[int, Tensor] = {}
    prediction, states = run.evaluate(layout, latents, timestep, keep=keep, map_rows=rows, maps=maps)
    if store is not None and wanted:
        for row, source in enumerate(latents):
            store.add(step, source, source.prompt, {layer: values[row] for layer, values in maps.items()})
    return prediction, states


def predict_sources(
    run: Run, sources: tuple[Branch, ...], latents: Float[Tensor, "source channel height width"], step: int
) -> Float[Tensor, "source channel height width"]:
    """The denoiser's predictions on the inputs of a step under the sources' captions, without guidance or control."""
    layout = Branches((), sources, 1.0).layout()
    at_hand = dict(zip(sources, latents, strict=True))
    prediction, _ = run.evaluate(layout, at_hand, run.schedule.timesteps[step])
    return layout.gather(prediction, sources, "conditional")


def generate_sources(
    run: Run,
    branches: Branches,
    starts: Float[Tensor, "source channel height width"],
    *,
    store: Book | None = None,
    advance: Advance,
) -> Trajectory:
    """Generates sources from their prompts, with guidance, keeping what the targets will read.

    Args:
        run: the render's fixed parts.
        branches: whose sources these are.
        starts: where each starts, and where targets may start too: noise, or an inverted photo.
        store: takes the maps of these evaluations, where the prompt has the words.
        advance: called after each evaluated step.
    """
    sources, schedule = branches.sources, run.schedule
    layout = branches.layout(targets=())
    levels = [starts]
    kept: dict[int, Mapping[int, States]] = {}
    for step in range(schedule.steps):
        if schedule.is_identity(step):
            levels.append(levels[-1])
            continue
        keep = run.keeps_at(step)
        at = (step, schedule.timesteps[step])
        at_hand = dict(zip(sources, levels[-1], strict=True))
        prediction, states = _evaluate(run, layout, at_hand, at, keep, store)
        if keep:
            kept[step] = states
        guided = branches.guide(layout, prediction, sources, run.backbone.rescale_guided)
        levels.append(ddim.denoise(levels[-1], guided, schedule, step))
        run.check(levels[-1])
        advance()
    return Trajectory(sources, torch.stack(levels), kept, layout.row_of)
