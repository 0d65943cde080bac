"""The pictures of one subject that read the same photos: inverted, denoised in lockstep, decoded, written."""

import logging
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samecast.attention.attend import States
from samecast.attention.modes.base import Masks as MasksFrom
from samecast.attention.plan import Masks
from samecast.core.batch import Branch, Branches
from samecast.core.masks import SubjectMask
from samecast.engine.attention_store import AttentionStore, MapSpec
from samecast.engine.map_passes import map_sources
from samecast.engine.prepare import Resolved, prepare, source_steps
from samecast.engine.run import Advance
from samecast.engine.source import Level, Trajectory, encode_photos
from samecast.errors import SamecastError
from samecast.experiments.store import content_key
from samecast.render.found import found_masks
from samecast.render.provenance import describe_model
from samecast.render.sources import invert
from samecast.study.binding import Order, union
from samecast.study.checkpoint import (
    TRAJECTORY,
    Checkpointer,
    load_frontier,
    load_trajectory,
    save_frontier,
    save_trajectory,
)
from samecast.study.folder import PROGRESS
from samecast.study.lockstep import Frontier, Lockstep, Node, PictureJob, fewer, halving, map_specs_of, why_not
from samecast.study.recipe import picture_facts
from samecast.study.subjects import StudySubject, true_masks
from samecast.study.tree import history, measure

if TYPE_CHECKING:
    from samecast.study.unit import StudyUnit, Worker

_log = logging.getLogger(__name__)


