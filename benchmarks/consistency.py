"""What the Diorama benchmark finds: placements of mutual self-attention, on whole photos and on partly hidden ones.

Runs `samecast diorama benchmark` twice, keeps every unit in a folder (a run that was stopped goes on), prints both
tables and, with --out, writes benchmark.md and pictures/benchmark.png into that folder. Besides, it asks what the cheap
scores are worth: how often a picture that shows the very subject has the higher image alignment than one of the same
subject that does not.

    python -m benchmarks.consistency [--subjects 32] [--hidden 32] [--prompts 5] [--out docs]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap

import numpy as np
import tyro
from jinja2 import Environment
from rich.console import Console
from rich.table import Table

import samecast as sc
from samecast.cli.watching import report_failures, watching
from samecast.compare.benchmark import Benchmark, Judgement
from samecast.compare.figures import gain, in_points, mean
from samecast.compare.job import Contest, run_contest
from samecast.compare.methods import FULL_RUN, Method, placements
from samecast.compare.page import mean_in_words, shown_metrics
from samecast.compare.results import write_results
from samecast.diorama.benchmark import BENCHMARK_VERSION, cases
from samecast.disk import replace_file, write_text
from samecast.metrics import make_metrics

SUBJECT = ("image_alignment", "dino_alignment")
COLUMNS = ("method", *(metric.title for metric in shown_metrics()))
ITEMS = {
    "class": "kind",
    "pattern": "pattern",
    "accessory": "accessory",
    "colour 1": "base_error",
    "colour 2": "second_error",
    "pose": "pose",
    "view": "view",
    "background": "background",
}
PAGE = """\
# The benchmark

{{ opening }}

## Protocol

Subject *n* is determined by the benchmark's version and *n*: class (six in turn), proportions, two colours anywhere in
Lab, pattern, accessory. A method gets four photos of it, drawn in milliseconds, and prompts that name the class and a
scene ("a dog sitting in the snow, seen from the left"), but never a colour, a pattern or an accessory. It makes one
picture for each prompt, and [the probe](diorama.md#the-probe) reads it:

- *same*: class, pattern and accessory are the subject's, and both colours lie within 10 CIEDE2000 of its own;
- *scene*: pose, view and background are the prompt's;
- *both*, the main measure: neither a copy of the photo nor a picture of another dog counts.

A second set of photos shows the subject 30-60% hidden, cut off by the frame or behind a board.

```console
samecast diorama benchmark --subjects 32 --prompts 5
samecast diorama benchmark --subjects 32 --prompts 5 --hidden
```

The folder then holds every picture, a row of verdicts and scores for each (`scores.csv`) and the means
(`summary.json`); the same command resumes a stopped run without repeating finished work.

## Running another method

```python
from samecast.diorama.benchmark import cases, judge, shares
from samecast.diorama.probe import load_probe

probe, verdicts = load_probe(), []
for subject in cases(2):
    photos = [photo.image for photo in subject.photos()]  # what the method may see; hidden_photos() for the other set
    for task in subject.tasks[:3]:
        image = photos[0]  # your method: photos, task.prompt, task.seed -> picture, uint8 (height, width, 3)
        verdicts.append(judge(probe.read([image])[0], subject, task))
print(shares(verdicts))  # copying the photo: identity right, scene wrong
```

A method needs a model that knows this world: the embedded pipeline loads in stock diffusers from
`src/samecast/weights/diorama` and is small enough to train further on a laptop. Unlike Stable Diffusion it was trained
to take the subject's appearance from what its self-attention reads (see the
[model card](../src/samecast/weights/README.md)): compare methods within it, and do not transfer figures to other
models. Report the benchmark's version ({{ version }}), the numbers of subjects and prompts, and intervals over
subjects, as prompts of one subject are not independent.

## Results

{{ shown }}

On photos that show the subject 30-60% hidden{{ some }}:

{{ hidden }}

{{ reading }}

