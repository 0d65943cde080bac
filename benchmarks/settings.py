"""Which settings should each method be compared at? `python -m benchmarks.settings` tries several for every method of
`samecast compare` on practice subjects, which are in neither the training nor the benchmark, and tells the best.

Each round judges the candidates that are left on twice as many subjects and keeps the better half, by how much of the
subject is right in the scene asked for, which few pictures tell more surely than *both*, a share of all or nothing.
What is finished is kept in the work folder, and a run that was stopped goes on. What it finds is put by hand into
`samecast.learn.settings` and `samecast.compare.methods`.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import samecast as sc
from samecast.attention.methods import masactrl
from samecast.cli.executors import device_here, lasting, make_executor
from samecast.cli.options.common import ExecutorOptions
from samecast.cli.watching import report_failures, watching
from samecast.compare.benchmark import Judgement
from samecast.compare.job import Contest, run_contest
from samecast.compare.methods import Method
from samecast.compare.results import summary
from samecast.diorama.benchmark import practice_case
from samecast.diorama.probe import SAME_COLOUR
from samecast.disk import write_text
from samecast.errors import SamecastError
from samecast.learn.settings import LearnSettings, default_settings
from samecast.learn.settings import Method as Training

GRIDS: dict[Training, tuple[dict[str, tuple[Any, ...]], ...]] = {
    "textual-inversion": ({"token_rate": (1e-3, 2e-3, 5e-3), "photos_seen": (1200,)},),
    "lora": (
        {"learning_rate": (3e-4, 1e-3, 2e-3), "token_rate": (1e-3,), "prior_weight": (0.0,), "photos_seen": (800,)},
    ),
    "dreambooth": ({"learning_rate": (1e-5, 3e-5, 6e-5, 1.2e-4), "token_rate": (1e-3,), "photos_seen": (2000,)},),
    "custom-diffusion": (
        {
            "mode": ("crossattn",),
            "learning_rate": (1e-4, 2e-4, 4e-4),
            "token_rate": (1e-3,),
            "augment": ("none",),
            "photos_seen": (2000,),
        },
        {
            "mode": ("kv", "crossattn"),
            "learning_rate": (1e-5, 3e-5),
            "token_rate": (1e-3,),
            "augment": ("none",),
            "photos_seen": (800,),
        },
    ),
}
"""What is tried of each training, on the embedded model: every combination within each grid."""

SPANS: tuple[tuple[int, int | None], ...] = ((0, 25), (0, None), (4, 25), (4, 35), (4, None))
"""Steps of control that are tried, of 50: the first, and the last, where None is the run's."""
STARTS: tuple[str | float, ...] = ("inverted", 0.5, "noise")
"""Where targets start; with training, the photo's latent and a blend are tried: from noise, reading carries little."""
STRENGTHS = (0.5, 1.0)
"""Of what was learnt, where attention is joined to it."""


def candidates(group: str, learning: LearnSettings | None = None) -> tuple[Method, ...]:
    """The settings of one method that are tried.

    Args:
        group: the method.
        learning: how Custom Diffusion learns where attention is joined to it; None is as it does by default.

    Raises:
        SamecastError: there is no such method.
    """
    if group in GRIDS:
        return tuple(_trainings(group))
    if group == "masactrl":
        return tuple(
            Method(f"{start}-{final or 'end'} from {init}", "", masactrl(start, final), init)
            for (start, final), init in product(SPANS, STARTS)
        )
    if group == "custom-diffusion-masactrl":
        learning = learning or default_settings("custom-diffusion", embedded=True)
        return tuple(
            Method(
                f"{start}-{final or 'end'} from {init}, strength {strength:g}",
                "",
                masactrl(start, final),
                init,
                learning=learning,
                strength=strength,
                photos=4,
            )
            for (start, final), init, strength in product(SPANS, STARTS[:2], STRENGTHS)
        )
    raise SamecastError(f"no method is called {group!r}; choose from {', '.join(groups())}")


def groups() -> tuple[str, ...]:
    """The methods whose settings can be tried."""
    return (*GRIDS, "masactrl", "custom-diffusion-masactrl")


def _trainings(group: Training) -> Iterator[Method]:
    base = default_settings(group, embedded=True)
    combinations = [(grid, values) for grid in GRIDS[group] for values in product(*grid.values())]
    for grid, values in combinations:
        chosen = dict(zip(grid, values, strict=True))
        name = ", ".join(f"{field} {value}" for field, value in chosen.items())
        yield Method(name, "", (), "noise", learning=replace(base, **chosen))


