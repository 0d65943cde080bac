"""Checkpoints of a subject in progress: its trajectory, written once, and its current latents and attention maps.

Checkpoints are exact, so that a resumed run gives the same bits as an uninterrupted one.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from samecast.attention.attend import States
from samecast.core.batch import Branch, Place
from samecast.core.tokens import SubjectTokens
from samecast.disk import replace_file, save_tensors
from samecast.engine.source import Level, Trajectory
from samecast.errors import SamecastError
from samecast.study.lockstep import Frontier, Lockstep, Node, PictureJob

_log = logging.getLogger(__name__)
TRAJECTORY, LIVE, INVERSION = "trajectory.safetensors", "live.safetensors", "inversion"


class Checkpointer:
    """An inversion in progress, one file per step, written at intervals.

    Args:
        folder: folder of the work in progress.
        every: seconds between two writes; each writes all steps since the last.
    """

    def __init__(self, folder: Path, every: float) -> None:
        self._folder, self._every = folder / INVERSION, every
        self._levels: list[Level] = []
        self._written, self._clock = 0, time.monotonic()

    def read(self, device: torch.device, sound: Callable[[Level], bool]) -> tuple[Level, ...]:
        """The stored steps without a gap; none if one of them lacks something that is needed now."""
        levels: list[Level] = []
        while (found := _load(self._file(len(levels)), device)) is not None:
            tensors, data = found
            levels.append(Level(tensors.pop("latents"), data["step"], _unflattened(tensors)))
        self._levels = levels if all(map(sound, levels)) else []
        self._written = len(self._levels)
        return tuple(self._levels)

    def note(self, level: Level) -> None:
        """Adds a step, and writes at intervals; a full disk does not stop the run."""
        self._levels.append(level)
        if time.monotonic() - self._clock < self._every:
            return
        try:
            while self._written < len(self._levels):
                self._write(self._written)
                self._written += 1
        except SamecastError as error:
            _log.warning("%s", error)
        self._clock = time.monotonic()

    def _write(self, number: int) -> None:
        level = self._levels[number]
        tensors = {"latents": level.latents.contiguous()}
        tensors |= _flattened(level.kept)
        _save(self._file(number), tensors, {"step": level.step})

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:04d}.safetensors"


def save_trajectory(folder: Path, trajectory: Trajectory) -> None:
    """Writes the sources' latents and stored states."""
    tensors = {"latents": trajectory.latents.contiguous()}
    for step, layers in trajectory.kept.items():
        tensors |= {f"{step}.{name}": part for name, part in _flattened(layers).items()}
    rows = [[place.branch.index, place.group, row] for place, row in trajectory.kept_rows.items()]
    captions = [source.prompt for source in trajectory.sources]
    _save(folder / TRAJECTORY, tensors, {"rows": rows, "captions": captions})
    shutil.rmtree(folder / INVERSION, ignore_errors=True)


def load_trajectory(folder: Path, device: torch.device) -> Trajectory | None:
    """The trajectory written by `save_trajectory`; None if it is missing or incomplete."""
    found = _load(folder / TRAJECTORY, device)
    if found is None:
        return None
    tensors, data = found
    sources = tuple(Branch("source", index, caption) for index, caption in enumerate(data["captions"]))
    latents = tensors.pop("latents")
    steps: dict[int, dict[str, Tensor]] = {}
    for name, part in tensors.items():
        step, rest = name.split(".", 1)
        steps.setdefault(int(step), {})[rest] = part
    rows = {Place(sources[index], group): row for index, group, row in data["rows"]}
    return Trajectory(sources, latents, {step: _unflattened(parts) for step, parts in steps.items()}, rows)


def _flattened(kept: Mapping[int, States]) -> dict[str, Tensor]:
    """The stored states of layers, by `layer.part`."""
    return {f"{layer}.{name}": part.contiguous() for layer, states in kept.items() for name, part in states.items()}


def _unflattened(tensors: Mapping[str, Tensor]) -> dict[int, States]:
    found: dict[int, dict[Any, Tensor]] = {}
    for name, part in tensors.items():
        layer, kind = name.split(".")
        found.setdefault(int(layer), {})[kind] = part
    return dict(found)


def save_frontier(folder: Path, frontier: Frontier) -> None:
    """Writes the current state of all nodes."""
    tensors: dict[str, Tensor] = {}
    keys: list[list[str]] = []
    for number, node in enumerate(frontier.nodes):
        tensors[f"latent.{number}"] = node.latent.clone()
        keys.append([job.key for job in node.jobs])
        if node.store is not None:
            for (tokens, _), total in node.store.sums.items():
                tensors[f"maps.{number}.{_named(tokens)}"] = total.clone()
    data = {"step": frontier.step, "done": frontier.done, "keys": keys, "failed": dict(frontier.failed)}
    _save(folder / LIVE, tensors, data)


def load_frontier(
    folder: Path, jobs: Sequence[PictureJob], lockstep: Lockstep, device: torch.device
) -> Frontier | None:
    """The stored frontier, for those of its jobs that are still wanted.

    Args:
        folder: folder of the checkpoint.
        jobs: jobs that are not finished.
        lockstep: the lockstep that resumes it.
        device: device of the latents.

    Returns:
        None if there is no complete checkpoint, if it lacks one of the jobs, or if all of its remaining jobs have
        failed and are to be tried again.
    """
    found = _load(folder / LIVE, torch.device("cpu"))
    if found is None:
        return None
    tensors, data = found
    wanted = {job.key: job for job in jobs}
    nodes, done = list[Node](), 0
    for number, keys in enumerate(data["keys"]):
        still = [wanted[key] for key in keys if key in wanted]
        if not still:
            continue
        node = lockstep.node(still, tensors[f"latent.{number}"].to(device))
        if node.store is not None:
            seen = {
                (map_spec.tokens, node.branch): f"maps.{number}.{_named(map_spec.tokens)}"
                for map_spec in node.store.map_specs
            }
            node.store.restore({key: tensors[name] for key, name in seen.items() if name in tensors})
        nodes.append(node)
        done += number < int(data["done"])
    failed = {key: why for key, why in data["failed"].items() if key in wanted}
    covered = {job.key for node in nodes for job in node.jobs} | set(failed)
    if not nodes or covered != set(wanted):
        return None
    return Frontier(int(data["step"]), tuple(nodes), failed, done)


def _named(tokens: SubjectTokens) -> str:
    return json.dumps(asdict(tokens), sort_keys=True)


def _save(path: Path, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
    metadata = {"data": json.dumps(dict(data))}
    replace_file(path, lambda part: save_tensors(tensors, part, metadata))


def _load(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The contents of a checkpoint; None if it is missing or unreadable, as checkpoints can be made again."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {name: file.get_tensor(name) for name in file.offset_keys()}, json.loads(file.metadata()["data"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
        return None