Item by item, on whole photos: shares right, and how far the two colours are from the subject's (mean CIEDE2000).

{{ items }}

![Two pictures of each of three subjects under every method](pictures/benchmark.png)

Made by `{{ command }}`.
Model `{{ model }}`, {{ revision }}.
"""


@dataclass(frozen=True)
class Consistency:
    """What to measure."""

    model: str = "diorama"
    """Any model that knows the embedded world."""

    subjects: int = 32
    """Of the benchmark's 32."""

    hidden: int | None = None
    """Of them, how many also from photos that are partly hidden; None is all."""

    prompts: int = 5
    """Of each subject's 20."""

    steps: int = FULL_RUN
    """Denoising steps."""

    guidance: float | None = None
    """Scale of classifier-free guidance; the model's own unless given."""

    guidance_rescale: float = 0.0
    """How far guidance is kept from raising contrast, 0..1."""

    work: Path = Path("runs/consistency")
    """Folder that keeps pictures and verdicts."""

    out: Path | None = None
    """Folder for benchmark.md and pictures/benchmark.png; without it the tables are printed only."""


def told_apart(judgements: Sequence[Judgement], measure: str) -> float:
    """How often, of two pictures of one subject, one right in identity and one not, the right one scores higher: 0.5 is
    chance; ties count half. NaN where no subject has both."""
    wins: list[float] = []
    for subject in dict.fromkeys(judgement.subject for judgement in judgements):
        of = [judgement for judgement in judgements if judgement.subject == subject]
        right = np.array([judged.scores[measure] for judged in of if judged.scores["identity"]])
        wrong = np.array([judged.scores[measure] for judged in of if not judged.scores["identity"]])
        if len(right) and len(wrong):
            wins += list(((right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)).ravel())
    return float(np.mean(wins)) if wins else float("nan")


def rows_of(judgements: Sequence[Judgement], methods: Sequence[Method]) -> list[tuple[str, ...]]:
    """A row for each method: shares in percent with 95% intervals over subjects, then cosines."""
    return [
        (method.title, *(mean_in_words(judgements, method, metric) for metric in shown_metrics())) for method in methods
    ]


def item_rows(judgements: Sequence[Judgement], methods: Sequence[Method]) -> list[tuple[str, ...]]:
    """A row for each method: what verdicts are made of, one by one."""
    rows: list[tuple[str, ...]] = []
    for method in methods:
        means = {item: mean(judgements, method.name, item).value for item in ITEMS.values()}
        rows.append((method.title, *(f"{v:.1f}" if "error" in item else f"{v:.0%}" for item, v in means.items())))
    return rows


