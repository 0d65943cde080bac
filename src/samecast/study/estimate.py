"""The cost of a study before it runs: evaluations are counted, time and memory measured on a few calls."""

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
    """The cost of a study.

    Args:
        subjects: number of subjects.
        runs: runs of a grid as listed by its views, for each photo, prompt and seed.
        distinct: distinct runs among these.
        nodes: nodes of one tree.
        trees: number of trees: one for each photo or set of photos, prompt and seed.
        evaluations: rows through the denoiser in all, except for the maps of photos.
        alone: evaluations of the distinct runs without sharing.
        seconds: duration of denoising on this machine.
        trajectory_bytes: memory of one photo's inversion.
        batch_bytes: memory of one full call of the denoiser in addition to the model; 0 if too little to measure.
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
    return _size(recipe, Binding(recipe, backbone))


def _size(recipe: Recipe, binding: Binding) -> Size:
    steps = binding.schedule.working_steps
    return measure([history(plan, steps) for plan in _plans(recipe, binding)])


@torch.inference_mode()
def estimate(recipe: Recipe, subjects: Sequence[StudySubject], backbone: Backbone) -> Estimate:
    """Counts evaluations, and times a few calls with the study's batch size.

    Args:
        recipe: the recipe, with open values set by the model.
        subjects: subjects with fitted photos.
        backbone: the model.
    """
    binding = Binding(recipe, backbone)
    size, settings = _size(recipe, binding), recipe.settings
    trees = sum(len({(o.numbers, o.cast) for o in orders_of(recipe, subject)}) for subject in subjects)
    distinct = {history(plan, binding.schedule.working_steps): plan for plan in _plans(recipe, binding)}.values()
    together = union(list(distinct))
    branches = Branches((), (Branch("source", 0, ""),), settings.guidance)
    groups = len(branches.groups)
    height, width = size_of(backbone, settings, None)  # photos of other shapes have about the same area
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
    """Rows of the inversion of one photo; with a caption, also those that unconditional rows read."""
    kept = sum(bool(plan.source_layers_at(step)) for step in kept_steps(recipe.settings)) if captioned else 0
    free = 0 if recipe.settings.replay else steps * (2 if captioned else 1)
    return steps * (1 + recipe.settings.fixed_point) + kept + free


def _beside(prepared: Prepared, recipe: Recipe, size: Size, of: Sources) -> int:
    """Rows of photos that are recomputed with the pictures that read them, where inversion evaluates other inputs than
    a source branch: in each batch of each step that reads any."""
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
    """Seconds per row of a full batch, and the bytes of a trajectory and of a batch."""
    run, shape, backbone = prepared.run, prepared.shape, prepared.run.backbone
    first = run.schedule.timesteps[0]
    branches = tuple(Branch("target", number, "") for number in range(prepared.rows // groups))
    layout = Branches(branches, (), float(groups)).layout()  # guidance above 1 has two groups of rows
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
    """Peak memory in bytes so far, on the model's device or in this process."""
    if backbone.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(backbone.device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