class Making:
    """Makes them.

    Args:
        worker: who is at it: its folder, recipe, model and bench.
        subject: whose pictures.
        unit: the photos that are read.
        orders: what is not there yet.
    """

    def __init__(self, worker: "Worker", subject: StudySubject, unit: "StudyUnit", orders: Sequence[Order]) -> None:
        self.worker, self.subject, self.unit = worker, subject, unit
        sources = self.sources = unit.sources
        self.folder, self.recipe, backbone = worker.folder, worker.recipe, worker.backbone
        self.orders = {order.key: order for order in orders}
        self.jobs = [worker.binding.job(order) for order in self.orders.values()]
        self.map_specs, plan = map_specs_of(self.jobs), union([job.plan for job in self.jobs])
        settings = self.recipe.settings
        width, height = subject.references[sources.numbers[0]].size
        self.branches = tuple(Branch("source", index, subject.source_prompt) for index in range(len(sources.numbers)))
        prepared = prepare(
            backbone,
            backbone.schedule(settings.num_inference_steps, (height, width)),
            Resolved.of(plan, self.map_specs, subject.class_noun, subject.source_prompt),
            Branches(tuple(job.branch for job in self.jobs), self.branches, settings.guidance),
            height=height,
            width=width,
            steps=source_steps(settings),
            memory=settings.source_memory,
            batch_rows=worker.execution.rows,
            embedded={"target": settings.embedded_guidance},
        )
        self.run, self.rows, self.caption = prepared.run, prepared.rows, prepared.caption
        self.shape = prepared.shape
        self.session = self.run.session
        self.place = self.folder.store.folder(PROGRESS, unit.key)

    def work(self) -> int:
        """Makes them; returns how many evaluations went into maps of photos alone."""
        with self.session:
            return self._work()

    def _work(self) -> int:
        wanted = {map_spec for job in self.jobs for map_spec in job.map_specs if self._masks_sources(job)}
        map_specs = tuple(map_spec for map_spec in self.map_specs if map_spec in wanted)
        height, width = self.shape[1:]
        store = AttentionStore(map_specs, self.worker.backbone, width / height) if map_specs else None
        # A photo's own evaluations show the subject, if its caption names it.
        trajectory = self._kept_trajectory() or self._invert(store if self.subject.source_prompt else None)
        before = self.session.evaluations
        source_masks = {} if store is None else self._find_masks(trajectory, store)
        maps = self.session.evaluations - before
        lockstep = Lockstep(self.run, trajectory, source_masks, self.recipe.settings, self.rows)
        jobs = [job for job in self.jobs if self._has_masks(job, source_masks)]
        frontier = load_frontier(self.place, jobs, lockstep, self.worker.backbone.device) or lockstep.start(jobs)
        frontier = self._advance(lockstep, frontier, trajectory)
        for key, why in frontier.failed.items():
            self._fail(key, why)
        for node in frontier.nodes:
            self._finish(node)
        return maps

    def _kept_trajectory(self) -> Trajectory | None:
        """The one of an earlier try, if it has all that is to be read now."""
        kept = load_trajectory(self.place, self.worker.backbone.device)
        if kept is None or not all(self._has(step, of) for step, of in kept.kept.items()):
            return None
        return kept

    def _advance(self, lockstep: Lockstep, frontier: Frontier, trajectory: Trajectory) -> Frontier:
        """To the end, with a checkpoint now and then."""
        steps = self.run.schedule.working_steps
        total = sum(self._nodes(steps))
        passed = sum(self._nodes([step for step in steps if step < frontier.step]))
        saved, kept_trajectory = time.monotonic(), (self.place / TRAJECTORY).is_file()
        for latest in lockstep.run(frontier):
            passed += len(latest.nodes) if latest.done < frontier.done else 0
            frontier = latest
            self.worker.progress(self.unit.name, min(passed + latest.done, total), total)
            due = time.monotonic() - saved >= self.worker.execution.checkpoint
            # Where anything was kept, so is the end, whatever the clock says: decoding takes its time too.
            if due or (kept_trajectory and latest.step > steps[-1]):
                kept_trajectory = self._keep(latest, None if kept_trajectory else trajectory)
                saved = time.monotonic()
        return frontier

    def _keep(self, frontier: Frontier, trajectory: Trajectory | None) -> bool:
        """A checkpoint, with the trajectory where that is not kept yet; whether all is kept.

        A disk that is full must not stop what needs no disk: then there is no checkpoint.
        """
        try:
            if trajectory is not None:
                save_trajectory(self.place, trajectory)
            save_frontier(self.place, frontier)
        except SamecastError as error:
            _log.warning("%s", error)
            return trajectory is None
        return True

    def _nodes(self, steps: Sequence[int]) -> list[int]:
        starts: dict[tuple[Branch, int], list[PictureJob]] = {}
        for job in self.jobs:
            starts.setdefault((job.branch, job.seed), []).append(job)
        return [measure([history(job.plan, steps) for job in group]).nodes for group in starts.values()]

    def _invert(self, store: AttentionStore | None) -> Trajectory:
        photos = [self.subject.references[number] for number in self.sources.numbers]
        done = count(1)

        def counter(stage: str, rounds: int) -> Advance:
            total = rounds * len(self.run.schedule.working_steps)
            return lambda: self.worker.progress(f"{self.unit.name}, reading the photo", next(done), total)

        encoded, settings = encode_photos(self.run.backbone, photos), self.recipe.settings
        checkpointer = Checkpointer(self.place, self.worker.execution.checkpoint)
        begun = checkpointer.read(self.worker.backbone.device, self._has_all)
        return halving(
            min(self.rows, len(photos)),
            lambda rows: invert(
                self.run,
                self.branches,
                encoded,
                settings,
                rows=rows,
                counter=counter,
                store=store,
                begun=begun,
                note=checkpointer.note,
            ),
        )

    def _has_all(self, level: Level) -> bool:
        """Whether a step of an earlier inversion kept all that is to be read now."""
        return level.step is None or self._has(level.step, level.kept)

    def _has(self, step: int, kept: Mapping[int, States]) -> bool:
        return all(parts <= set(kept.get(layer, {})) for layer, parts in self.run.keeps_at(step).items())

    def _find_masks(self, trajectory: Trajectory, store: AttentionStore) -> Masks:
        """The subject in its photos, by every look that any rule asks for; a look that sees nothing is left out."""
        rows, before = self.rows, store.fork()
        while True:
            try:
                map_sources(self.run, store, trajectory, self.caption, rows=rows)
                break
            except (RuntimeError, MemoryError) as error:
                store, rows = before.fork(), fewer(rows, error)
        found: dict[tuple[MasksFrom, Branch], SubjectMask] = {}
        for map_spec in store.map_specs:
            try:
                found |= store.fork((map_spec,)).masks()
            except SamecastError:
                continue  # its wishes fail, and say why
        self._keep_masks(found, store.map_specs)
        return found

    def _keep_masks(self, masks: Masks, map_specs: tuple[MapSpec, ...]) -> None:
        width, height = self.subject.references[self.sources.numbers[0]].size
        truth = true_masks(self.subject, self.recipe.settings.fit)
        for found in found_masks(masks, map_specs, (height, width)):
            number = self.sources.numbers[found.number - 1]
            data = {
                "subject": self.subject.name,
                "photo": number + 1,
                "maps": found.tokens.layers or "default",
                "threshold": found.tokens.threshold,
                "chosen_threshold": found.threshold,
                "coverage": found.coverage,
                "iou": _overlap(found.mask, truth[number]) if truth else None,
                "caption": self.caption,
            }
            key = content_key({**data, "photo": self.sources.casts[0].photos, "revision": self.recipe.revision})
            try:
                self.folder.write_mask(key, found.map, found.mask, data)
            except SamecastError as error:
                _log.warning("%s", error)

    def _masks_sources(self, job: PictureJob) -> bool:
        return any(rule.masks_sources for rule in self.orders[job.key].variant.rules)

    def _has_masks(self, job: PictureJob, masks: Masks) -> bool:
        """Whether the masks that a wish asks for were found; it fails otherwise."""
        seen = {tokens for tokens, _ in masks}
        lacking = [map_spec for map_spec in job.map_specs if self._masks_sources(job) and map_spec.tokens not in seen]
        for map_spec in lacking:
            self._fail(job.key, f"the maps of {map_spec.phrase!r} are the same everywhere: they show no subject")
        return not lacking

    def _finish(self, node: Node) -> None:
        """One latent decoded; a picture for each wish that came to it."""
        keys = [job.key for job in node.jobs]
        try:
            picture: Image.Image = self.worker.backbone.decode(node.latent[None])[0]
        except (SamecastError, RuntimeError, MemoryError) as error:
            for key in keys:
                self._fail(key, why_not(error))
            return
        for key in keys:
            order = self.orders[key]
            data = {
                "subject": self.subject.name,
                "photos": [number + 1 for number in order.numbers],
                "variant": order.variant.name,
                "facts": picture_facts(self.recipe, order.cast, order.variant.rules),
                **describe_model(self.worker.backbone),
            }
            try:
                self.folder.write_run(key, picture, node.latent, data)
            except SamecastError as error:
                self._fail(key, str(error))

    def _fail(self, key: str, why: str) -> None:
        data = {"subject": self.subject.name, "variant": self.orders[key].variant.name, "reason": why}
        try:
            self.folder.write_failure(key, data)
        except SamecastError as error:
            # The picture is missing all the same, and is counted as failed.
            _log.warning("not made: %s, %s: %s (%s)", data["subject"], data["variant"], why, error)


def _overlap(mask: Image.Image, truth: NDArray[np.bool_]) -> float:
    """Intersection over union with the true mask, 0 to 1."""
    found = np.asarray(mask) >= 128
    return float((found & truth).sum() / max(1, (found | truth).sum()))