def cells(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    """The rows as a table of the page."""
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def reading(shown: Sequence[Judgement], hidden: Sequence[Judgement]) -> str:
    """What the figures say, in sentences."""

    def points(of: Sequence[Judgement], method: str, measure: str) -> str:
        return in_points(gain(of, method, "prompt", measure))

    def sides(method: str) -> str:
        return f"{points(shown, method, 'identity')} in *same* and {points(shown, method, 'scene')} in *scene*"

    apart = {measure: told_apart(shown, measure) for measure in SUBJECT}
    worth = (
        "What the cheap scores are worth: of two pictures of one subject, one that shows it and one that does not, the"
        f" right one has the higher image alignment in {apart['image_alignment']:.0%} (CLIP) and"
        f" {apart['dino_alignment']:.0%} (ViT) of all pairs. Chance is 50%."
    )
    if np.isnan(apart["image_alignment"]):
        worth = "What the cheap scores are worth cannot be measured: no subject has both right and wrong pictures."
    data = (
        f"Against the prompt alone, decoder layers bring {sides('decoder')}; stopped in the middle of the run,"
        f" {sides('decoder-25')}; encoder layers {sides('encoder')}; another subject's photo {sides('shuffled')}."
        " In brackets are 95% intervals over subjects (Student).",
        f"From hidden photos, *same*: decoder layers {points(hidden, 'decoder', 'identity')}, encoder layers"
        f" {points(hidden, 'encoder', 'identity')}, all layers {points(hidden, 'all', 'identity')}.",
        worth,
    )
    return "\n\n".join("\n".join(wrap(text, 120)) for text in data)


def page(asked: Consistency, model: sc.Model, runs: Mapping[bool, Sequence[Judgement]]) -> str:
    """The findings as a page of the documentation."""
    methods = placements(asked.steps)
    opening = (
        f"Does a picture show the same subject, in the requested scene? This benchmark has ground truth:"
        f" {asked.subjects} subjects of the [embedded world](diorama.md) that no model was trained on, and a probe that"
        " reads the content of pictures. It downloads nothing and runs on a laptop."
    )
    command = f"python -m benchmarks.consistency --subjects {asked.subjects} --prompts {asked.prompts}"
    command += f" --hidden {asked.hidden}" if asked.hidden else ""
    command += f" --steps {asked.steps}" + (f" --guidance {asked.guidance:g}" if asked.guidance is not None else "")
    command += f" --guidance-rescale {asked.guidance_rescale:g}" if asked.guidance_rescale else ""
    command += " --out docs"
    identity = model.backbone.identity
    return (
        Environment(keep_trailing_newline=True, autoescape=False)
        .from_string(PAGE)
        .render(
            opening="\n".join(wrap(opening, 120)),
            version=BENCHMARK_VERSION,
            shown=cells(rows_of(runs[False], methods)),
            hidden=cells(rows_of(runs[True], methods)),
            some=f", of the first {asked.hidden} subjects" if asked.hidden else "",
            reading=reading(runs[False], runs[True]),
            items=cells(item_rows(runs[False], methods), ("method", *ITEMS)),
            command=command,
            model=identity.id,
            revision=identity.revision[:19],
        )
    )


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    printed = Table(title=title)
    for number, column in enumerate(columns):
        printed.add_column(column, justify="right" if number else "left")
    for row in rows:
        printed.add_row(*row)
    Console().print(printed)


def main(asked: Consistency) -> None:
    """Measures, prints both tables, and writes the page if asked."""
    model = sc.load(asked.model)
    methods, subjects = placements(asked.steps), cases(asked.subjects)
    settings = sc.RenderSettings(
        num_inference_steps=asked.steps, guidance_scale=asked.guidance, guidance_rescale=asked.guidance_rescale
    )
    contest = Contest(asked.model, settings, asked.prompts)
    benchmark = Benchmark(model, make_metrics(contest.metrics), settings, asked.prompts)
    runs: dict[bool, list[Judgement]] = {}
    for hidden in (False, True):
        place, bench = asked.work / ("hidden" if hidden else "shown"), replace(benchmark, hidden=hidden)
        with watching("units") as showing:
            some = subjects[: asked.hidden] if hidden else subjects
            found = run_contest(place, contest, bench, some, methods, watch=showing.watch())
        if found.failures:
            report_failures(found.failures, place / "failures")
            raise SystemExit(1)  # means of those that are left would favour what failed on the hard ones
        runs[hidden] = found.judgements
        write_results(place, bench, runs[hidden], methods)
        title = f"{'hidden' if hidden else 'whole'} photos, {len(runs[hidden]) // len(methods)} pictures"
        show(title, COLUMNS, rows_of(runs[hidden], methods))
        show("item by item", ("method", *ITEMS), item_rows(runs[hidden], methods))
    Console().print(reading(runs[False], runs[True]))
    if asked.out is not None:
        picture = asked.work / "shown" / "grid.png"
        replace_file(asked.out / "pictures" / "benchmark.png", lambda part: part.write_bytes(picture.read_bytes()))
        write_text(asked.out / "benchmark.md", page(asked, model, runs))


if __name__ == "__main__":
    main(tyro.cli(Consistency, description=__doc__))
