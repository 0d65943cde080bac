"""Which cross-attention maps show where the subject is? Measured on the embedded world, where the true mask is known.

For held-out references, each inverted and looked at under the caption "a photo of a {noun}": the IoU of the found mask
with the true one, for maps of the encoder, the middle, the decoder, each part of either (one resolution of one stage),
the default layers (MasaCtrl's on Stable Diffusion) and all layers; over the whole run and by windows of steps; at
MasaCtrl's threshold of 0.1, at Otsu's, and at the best of 19 thresholds for each source of maps. It answers the first
question of the AIKU study.

    python -m benchmarks.masks [--count 48] [--steps 50] [--out docs]

With --out it writes masks.md and pictures/masks.png into that folder.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from textwrap import wrap

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

import samecast as sc
from samecast.core.layers import Layer
from samecast.core.steps import Steps
from samecast.core.tokens import MASACTRL_THRESHOLD, SubjectTokens
from samecast.diorama.benchmark import case
from samecast.diorama.renderer import Picture
from samecast.render import FoundMask
from samecast.render.found import overlay
from samecast.report.grid import draw_grid
from samecast.report.panels import Panel, Row

THRESHOLDS = tuple(round(0.05 * number, 2) for number in range(1, 20))
DEFAULT = "default layers"
PICTURES_SHOWN = 4
STAGES = {"down": "encoder", "mid": "mid", "up": "decoder"}


@dataclass(frozen=True)
class Study:
    """What to measure."""

    model: str = "diorama"
    """A directory, a hub id, a single file, or the embedded model."""

    count: int = 12
    """References; each is of a held-out subject of its own, the six classes in turn."""

    steps: int = 50
    """Steps of the inversion."""

    out: Path | None = None
    """Folder for masks.md and pictures/masks.png; without it the table is printed only."""


@dataclass(frozen=True)
class Reference:
    """One photo and its truth."""

    noun: str
    picture: Picture


@dataclass(frozen=True)
class Scores:
    """Mean IoU over the references: at MasaCtrl's threshold, at Otsu's, and at the best one, with that threshold."""

    fixed: float
    otsu: float
    best: float
    best_threshold: float


@dataclass(frozen=True)
class Shown:
    """Of one photo: the mask of the default layers at MasaCtrl's threshold, the best map, and that map's mask."""

    usual: NDArray[np.bool_]
    best_map: Image.Image
    best: NDArray[np.bool_]


Findings = dict[tuple[str, str], Scores]
"""By the maps' source and the window of steps."""


def sources_of(layers: Sequence[Layer]) -> dict[str, str]:
    """The sources of maps by name, as layer selectors: stages, their parts of one resolution, and all."""
    stages = [STAGES[stage] for stage in dict.fromkeys(layer.stage for layer in layers)]
    found = {DEFAULT: ""} | {stage: stage for stage in stages} | {"all": "all"}
    for (stage, side), part in groupby(layers, key=lambda layer: (layer.stage, layer.resolution)):
        indices = [layer.index for layer in part]
        if stage != "mid":
            found[f"{STAGES[stage]} @{side} ({indices[0]}-{indices[-1]})"] = f"{indices[0]}-{indices[-1]}"
    return found


def windows_of(steps: int) -> dict[str, Steps]:
    """The whole run and its fifths, or as many windows as there are steps where these are fewer."""
    edges = [round(steps * number / min(5, steps)) for number in range(min(5, steps) + 1)]
    parts = [Steps(start, end - 1) for start, end in pairwise(edges)]
    return {"all steps": Steps()} | {f"{part.start}-{part.final}": part for part in parts}


def references(count: int, size: int) -> list[Reference]:
    """The first photo of as many of the benchmark's held-out subjects."""
    cases = [case(number) for number in range(count)]
    return [Reference(each.noun, each.photos(size)[0]) for each in cases]