@dataclass(frozen=True)
class Settings(ExecutorOptions):
    """What to try, on any model that knows the embedded world."""

    methods: tuple[str, ...] = ()
    """Of textual-inversion, lora, dreambooth, custom-diffusion, masactrl, custom-diffusion-masactrl; all by default.
    The last learns by what is found for custom-diffusion, if that goes before it."""

    subjects: int = 8
    """Practice subjects in the last round."""

    prompts: int = 5
    """Scenes for each."""

    work: Path = Path("runs/settings")
    """Folder that keeps pictures, verdicts and concepts, and the means of each method's last round."""


def rounds(subjects: int) -> list[int]:
    """How many subjects each round asks: two at first, twice as many each time, all in the end."""
    found = [min(2, subjects)]
    while found[-1] < subjects:
        found.append(min(2 * found[-1], subjects))
    return found


def items_right(judged: Judgement) -> float:
    """The share of class, pattern, accessory and the two colours that are right, 0..1."""
    items = [judged.scores[name] for name in ("kind", "pattern", "accessory")]
    return float(np.mean([*items, *(judged.scores[f"{at}_error"] <= SAME_COLOUR for at in ("base", "second"))]))


def best_first(judgements: Sequence[Judgement], methods: Sequence[Method]) -> list[tuple[Method, dict[str, float]]]:
    """Methods with their means, the best first: by `partly`, how much of the subject is right in the scene asked for,
    and by both."""
    means = summary(judgements, methods)
    for method in methods:
        of = [items_right(judged) * judged.scores["scene"] for judged in judgements if judged.method == method.name]
        means[method.name]["partly"] = float(np.mean(of))
    order = ("partly", "both", "image_alignment")
    ranked = sorted(methods, key=lambda method: [means[method.name][measure] for measure in order], reverse=True)
    return [(method, means[method.name]) for method in ranked]


def main(asked: Settings) -> None:
    """Tries them, and prints a table for each method."""
    wanted = asked.methods or groups()
    for group in wanted:
        candidates(group)  # an unknown name stops the run before it begins
    if asked.dry_run:
        tell(asked, wanted)
        return
    executor = make_executor(asked)
    contest = Contest(lasting(asked.model), sc.RenderSettings(), asked.prompts, device=asked.device, dtype="float32")
    benchmark = replace(contest, device=device_here(asked)).benchmark()
    ranked: list[tuple[Method, dict[str, float]]] = []
    learning: LearnSettings | None = None
    with nullcontext() if executor is None else executor:
        for group in wanted:
            left = list(candidates(group, learning))
            for count in rounds(asked.subjects):
                subjects = [practice_case(number) for number in range(count)]
                with watching("units") as showing:
                    watch = showing.watch()
                    found = run_contest(asked.work, contest, benchmark, subjects, left, executor=executor, watch=watch)
                if found.failures:
                    report_failures(found.failures, asked.work / "failures")
                    raise SystemExit(1)  # means of those that are left would favour what failed on the hard ones
                ranked = best_first(found.judgements, left)
                show(f"{group}: {count} subjects of {asked.prompts} prompts", ranked)
                left = [method for method, _ in ranked[: -(-len(ranked) // 2)]]
            if group == "custom-diffusion":
                learning = ranked[0][0].learning
            means = {method.name: means for method, means in ranked}
            write_text(asked.work / f"{group}.json", json.dumps(means, indent=2) + "\n")


def tell(asked: Settings, wanted: Sequence[str]) -> None:
    """Prints what it would take."""
    table = Table(title="what it would take")
    for heading in ("method", "candidates", "subjects", "pictures", "trainings"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for group in wanted:
        left = candidates(group)
        for count in rounds(asked.subjects):
            trained = len({method.learning for method in left if method.learning})
            data = (len(left), count, len(left) * count * asked.prompts, trained * count)
            table.add_row(group, *map(str, data))
            left = left[: -(-len(left) // 2)]
    Console().print(table)


def show(title: str, ranked: Sequence[tuple[Method, dict[str, float]]]) -> None:
    """Prints the candidates of a round."""
    table = Table(title=title)
    for heading in ("settings", "same", "scene", "both", "partly", "seconds"):
        table.add_column(heading, justify="left" if heading == "settings" else "right")
    for method, means in ranked:
        shares = (f"{means[measure]:.0%}" for measure in ("identity", "scene", "both", "partly"))
        table.add_row(method.name, *shares, f"{means['training_seconds']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
