"""Scores of a study's pictures: CLIP's and DINO's alignment, and in the embedded world the probe's truth.

Each feature is computed once for each distinct picture. Several photos of a subject: the mean over pairs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from samecast.backbones.fingerprint import file_revision
from samecast.backbones.loading import EMBEDDED as EMBEDDED_MODEL
from samecast.backbones.quiet import quiet_libraries
from samecast.control.targets import split_evenly
from samecast.diorama.benchmark import BENCHMARK_VERSION, case, judge
from samecast.diorama.probe import WEIGHTS, Probe, load_probe
from samecast.records import pixel_hash
from samecast.score.alignment import EMBEDDED, ClipScorer, ImageScorer, load_clip, load_vit
from samecast.score.models import locate
from samecast.score.statistics import Bounds, Cells, cells
from samecast.study.recipe import content_key
from samecast.study.subjects import StudySubject

REAL_CLIP, REAL_DINO = "openai/clip-vit-large-patch14", "facebook/dino-vits16"
NO_DINO = "none"
ALIGNMENTS = ("text_alignment", "image_alignment", "dino_alignment")
_AT_ONCE = 64
"""Pictures that are scored before any score is told, and kept."""
VERDICTS = ("identity", "scene", "both")
BOUNDS: Mapping[str, Bounds] = {name: (0.0, 1.0) if name in VERDICTS else (-1.0, 1.0) for name in ALIGNMENTS + VERDICTS}
"""What the mean of each score cannot leave."""


def means_of(rows: Sequence[Mapping[str, Any]], score: str) -> Cells:
    """For each variant, each subject's mean of a score."""
    return cells(rows, score, BOUNDS[score])


def default_clip(model: str) -> str:
    """The CLIP model that scores a model's pictures unless somebody says otherwise."""
    return EMBEDDED_MODEL if model == EMBEDDED_MODEL else REAL_CLIP


def default_dino(model: str, clip: str) -> str:
    """The vision transformer beside it: the embedded one for the embedded model, DINO's for others where CLIP is the
    default too."""
    if model == EMBEDDED_MODEL:
        return EMBEDDED_MODEL
    return REAL_DINO if clip == REAL_CLIP else NO_DINO


@dataclass(frozen=True)
class Scorers:
    """Those who judge.

    Args:
        clip: text and image alignment.
        dino: image alignment beside it, if anybody asked.
        probe: what a picture of the embedded world shows.
        facts: which models these are and how they are asked; part of every score's key.
    """

    clip: ClipScorer
    dino: ImageScorer | None
    probe: Probe
    facts: Mapping[str, Any]

    def key(self, run: str, subject: StudySubject) -> str:
        """Of one picture's scores."""
        judged = [pixel_hash(photo) for photo in photos_judged(subject)]
        case_of = None if subject.case is None else [subject.case, BENCHMARK_VERSION]
        # By content: where a model lies does not count.
        asked = {role: {name: told for name, told in of.items() if name != "id"} for role, of in self.facts.items()}
        return content_key({"run": run, "judged": judged, "case": case_of, "scorers": asked})

    def score(
        self, subject: StudySubject, pictures: Mapping[str, tuple[str, Image.Image]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Scores of some pictures of one subject, as they are found, some pictures at a time.

        Args:
            subject: whose.
            pictures: by key, each with its prompt.
        """
        of_image: dict[str, list[str]] = {}
        for key, (_, image) in pictures.items():
            of_image.setdefault(pixel_hash(image), []).append(key)
        prompts = sorted({prompt for prompt, _ in pictures.values()})
        texts = dict(zip(prompts, self.clip.embed_texts(prompts), strict=True))
        photos = photos_judged(subject)
        sought = self.clip.embed_images(photos)
        sought_dino = None if self.dino is None else self.dino.embed_images(photos)
        for keys in split_evenly(list(of_image.values()), _AT_ONCE):
            images = [pictures[of_one[0]][1] for of_one in keys]
            seen = self.clip.embed_images(images)
            alike, alike_dino = _alignment(seen, sought), None
            if self.dino is not None and sought_dino is not None:
                alike_dino = _alignment(self.dino.embed_images(images), sought_dino)
            verdicts = self._verdicts(subject, images, prompts)
            for at, of_one in enumerate(keys):
                for key in of_one:
                    prompt = pictures[key][0]
                    yield (
                        key,
                        {
                            "text_alignment": float(seen[at] @ texts[prompt]),
                            "image_alignment": float(alike[at]),
                            "dino_alignment": None if alike_dino is None else float(alike_dino[at]),
                            **verdicts[at][prompt],
                        },
                    )

    def _verdicts(
        self, subject: StudySubject, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> list[dict[str, dict[str, bool | None]]]:
        """For each picture, what is right in it by each prompt; nothing is known outside the embedded world."""
        nothing: dict[str, bool | None] = dict.fromkeys(VERDICTS)
        if subject.case is None:
            return [dict.fromkeys(prompts, nothing)] * len(images)
        told = case(subject.case)
        tasks = {task.prompt: task for task in told.tasks}
        with torch.no_grad():
            readings = self.probe.read(images)
        found: list[dict[str, dict[str, bool | None]]] = []
        for reading in readings:
            judged = {prompt: judge(reading, told, tasks[prompt]) for prompt in prompts}
            found.append({p: {"identity": v.identity, "scene": v.scene, "both": v.both} for p, v in judged.items()})
        return found


def photos_judged(subject: StudySubject) -> tuple[Image.Image, ...]:
    """The photos that a subject's pictures are compared with."""
    return subject.judged or subject.references


@cache
def load_scorers(clip: str, dino: str, device: str = "cpu") -> Scorers:
    """Those who judge; loaded once in a process.

    Args:
        clip: a folder or hub id; `diorama` is the embedded one.
        dino: likewise, of a self-supervised vision transformer; `none` is none, and so is nothing.
        device: where they work.

    Raises:
        SamecastError: one cannot be loaded.
    """
    with quiet_libraries():
        folder, revision = locate(EMBEDDED / "clip" if clip == EMBEDDED_MODEL else clip)
        scorer = load_clip(folder, device)
        probe = {"revision": file_revision(WEIGHTS / "probe.safetensors")}
        facts: dict[str, Any] = {"clip": {"id": clip, "revision": revision, **scorer.describe()}, "probe": probe}
        beside = None
        if dino not in ("", NO_DINO):
            folder, revision = locate(EMBEDDED / "vit" if dino == EMBEDDED_MODEL else dino)
            beside = load_vit(folder, device)
            facts["dino"] = {"id": dino, "revision": revision, **beside.describe()}
    return Scorers(scorer, beside, load_probe(), facts)


def _alignment(pictures: Tensor, photos: Tensor) -> Tensor:
    """Mean cosine of each picture with all photos."""
    return (pictures @ photos.T).mean(-1)
