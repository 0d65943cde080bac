"""The pictures of one subject that read the same photos: inverted, denoised in lockstep, decoded, written."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samecast.attention.attend import States
from samecast.attention.modes.base import Masks as MasksFrom
from samecast.control.looking import Look, MapBook, look_at_sources
from samecast.control.memory import plan_keeping
from samecast.control.plan import Masks
from samecast.control.run import Advance, Run
from samecast.control.session import Session
from samecast.control.source import Level, Trajectory
from samecast.core.branches import Branch, Branches
from samecast.core.masks import SubjectMask
from samecast.errors import SamecastError
from samecast.experiments.store import content_key
from samecast.render.found import found_masks
from samecast.render.provenance import describe_model
from samecast.render.sources import encode, invert, largest_batch, source_steps
from samecast.study.casting import Order, union
from samecast.study.checkpoint import TRAJECTORY, Diary, load_front, load_trajectory, save_front, save_trajectory
from samecast.study.folder import PROGRESS
from samecast.study.lockstep import Front, Lineage, Lockstep, Wish, fewer, halving, looks_of, why_not
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
        session: attached.
        subject: whose pictures.
        unit: the photos that are read.
        orders: what is not there yet.
    """

    def __init__(
        self, worker: "Worker", session: Session, subject: StudySubject, unit: "StudyUnit", orders: Sequence[Order]
    ) -> None:
        self.worker, self.session, self.subject, self.unit = worker, session, subject, unit
        sources = self.sources = unit.sources
        self.folder, self.recipe, backbone = worker.folder, worker.recipe, worker.backbone
        self.orders = {order.key: order for order in orders}
        self.wishes = [worker.binding.wish(order) for order in self.orders.values()]
        self.looks = looks_of(self.wishes)
        self.caption = worker.binding.caption(sources.casts[0], self.looks)
        texts = dict.fromkeys(
            ("", subject.source_prompt, self.recipe.settings.negative_prompt, *(w.branch.prompt for w in self.wishes))
        )
        if self.looks:
            texts[self.caption] = None
        # One at a time: a text's embedding must not depend on its company, not even in rounding.
        embeddings = {text: backbone.encode_prompts([text])[0] for text in texts}
        plan = union([wish.plan for wish in self.wishes])
        settings = replace(self.recipe.settings, batch_rows=worker.bench.rows)
        self.branches = tuple(Branch("source", index, subject.source_prompt) for index in range(len(sources.numbers)))
        alone = Branches((), self.branches, settings.guidance)
        groups, size = len(alone.groups), settings.size or backbone.default_size
        steps, budget = source_steps(settings), settings.source_memory
        keeping = plan_keeping(backbone, plan, alone, size=size, steps=steps, budget=budget)
        self.run = Run(backbone, session, worker.binding.schedule, plan, embeddings, keeping.recomputed)
        self.rows = largest_batch(backbone.latent_shape(size), settings, groups)
        self.place = self.folder.store.folder(PROGRESS, unit.key)

    def work(self) -> int:
        """Makes them; returns how many evaluations went into maps of photos alone."""
        wanted = {look for wish in self.wishes for look in wish.looks if self._masks_sources(wish)}
        looks = tuple(look for look in self.looks if look in wanted)
        book = MapBook(looks, self.worker.backbone) if looks else None
        # A photo's own evaluations show the subject, if its caption names it.
        trajectory = self._kept_trajectory() or self._invert(book if self.subject.source_prompt else None)
        before = self.session.evaluations
        source_masks = {} if book is None else self._look(trajectory, book)
        maps = self.session.evaluations - before
        lockstep = Lockstep(self.run, trajectory, source_masks, self.recipe.settings, self.rows)
        wishes = [wish for wish in self.wishes if self._has_masks(wish, source_masks)]
        front = load_front(self.place, wishes, lockstep, self.worker.backbone.device) or lockstep.start(wishes)
        front = self._advance(lockstep, front, trajectory)
        for key, why in front.failed.items():
            self._fail(key, why)
        for lineage in front.lineages:
            self._finish(lineage)
        return maps

    def _kept_trajectory(self) -> Trajectory | None:
        """The one of an earlier try, if it has all that is to be read now."""
        kept = load_trajectory(self.place, self.worker.backbone.device)
        if kept is None or not all(self._has(step, of) for step, of in kept.kept.items()):
            return None
        return kept

    def _advance(self, lockstep: Lockstep, front: Front, trajectory: Trajectory) -> Front:
        """To the end, with a checkpoint now and then."""
        steps = self.run.schedule.working_steps
        total = sum(self._nodes(steps))
        passed = sum(self._nodes([step for step in steps if step < front.step]))
        saved, kept_trajectory = time.monotonic(), (self.place / TRAJECTORY).is_file()
        for latest in lockstep.run(front):
            passed += len(latest.lineages) if latest.done < front.done else 0
            front = latest
            self.worker.progress(self.unit.name, min(passed + latest.done, total), total)
            due = time.monotonic() - saved >= self.worker.bench.checkpoint
            # Where anything was kept, so is the end, whatever the clock says: decoding takes its time too.
            if due or (kept_trajectory and latest.step > steps[-1]):
                kept_trajectory = self._keep(latest, None if kept_trajectory else trajectory)
                saved = time.monotonic()
        return front

    def _keep(self, front: Front, trajectory: Trajectory | None) -> bool:
        """A checkpoint, with the trajectory where that is not kept yet; whether all is kept.

        A disk that is full must not stop what needs no disk: then there is no checkpoint.
        """
        try:
            if trajectory is not None:
                save_trajectory(self.place, trajectory)
            save_front(self.place, front)
        except SamecastError as error:
            _log.warning("%s", error)
            return trajectory is None
        return True

    def _nodes(self, steps: Sequence[int]) -> list[int]:
        starts: dict[tuple[Branch, int], list[Wish]] = {}
        for wish in self.wishes:
            starts.setdefault((wish.branch, wish.seed), []).append(wish)
        return [measure([history(wish.plan, steps) for wish in group]).nodes for group in starts.values()]

    def _invert(self, book: MapBook | None) -> Trajectory:
        photos = [self.subject.references[number] for number in self.sources.numbers]
        done = count(1)

        def counter(stage: str, rounds: int) -> Advance:
            total = rounds * len(self.run.schedule.working_steps)
            return lambda: self.worker.progress(f"{self.unit.name}, reading the photo", next(done), total)

        encoded, settings = encode(self.run, photos), self.recipe.settings
        diary = Diary(self.place, self.worker.bench.checkpoint)
        begun = diary.read(self.worker.backbone.device, self._has_all)
        return halving(
            min(self.rows, len(photos)),
            lambda rows: invert(
                self.run,
                self.branches,
                encoded,
                settings,
                rows=rows,
                counter=counter,
                book=book,
                begun=begun,
                note=diary.note,
            ),
        )

    def _has_all(self, level: Level) -> bool:
        """Whether a step of an earlier inversion kept all that is to be read now."""
        return level.step is None or self._has(level.step, level.kept)

    def _has(self, step: int, kept: Mapping[int, States]) -> bool:
        return all(parts <= set(kept.get(site, {})) for site, parts in self.run.keeps_at(step).items())

    def _look(self, trajectory: Trajectory, book: MapBook) -> Masks:
        """The subject in its photos, by every look that any rule asks for; a look that sees nothing is left out."""
        rows, before = self.rows, book.fork()
        while True:
            try:
                look_at_sources(self.run, book, trajectory, self.caption, rows=rows)
                break
            except (RuntimeError, MemoryError) as error:
                book, rows = before.fork(), fewer(rows, error)
        found: dict[tuple[MasksFrom, Branch], SubjectMask] = {}
        for look in book.looks:
            try:
                found |= book.fork((look,)).masks()
            except SamecastError:
                continue  # its wishes fail, and say why
        self._keep_masks(found, book.looks)
        return found

    def _keep_masks(self, masks: Masks, looks: tuple[Look, ...]) -> None:
        size = self.subject.references[0].width
        truth = true_masks(self.subject)
        for found in found_masks(masks, looks, size):
            number = self.sources.numbers[found.number - 1]
            told = {
                "subject": self.subject.name,
                "photo": number + 1,
                "maps": found.tokens.sites or "default",
                "threshold": found.tokens.threshold,
                "chosen_threshold": found.threshold,
                "coverage": found.coverage,
                "iou": _overlap(found.mask, truth[number]) if truth else None,
                "caption": self.caption,
            }
            key = content_key({**told, "photo": self.sources.casts[0].photos, "revision": self.recipe.revision})
            try:
                self.folder.write_mask(key, found.map, found.mask, told)
            except SamecastError as error:
                _log.warning("%s", error)

    def _masks_sources(self, wish: Wish) -> bool:
        return any(rule.masks_sources for rule in self.orders[wish.key].variant.rules)

    def _has_masks(self, wish: Wish, masks: Masks) -> bool:
        """Whether the masks that a wish asks for were found; it fails otherwise."""
        seen = {tokens for tokens, _ in masks}
        lacking = [look for look in wish.looks if self._masks_sources(wish) and look.tokens not in seen]
        for look in lacking:
            self._fail(wish.key, f"the maps of {look.phrase!r} are the same everywhere: they show no subject")
        return not lacking

    def _finish(self, lineage: Lineage) -> None:
        """One latent decoded; a picture for each wish that came to it."""
        keys = [wish.key for wish in lineage.wishes]
        try:
            picture: Image.Image = self.worker.backbone.decode(lineage.latent[None])[0]
        except (SamecastError, RuntimeError, MemoryError) as error:
            for key in keys:
                self._fail(key, why_not(error))
            return
        for key in keys:
            order = self.orders[key]
            told = {
                "subject": self.subject.name,
                "photos": [number + 1 for number in order.numbers],
                "variant": order.variant.name,
                "facts": picture_facts(self.recipe, order.cast, order.variant.rules),
                **describe_model(self.worker.backbone),
            }
            try:
                self.folder.write_run(key, picture, lineage.latent, told)
            except SamecastError as error:
                self._fail(key, str(error))

    def _fail(self, key: str, why: str) -> None:
        told = {"subject": self.subject.name, "variant": self.orders[key].variant.name, "reason": why}
        try:
            self.folder.write_failure(key, told)
        except SamecastError as error:
            # The picture is missing all the same, and is counted as failed.
            _log.warning("not made: %s, %s: %s (%s)", told["subject"], told["variant"], why, error)


def _overlap(mask: Image.Image, truth: NDArray[np.bool_]) -> float:
    """Intersection over union with the true mask, 0 to 1."""
    found = np.asarray(mask) >= 128
    return float((found & truth).sum() / max(1, (found | truth).sum()))
