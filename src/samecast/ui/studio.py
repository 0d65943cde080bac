"""The model behind the page: loaded once, in the worker's thread, and what it is asked to do there."""

import contextlib
import logging
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from samecast.cli.console import quiet_libraries
from samecast.cli.options.render import RenderOptions
from samecast.cli.render import run_of
from samecast.cli.runs import Run, run_again
from samecast.core.embedded import EMBEDDED
from samecast.core.layers import Layer
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.records import differing, drift, read_record
from samecast.subject import several_subjects
from samecast.ui.board import fitted_mask
from samecast.ui.form import command_of, read_form, words_of
from samecast.ui.jobs import Job, Jobs
from samecast.ui.place import Root
from samecast.ui.same import python_of

if TYPE_CHECKING:
    from samecast.render import Model, RenderResult

PLAIN = "no-control"
"""Folder in a run's own, with the same pictures without control."""
_LOOKING_STEPS = 20
_PREVIEW_SIDE = 256

_log = logging.getLogger(__name__)


class Studio:
    """What all pages share: the root folder, the queue, and the model.

    Args:
        root: where files go.
        model: which, as for `samecast.load`.
        device: likewise.
        dtype: likewise.
    """

    def __init__(self, root: Root, model: str = EMBEDDED, device: str = "auto", dtype: str = "auto") -> None:
        self.root, self.name, self.device, self.dtype = root, model, device, dtype
        self.jobs = Jobs(self._load)
        self.loaded: Model | None = None
        self.seconds = 0.0

    def _load(self) -> None:
        import torch

        from samecast.render import load
        from samecast.render.kept import KeptSources

        began = time.monotonic()
        quiet_libraries()
        model = load(self.name, device=self.device, dtype=self.dtype)
        model.kept = KeptSources()
        self._threads = torch.get_num_threads()
        self.loaded, self.seconds = model, time.monotonic() - began

    @property
    def model(self) -> "Model":
        """The model; jobs run only when it is there."""
        assert self.loaded is not None
        return self.loaded

    @property
    def base_values(self) -> dict[str, Any]:
        """What every command of this page says of the model."""
        given = {"--model": self.name, "--device": self.device, "--dtype": self.dtype}
        return {flag: value for flag, value in given.items() if value not in (EMBEDDED, "auto")}

    def layers(self) -> tuple[Layer, ...]:
        """The self-attention layers, in order, once the model is there."""
        return () if self.loaded is None else tuple(bound.layer for bound in self.loaded.backbone.self_attention())

    @contextlib.contextmanager
    def applying(self, run: Run) -> Generator["Model"]:
        """The model with the concepts and LoRAs of a run, for the length of a block."""
        from samecast.render.weighted import apply_weighted, read_weighted

        model = self.model
        weighted = read_weighted(run.lora, run.concepts)
        if not any(weighted):
            yield model
            return
        applied = apply_weighted(model, weighted)
        try:
            yield model
        finally:
            applied.revert()

    def render(self, job: Job, options: RenderOptions, words: Sequence[str], *, plain: bool) -> dict[str, Any]:
        """Renders what a form says, and the same without control beside it.

        Args:
            job: reports how far it is.
            options: the form, read by the command line's parser.
            words: that they were read from.
            plain: whether to add the same pictures without control.
        """
        run = run_of(options)
        began = time.monotonic()
        with self.applying(run) as model:
            result = self._states(job, model, run)
            folder = result.save(run.out)
            beside = 0
            if plain and run.rules:
                other = self._states(job, model, replace(run, rules=(), target_masks=(), subject=_maskless(run)))
                other.save(folder / PLAIN)
                beside = other.evaluations - other.reused_evaluations
        return {
            "run": self.root.name(folder),
            "seconds": round(time.monotonic() - began, 1),
            "evaluations": result.evaluations + result.map_evaluations + beside - result.reused_evaluations,
            "reused": result.reused_evaluations,
            "command": command_of(words),
            "python": python_of(run, options),
        }

    def again(self, job: Job, name: str) -> dict[str, Any]:
        """Repeats a run of the root, and says whether its pictures are the recorded ones."""
        import torch

        folder = self.root.find(name)
        record = read_record(folder)
        words = words_of("render", {"--again": self.root.shown(name)})
        options: RenderOptions = read_form("render", {"--again": str(folder)})
        began = time.monotonic()
        try:
            run = replace(run_again(record, options), out=folder.with_name(f"{folder.name}-again"))
            if run.model != self.name:
                raise SamecastError(f"the run is of the model {run.model!r}, and this page has {self.name!r}")
            with self.applying(run) as model:
                result = self._states(job, model, run)
        finally:
            torch.set_num_threads(self._threads)
        saved = result.save(run.out)
        different = differing(record, result)
        verdict = (
            f"not the recorded pictures: {', '.join(map(str, different))} of {len(record.pictures)} differ"
            if different
            else "bit for bit the recorded pictures"
        )
        return {
            "run": self.root.name(saved),
            "seconds": round(time.monotonic() - began, 1),
            "evaluations": result.evaluations - result.reused_evaluations,
            "reused": result.reused_evaluations,
            "verdict": "; ".join([verdict, *drift(record, result.provenance)]),
            "command": command_of(words),
            "python": "",
        }

    def _states(self, job: Job, model: "Model", run: Run) -> "RenderResult":
        """Runs to the end, and shows the pictures on the way."""
        states = model.states(
            run.subject,
            run.prompts,
            rules=run.rules,
            settings=run.settings,
            target_masks=run.target_masks,
            progress=job.report,
        )
        with contextlib.closing(states):
            shown = 0.0
            while True:
                try:
                    state = next(states)
                except StopIteration as end:
                    return end.value
                job.check()
                if time.monotonic() - shown > 0.4:
                    job.show([_small(picture) for picture in state.preview()[:8]])
                    shown = time.monotonic()

    def look(self, job: Job, photos: Sequence[str], noun: str) -> dict[str, str]:
        """Finds the subject in photos; returns the name of each photo's mask, as large as the photo."""
        from samecast.subject import Subject

        found: dict[str, str] = {}
        for name in photos:
            job.check()
            photo = open_photo(self.root.find(name))
            search = self.model.find_masks(
                Subject((photo,), noun), progress=job.report, num_inference_steps=_LOOKING_STEPS
            )
            mask = fitted_mask(search.masks[0].mask, photo.size)
            found[name] = self.root.keep(mask, f"{Path(name).stem}-mask")
        return found


def _maskless(run: Run) -> Any:
    """The subject without masks, which no control would read."""
    subjects = tuple(replace(subject, masks=()) for subject in several_subjects(run.subject))
    return subjects if len(subjects) > 1 else next(iter(subjects), None)


def _small(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    return small