def iou(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Intersection over union, 0 to 1; two empty masks agree."""
    union = int((found | true).sum())
    return 1.0 if union == 0 else int((found & true).sum()) / union


def find(model: sc.Model, photos: Sequence[Reference], tokens: Sequence[SubjectTokens], steps: int) -> list[FoundMask]:
    """All masks of all photos, photo by photo; photos of one class are looked at together."""
    masks: dict[int, tuple[FoundMask, ...]] = {}
    for noun in dict.fromkeys(photo.noun for photo in photos):
        mine = [index for index, photo in enumerate(photos) if photo.noun == noun]
        subject = sc.Subject(tuple(Image.fromarray(photos[index].picture.image) for index in mine), noun)
        search = model.find_masks(subject, tokens, settings=sc.RenderSettings(num_inference_steps=steps))
        for number, index in enumerate(mine, start=1):
            masks[index] = tuple(found for found in search.masks if found.number == number)
    return [found for index in range(len(photos)) for found in masks[index]]


def measure(model: sc.Model, photos: Sequence[Reference], steps: int) -> tuple[Findings, list[Shown]]:
    """The scores of every source in every window; and for each photo MasaCtrl's mask and that of the best maps."""
    sources = sources_of([bound.layer for bound in model.backbone.cross_attention()])
    windows = windows_of(steps)
    asked = {
        SubjectTokens(layers=selector, steps=window, threshold=threshold): (name, span)
        for name, selector in sources.items()
        for span, window in windows.items()
        for threshold in (MASACTRL_THRESHOLD, "otsu")
    }
    found = find(model, photos, list(asked), steps)
    by_tokens: dict[SubjectTokens, list[FoundMask]] = {}
    for mask in found:
        by_tokens.setdefault(mask.tokens, []).append(mask)
    true = [photo.picture.mask for photo in photos]
    findings: Findings = {}
    for tokens, place in asked.items():
        if tokens.threshold != "otsu":
            continue
        otsu = by_tokens[tokens]
        fixed = by_tokens[replace(tokens, threshold=MASACTRL_THRESHOLD)]
        maps = [np.asarray(mask.map, dtype=np.float64) / 255 for mask in otsu]
        by_threshold = {
            threshold: _mean(iou(values >= threshold, each) for values, each in zip(maps, true, strict=True))
            for threshold in THRESHOLDS
        }
        best = max(by_threshold, key=lambda threshold: by_threshold[threshold])
        findings[place] = Scores(
            _mean(iou(np.asarray(mask.mask) > 0, each) for mask, each in zip(fixed, true, strict=True)),
            _mean(iou(np.asarray(mask.mask) > 0, each) for mask, each in zip(otsu, true, strict=True)),
            by_threshold[best],
            best,
        )
    place = best_of(findings)
    tokens = next(tokens for tokens, at in asked.items() if at == place)
    shown: list[Shown] = []
    for usual, best in zip(by_tokens[SubjectTokens()], by_tokens[tokens], strict=True):
        values = np.asarray(best.map, dtype=np.float64) / 255
        shown.append(Shown(np.asarray(usual.mask) > 0, best.map, values >= findings[place].best_threshold))
    return findings, shown


def best_of(findings: Findings) -> tuple[str, str]:
    """The source and window with the highest IoU at their best threshold."""
    return max(findings, key=lambda place: findings[place].best)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def table(
    findings: Findings, photos: Sequence[Reference], windows: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names and rows: each source's scores over all steps, then its best IoU by window; last a full mask's."""
    spans = [span for span in windows if span != "all steps"]
    columns = ("maps from", "at 0.1", "Otsu", "best", "at threshold", *(f"steps {span}" for span in spans))
    rows: list[tuple[str, ...]] = []
    for source in dict.fromkeys(name for name, _ in findings):
        whole = findings[source, "all steps"]
        by_window = [f"{findings[source, span].best:.3f}" for span in spans]
        scores = [f"{value:.3f}" for value in (whole.fixed, whole.otsu, whole.best)]
        rows.append((source, *scores, f"{whole.best_threshold:.2f}", *by_window))
    full = f"{_mean(float(photo.picture.mask.mean()) for photo in photos):.3f}"
    rows.append(("everything", full, full, full, "", *("" for _ in spans)))
    return columns, rows


def picture(photos: Sequence[Reference], shown: Sequence[Shown]) -> Image.Image:
    """Some photos with their true mask, MasaCtrl's, and the best map and its mask."""
    rows: list[Row] = []
    for photo, found in list(zip(photos, shown, strict=True))[:PICTURES_SHOWN]:
        image, true = Image.fromarray(photo.picture.image), photo.picture.mask

        def over(mask: NDArray[np.bool_], image: Image.Image = image) -> Image.Image:
            return overlay(image, Image.fromarray(mask.astype(np.uint8) * 255))

        panels = (
            Panel(image, f"a {photo.noun}"),
            Panel(over(true), "true mask"),
            Panel(over(found.usual), f"default layers, MasaCtrl's threshold, IoU {iou(found.usual, true):.2f}"),
            Panel(found.best_map.convert("RGB"), "the best maps"),
            Panel(over(found.best), f"their mask, IoU {iou(found.best, true):.2f}"),
        )
        rows.append(Row(panels))
    return draw_grid(rows)


def page(study: Study, findings: Findings, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The findings as a page of the documentation."""
    best = best_of(findings)
    data = (
        "Masks from cross-attention maps of the class noun, against the true masks of the embedded world: mean IoU"
        f" over {study.count} photos of held-out subjects, each inverted in {study.steps} steps under the caption"
        ' "a photo of a {noun}".',
        f"Best of all: {best[0]}, {best[1]}, threshold {findings[best].best_threshold:.2f}:"
        f" IoU {findings[best].best:.3f}.",
        "Maps are averaged over heads, layers, the word's tokens and steps, and normalised to 0..1. *best* takes, for"
        " each row, the threshold with the highest mean IoU, which measures the information in the map; *at 0.1* is"
        " MasaCtrl's threshold. The last columns use maps of those steps only, at their best threshold; step 0 is"
        " the noisiest. *everything* is the mask that is white all over, the baseline without information.",
    )
    opening, summary, reading = ("\n".join(wrap(text, 120)) for text in data)
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    cells = "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
    command = f"python -m benchmarks.masks --model {study.model} --count {study.count} --steps {study.steps} --out docs"
    shown = "![Photos, true masks, maps and found masks](pictures/masks.png)"
    parts = ("# Which maps show the subject?", opening, summary, cells, reading, shown, f"Made by `{command}`.")
    return "\n\n".join(parts) + "\n"


def main(study: Study) -> None:
    """Measures, prints the table, and writes the page if asked."""
    model = sc.load(study.model)
    photos = references(study.count, model.backbone.default_size)
    findings, shown = measure(model, photos, study.steps)
    columns, rows = table(findings, photos, list(windows_of(study.steps)))
    printed = Table(title=f"mean IoU with the true mask, {study.count} references, {study.steps} steps")
    for number, column in enumerate(columns):
        printed.add_column(column, justify="right" if number else "left")
    for row in rows:
        printed.add_row(*row)
    Console().print(printed)
    if study.out is not None:
        (study.out / "pictures").mkdir(parents=True, exist_ok=True)
        picture(photos, shown).save(study.out / "pictures" / "masks.png")
        (study.out / "masks.md").write_text(page(study, findings, columns, rows), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
