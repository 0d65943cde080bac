"""Two named subjects in one picture: `cast` against no control and against reading both subjects' photos everywhere.

    python -m benchmarks.cast --pairs 8 --prompts 2 --steps 20 --out DIR

Pairs, prompts and scenes are those of `samecast compare` (`samecast.compare.duos`): pictures twice as wide as high, the
first subject on the left, each half read by the probe. Photos are padded to the pictures' shape. Prints the shares of
pictures with the right classes, with one or both subjects the same, and with the right scene; writes `cast.png`,
the first picture of each of the first four pairs, and `cast.json`.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import samecast as sc
from samecast.compare.duos import DuoJudgement
from samecast.diorama.benchmark import DuoCase, duo_case
from samecast.diorama.probe import judge
from samecast.metrics.truth import readings
from samecast.report.grid import draw_grid
from samecast.report.panels import Mark, Panel, Row

SIDE, SHOWN = 128, 4
NAMES = ("rex", "tom")
WAYS: dict[str, sc.Rules] = {"no control": (), "both read everywhere": sc.masactrl(), "cast": sc.cast()}


def subjects_of(case: DuoCase, photos: int) -> list[sc.Subject]:
    """The pair, named."""
    return [
        sc.Subject(tuple(Image.fromarray(photo.image) for photo in of.photos(SIDE)[:photos]), of.noun, name=name)
        for of, name in zip(case.subjects, NAMES, strict=True)
    ]


def prompt_of(prompt: str, case: DuoCase) -> str:
    """A pair's prompt with names in place of nouns."""
    for of, name in zip(case.subjects, NAMES, strict=True):
        prompt = prompt.replace(f"a {of.noun}", f"a {{{name}}}", 1)
    return prompt


def judged(case: DuoCase, way: str, model: sc.Model, options: argparse.Namespace) -> list[tuple[DuoJudgement, Any]]:
    """The pictures of a pair under a way, with the probe's verdicts."""
    tasks = case.tasks[: options.prompts]
    out = model.render(
        subjects_of(case, options.photos),
        [prompt_of(task.prompt, case) for task in tasks],
        rules=WAYS[way],
        num_inference_steps=options.steps,
        seed=tuple(task.seed for task in tasks),
        height=SIDE,
        width=2 * SIDE,
        fit="pad",
    )
    found: list[tuple[DuoJudgement, Any]] = []
    for task, image in zip(tasks, out.images, strict=True):
        seen = readings([image.crop((at, 0, at + SIDE, SIDE)) for at in (0, SIDE)])
        left, right = (judge(seen[at], case.subjects[at].identity, task.scenes[at]) for at in (0, 1))
        found.append((DuoJudgement(case.name, "prompt", task.prompt, task.seed, left, right, "", 0.0), image))
    return found


def main(words: list[str] | None = None) -> int:
    """Runs all pairs under all ways."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--photos", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    model, everything = sc.load(), dict[str, list[DuoJudgement]]()
    rows: list[Row] = []
    for number in range(options.pairs):
        case = duo_case(number)
        panels = [Panel(Image.fromarray(of.photos(SIDE)[0].image), "photo") for of in case.subjects]
        for way in WAYS:
            found = judged(case, way, model, options)
            everything.setdefault(way, []).extend(judgement for judgement, _ in found)
            judgement, image = found[0]
            marks = (Mark("left", judgement.left.identity), Mark("right", judgement.right.identity))
            panels.append(Panel(image, way, marks))
        if len(rows) < SHOWN:
            rows.append(Row(tuple(panels)))
        report = {way: [asdict(each) for each in judgements] for way, judgements in everything.items()}
        (options.out / "cast.json").write_text(json.dumps(report, indent=1) + "\n")
        draw_grid(rows).save(options.out / "cast.png")
    sys.stdout.write(table(everything))
    return 0


def table(everything: dict[str, list[DuoJudgement]]) -> str:
    """Shares of the pictures, and colour errors of both subjects, as a table of Markdown."""
    head = ("way", "classes", "same, each", "same, both", "scene", "colours right, each", "colour error")
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for way, judgements in everything.items():
        each = [verdict for judgement in judgements for verdict in (judgement.left, judgement.right)]
        shares = [
            np.mean([judgement.classes for judgement in judgements]),
            np.mean([judgement.one for judgement in judgements]),
            np.mean([judgement.identity for judgement in judgements]),
            np.mean([judgement.scene for judgement in judgements]),
            np.mean([verdict.colours for verdict in each]),
        ]
        error = np.mean([verdict.base_error for verdict in each])
        lines.append(f"| {way} | {' | '.join(f'{share:.1%}' for share in shares)} | {error:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
