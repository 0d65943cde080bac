"""Scores of a study's pictures: CLIP's and DINO's alignment, and in the embedded world the probe's truth.

Each feature is computed once for each distinct picture. Several photos of a subject: the mean over pairs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from samecast.diorama.benchmark import BENCHMARK_VERSION, case, judge
from samecast.diorama.probe import WEIGHTS, Probe, Reading, load_probe
from samecast.experiments.store import content_key
from samecast.models.fingerprint import file_revision
from samecast.models.loading import EMBEDDED as EMBEDDED_MODEL
from samecast.models.quiet import quiet_libraries
from samecast.records import pixel_hash
from samecast.score.alignment import (
    EMBEDDED,
    ClipScorer,
    ImageScorer,
    describe_clip,
    describe_vit,
    load_clip,
    load_vit,
)
from samecast.score.models import locate
from samecast.study.measures import VERDICTS
from samecast.study.photos import Photos, hashes_of
from samecast.study.recipe import Cast
from samecast.study.subjects import StudySubject

REAL_CLIP, REAL_DINO = "openai/clip-vit-large-patch14", "facebook/dino-vits16"
NO_DINO = "none"
_AT_ONCE = 64
"""Pictures that are scored before any score is told, and kept."""
Judged = tuple[str, str, Image.Image]
"""A picture to score: its key, its prompt, and what it shows."""


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

    def score(self, subject: StudySubject, pictures: Iterable[Judged]) -> Iterator[dict[str, dict[str, Any]]]:
        """Scores of some pictures of one subject by their keys, some pictures at a time as they come.

        Args:
            subject: whose.
            pictures: read one after another; those that look the same are looked at once.
        """
        texts, seen, photos = dict[str, Tensor](), dict[str, _Seen](), None
        left = iter(pictures)
        while chunk := list(islice(left, _AT_ONCE)):
            photos = photos or self._photos(subject)
            hashes = [pixel_hash(image) for _, _, image in chunk]
            new = {data: image for data, (_, _, image) in zip(hashes, chunk, strict=True) if data not in seen}
            if new:
                seen |= dict(zip(new, self._map_spec(subject, list(new.values()), *photos), strict=True))
            prompts = [prompt for prompt in dict.fromkeys(prompt for _, prompt, _ in chunk) if prompt not in texts]
            if prompts:
                texts |= dict(zip(prompts, self.clip.embed_texts(prompts), strict=True))
            yield {
                key: self._told(subject, seen[data], prompt, texts[prompt])
                for data, (key, prompt, _) in zip(hashes, chunk, strict=True)
            }

    def _photos(self, subject: StudySubject) -> tuple[Tensor, Tensor | None]:
        photos = list(photos_judged(subject))
        return self.clip.embed_images(photos), None if self.dino is None else self.dino.embed_images(photos)

    def _map_spec(
        self, subject: StudySubject, images: Sequence[Image.Image], photos: Tensor, photos_dino: Tensor | None
    ) -> "list[_Seen]":
        """What is to be seen in pictures whatever their prompt: one look of each model at all of them."""
        features = self.clip.embed_images(images)
        alike, alike_dino = _alignment(features, photos), None
        if self.dino is not None and photos_dino is not None:
            alike_dino = _alignment(self.dino.embed_images(images), photos_dino)
        readings: list[Reading] = []
        if subject.case is not None:
            with torch.no_grad():
                readings = self.probe.read(images)
        return [
            _Seen(
                features[at],
                float(alike[at]),
                None if alike_dino is None else float(alike_dino[at]),
                readings[at] if readings else None,
            )
            for at in range(len(images))
        ]

    def _told(self, subject: StudySubject, seen: "_Seen", prompt: str, text: Tensor) -> dict[str, Any]:
        """One picture's scores; what is right in it is known in the embedded world alone."""
        verdicts: dict[str, bool | None] = dict.fromkeys(VERDICTS)
        if subject.case is not None and seen.reading is not None:
            data = case(subject.case)
            task = next(task for task in data.tasks if task.prompt == prompt)
            judged = judge(seen.reading, data, task)
            verdicts = {"identity": judged.identity, "scene": judged.scene, "both": judged.both}
        alignments = {"image_alignment": seen.image_alignment, "dino_alignment": seen.dino_alignment}
        return {"text_alignment": float(seen.features @ text), **alignments, **verdicts}


@dataclass(frozen=True)
class _Seen:
    """What is to be seen in a picture: CLIP's features, how alike it is to the photos, and what the probe read."""

    features: Tensor
    image_alignment: float
    dino_alignment: float | None
    reading: Reading | None


def score_key(facts: Mapping[str, Any], subject: StudySubject, cast: Cast) -> str:
    """Of the scores of all pictures of one photo, prompt and seed, by one set of scorers."""
    case_of = None if subject.case is None else [subject.case, BENCHMARK_VERSION]
    # By content: where a model lies does not count.
    asked = {role: {name: data for name, data in of.items() if name != "id"} for role, of in facts.items()}
    return content_key(
        {
            "photos": cast.photos,
            "prompt": cast.prompt,
            "seed": cast.seed,
            "judged": hashes_of(photos_judged(subject)),
            "case": case_of,
            "scorers": asked,
        }
    )


def photos_judged(subject: StudySubject) -> Photos:
    """The photos that a subject's pictures are compared with."""
    return subject.judged or subject.references


@cache
def scorer_facts(clip: str, dino: str) -> Mapping[str, Any]:
    """Which models score, and how they are asked; part of every score's key. Loads no weights.

    Args:
        clip: a folder or hub id; `diorama` is the embedded one.
        dino: likewise, of a self-supervised vision transformer; `none` is none, and so is nothing.

    Raises:
        SamecastError: one cannot be found.
    """
    with quiet_libraries():
        folder, revision = locate(_place(clip, "clip"))
        facts: dict[str, Any] = {"clip": {"id": clip, "revision": revision, **describe_clip(folder)}}
        facts["probe"] = {"revision": file_revision(WEIGHTS / "probe.safetensors")}
        if dino not in ("", NO_DINO):
            folder, revision = locate(_place(dino, "vit"))
            facts["dino"] = {"id": dino, "revision": revision, **describe_vit(folder)}
    return facts


@cache
def load_scorers(clip: str, dino: str, device: str = "cpu") -> Scorers:
    """Those who judge; loaded once in a process. Arguments and errors as for `scorer_facts`, and where they work."""
    facts = scorer_facts(clip, dino)
    with quiet_libraries():
        scorer = load_clip(locate(_place(clip, "clip"))[0], device)
        beside = load_vit(locate(_place(dino, "vit"))[0], device) if "dino" in facts else None
    return Scorers(scorer, beside, load_probe(), facts)


def _place(model: str, embedded: str) -> str | Path:
    return EMBEDDED / embedded if model == EMBEDDED_MODEL else model


def _alignment(pictures: Tensor, photos: Tensor) -> Tensor:
    """Mean cosine of each picture with all photos."""
    return (pictures @ photos.T).mean(-1)
