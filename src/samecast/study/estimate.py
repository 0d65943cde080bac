"""What a study will take, before it is begun: evaluations counted, time and memory measured on a few calls."""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from samecast.attention.modes.base import Part
from samecast.attention.plan import Plan
from samecast.core.batch import Branch, Branches
from samecast.core.noise import seeded_noise
from samecast.engine.prepare import Prepared, Resolved, kept_steps, prepare, size_of
from samecast.models.base import Backbone
from samecast.study.binding import Binding, Sources, orders_of, sources_of, union
from samecast.study.grid import runs_of
from samecast.study.recipe import Recipe
from samecast.study.subjects import StudySubject
from samecast.study.tree import Size, history, measure

_CALLS = 2


@dataclass(frozen=True)
class Estimate:
    """What a study will take.

    Args:
        subjects: how many.
        runs: of each picture's grid, as its views name them.
        distinct: of these.
        nodes: of one tree.
        trees: one for each photo or set of photos, prompt and seed.
        evaluations: rows through the denoiser, all together; maps of photos are not counted.
        alone: what the distinct runs would take one by one.
        seconds: on this machine, denoising alone.
        trajectory_bytes: what is kept of one photo's inversion.
        batch_bytes: what one full call of the denoiser takes beside the model; 0 where it was too little to see.
    """

    subjects: int
    runs: int
    distinct: int
    nodes: int
    trees: int
    evaluations: int
    alone: int
    seconds: float
    trajectory_bytes: int
    batch_bytes: int


def count(recipe: Recipe, backbone: Backbone) -> Size:
    """The tree of one photo, prompt and seed."""
    binding = Binding(recipe, backbone)
    steps = binding.schedule.working_steps
    return measure([history(plan, steps) for plan in _plans(recipe, binding)])


@torch.inference_mode()
def estimate(recipe: Recipe, subjects: Sequence[StudySubject], backbone: Backbone) -> Estimate:
    """Counts, and times a few calls at the batch that the study will use.

    Args:
        recipe: settled.
        subjects: with photos fitted.
        backbone: the model.
    """
    size, settings = count(recipe, backbone), recipe.settings
    trees = sum(len({(o.numbers, o.cast) for o in orders_of(recipe, subject)}) for subject in subjects)
    binding = Binding(recipe, backbone)
    distinct = {history(plan, binding.schedule.working_steps): plan for plan in _plans(recipe, binding)}.values()
    together = union(list(distinct))
    branches = Branches((), (Branch("source", 0, ""),), settings.guidance)
    groups = len(branches.groups)
    height, width = size_of(backbone, settings, None)  # photos of other shapes come to about the same area
    prepared = prepare(
        backbone,
        backbone.schedule(settings.num_inference_steps, (height, width)),
        Resolved(together),
        branches,
        height=height,
        width=width,
        batch_rows=settings.batch_rows,
    )
    evaluations, alone = groups * size.nodes * trees, 0
    for subject in subjects:
        captioned = bool(subject.source_prompt) and groups > 1
        for of in sources_of(recipe, subject):
            photos = len(of.numbers)
            evaluations += photos * _inversion(together, recipe, size.deepest, captioned)
            evaluations += _beside(prepared, recipe, size, of)
            rows = sum(photos * _inversion(plan, recipe, size.deepest, captioned) for plan in distinct)
            alone += len(of.casts) * (rows + groups * size.deepest * size.distinct)
    seconds, kept, batch = _measure(prepared, groups)
    return Estimate(
        len(subjects),
        runs_of(recipe.grid),
        size.distinct,
        size.nodes,
        trees,
        evaluations,
        alone,
        seconds * evaluations,
        kept,
        batch,
    )


def _plans(recipe: Recipe, binding: Binding) -> list[Plan]:
    return [binding.plan(variant.rules) for variant in recipe.grid.variants]


def _inversion(plan: Plan, recipe: Recipe, steps: int, captioned: bool) -> int:
    """Rows that the inversion of one photo takes; with a caption also those that unconditional rows will read."""
    kept = sum(bool(plan.source_layers_at(step)) for step in kept_steps(recipe.settings)) if captioned else 0
    free = 0 if recipe.settings.replay else steps * (2 if captioned else 1)
    return steps * (1 + recipe.settings.fixed_point) + kept + free


def _beside(prepared: Prepared, recipe: Recipe, size: Size, of: Sources) -> int:
    """Rows of photos that are computed again beside the pictures that read them, where inversion evaluates other inputs
    than a source does: in each batch of each step at which any is read."""
    settings, plan = recipe.settings, prepared.run.plan
    branches = tuple(Branch("source", number, "") for number in of.numbers)
    layout = Branches((), branches, settings.guidance)
    groups, rows = len(layout.groups), len(layout.layout(targets=()).rows)
    at_once = max(1, (prepared.rows - rows) // groups)
    steps = prepared.run.schedule.working_steps
    live = [plan.source_layers_at(step) and step not in kept_steps(settings) and step != steps[0] for step in steps]
    return sum(
        rows * -(-width * len(of.casts) // at_once) for width, reads in zip(size.widths, live, strict=True) if reads
    )


def _measure(prepared: Prepared, groups: int) -> tuple[float, int, int]:
    """Seconds for each row of a full batch, bytes of a trajectory, and of a batch."""
    run, shape, backbone = prepared.run, prepared.shape, prepared.run.backbone
    first = run.schedule.timesteps[0]
    branches = tuple(Branch("target", number, "") for number in range(prepared.rows // groups))
    layout = Branches(branches, (), float(groups)).layout()  # guidance above 1 makes two groups
    latents = {branch: seeded_noise(shape, branch.index).to(backbone.device) for branch in branches}
    widest = {step: run.plan.kept_parts_at(step) for step in run.plan.acting}
    keep = {layer: frozenset[Part]().union(*(of.get(layer, ()) for of in widest.values())) for layer in _layers(widest)}
    with run.session:
        one = Branches((), (Branch("source", 0, ""),), 1.0).layout()
        noise = seeded_noise(shape, 0).to(backbone.device)
        _, states = run.evaluate(one, {one.rows[0].branch: noise}, first, keep=keep)
        kept = sum(
            states[layer][part].nbytes for of in widest.values() for layer, parts in of.items() for part in parts
        )
        before = _peak(backbone)
        began = 0.0
        for call in range(_CALLS + 1):  # the first one warms up
            if call == 1:
                began = time.perf_counter()
            run.evaluate(layout, latents, first)[0].cpu()
        seconds = (time.perf_counter() - began) / (_CALLS * len(layout.rows))
    return seconds, kept, max(0, _peak(backbone) - before)


def _layers(of: Mapping[int, Mapping[int, object]]) -> set[int]:
    return {layer for layers in of.values() for layer in layers}


def _peak(backbone: Backbone) -> int:
    """Most bytes in use so far, on the model's device or in this process."""
    if backbone.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(backbone.device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
