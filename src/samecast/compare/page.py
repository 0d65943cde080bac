"""The comparison as a table and as a page of the documentation, with the command that reproduces it."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from textwrap import fill

from samecast.compare.benchmark import Benchmark, Judgement
from samecast.compare.duos import WAYS, DuoJudgement, means_of, ways_of
from samecast.compare.figures import in_percent, mean, seconds_and_size
from samecast.compare.methods import Method
from samecast.disk import replace_file, write_text
from samecast.metrics import BENCHMARK, Metric, metric_types
from samecast.metrics.statistics import METHODS
from samecast.report.page import Table


def table_of(
    judgements: Sequence[Judgement], methods: Sequence[Method], *, prompts: int, metrics: Sequence[type[Metric]] = ()
) -> Table:
    """The means of all methods: shares in percent with 95% intervals over subjects, other means, seconds and MB.

    Args:
        judgements: results of all subjects with all methods.
        methods: the methods in the order of the rows.
        prompts: number of prompts per subject.
        metrics: metrics in the order of the columns; empty for the default ones.
    """
    subjects = len({judgement.subject for judgement in judgements})
    columns = shown_metrics(metrics)
    described = (f"{m.title}: {m.description}" for m in columns if m.kind != "share")
    return Table(
        columns=("method", *(metric.title for metric in columns), "training", "file"),
        rows=tuple(_row(judgements, method, columns) for method in methods),
        caption=f"{subjects} held-out subjects, {prompts} scenes each; {', '.join([*described, 'intervals'])} 95%,"
        f" {METHODS['share']}, of differences {METHODS['difference']}",
    )


def shown_metrics(metrics: Sequence[type[Metric]] = ()) -> list[type[Metric]]:
    """The metrics that have a column in the tables."""
    return [metric for metric in metrics or metric_types(BENCHMARK) if not metric.is_detail]


def mean_in_words(judgements: Sequence[Judgement], method: Method, metric: type[Metric]) -> str:
    """A method's mean: a share in percent with its interval, anything else as a number."""
    found = mean(judgements, method.name, metric.column)
    return in_percent(found) if metric.kind == "share" else f"{found.value:.3f}"


def duo_table(judgements: Sequence[DuoJudgement], *, prompts: int) -> Table:
    """The means for two subjects in one scene, by way.

    Args:
        judgements: results of all pairs.
        prompts: number of prompts per pair.
    """
    pairs = len({judgement.duo for judgement in judgements})
    rows: list[tuple[str, ...]] = []
    for way in ways_of(judgements):
        means = means_of(judgements, way)
        shares = [f"{means[measure]:.1%}" for measure in ("classes", "one", "identity", "scene", "both")]
        rows.append((WAYS[way], *shares, f"{means['seconds']:.0f} s" if means["seconds"] else ""))
    return Table(
        columns=("way", "classes", "same, each", "same, both", "scene", "all", "training"),
        rows=tuple(rows),
        caption=f"{pairs} pairs of subjects in one picture, {prompts} scenes each",
    )


def write_page(
    docs: Path,
    pictures: Sequence[Path],
    tables: Sequence[Table],
    benchmark: Benchmark,
    learn_steps: int | None,
    methods: Sequence[str] = (),
    *,
    summing_up: str = "",
) -> Path:
    """Writes `compare.md` and its pictures (`pictures/compare.png`, `pictures/duos.png`), replacing what is there.

    Args:
        docs: the folder of the page.
        pictures: the comparison's grid, and that of pairs if there are any.
        tables: the tables, likewise.
        benchmark: the benchmark that was run.
        learn_steps: requested training steps.
        methods: requested methods; empty for all.
        summing_up: text below the first table.

    Returns:
        The path of the page.

    Raises:
        SamecastError: the page cannot be written.
    """
    for picture, name in zip(pictures, ("compare.png", "duos.png"), strict=False):
        replace_file(docs / "pictures" / name, partial(shutil.copyfile, picture))
    page = docs / "compare.md"
    write_text(page, _page(tables, benchmark, learn_steps, methods, summing_up))
    return page


def _row(judgements: Sequence[Judgement], method: Method, metrics: Sequence[type[Metric]]) -> tuple[str, ...]:
    means = (mean_in_words(judgements, method, metric) for metric in metrics)
    return (method.title, *means, *seconds_and_size(judgements, method.name))


def _page(
    tables: Sequence[Table], benchmark: Benchmark, learn_steps: int | None, methods: Sequence[str], summing_up: str
) -> str:
    backbone, settings = benchmark.model.backbone, benchmark.settled
    identity = backbone.identity
    table, pairs = tables[0], tables[1] if len(tables) > 1 else None
    command = f"samecast compare --subjects {_count(table)} --pairs {_count(pairs)} --prompts {benchmark.prompts}"
    command += f" --steps {settings.num_inference_steps}" + (f" --learn-steps {learn_steps}" if learn_steps else "")
    command += f" --methods {' '.join(methods)}" if methods else ""
    scored = tuple(metric.name for metric in benchmark.metrics)
    command += f" --metrics {' '.join(scored)}" if scored != BENCHMARK else ""
    if settings.guidance != backbone.default_guidance:
        command += f" --guidance {settings.guidance:g}"
    if settings.guidance_rescale:
        command += f" --guidance-rescale {settings.guidance_rescale:g}"
    command += f" --model {identity.id}" if identity.id != "diorama" else ""
    together = ""
    if pairs is not None:
        together = f"""
## Two in one picture

Two subjects of different classes, each with four photos, and prompts such as "a <new1> dog sitting and a <new2> mug in
the snow", on a canvas twice as wide as high. The probe reads each half: whether it shows the right class, whether each
subject, and both, are the *same*, whether poses and place match the prompt (*scene*), and
whether *all* is right.

{_lines(pairs)}

{pairs.caption}.

![Pictures of two pairs in every way](pictures/duos.png)
"""
    return f"""# Training, attention, or both

Each method gets the same photos of a subject that no model was trained on, and prompts that name only its class and a
scene. The probe decides whether a picture shows the same subject (*same*), the requested *scene*, and *both*.

{_lines(table)}

{_filled(f"{table.caption}.", summing_up)}

Settings were found on other subjects (`python -m benchmarks.settings`). Training is the time of the training steps for
one subject, without the class pictures that Custom Diffusion and DreamBooth generate first; file is the size of the
concept. Model `{identity.id}`, {identity.revision[:19]}, on {benchmark.model.backbone.describe()["device"]}.

![Two pictures of each of three subjects with every method](pictures/compare.png)
{together}
```console
{command} --docs docs
```
"""


def _filled(*paragraphs: str) -> str:
    return "\n\n".join(
        fill(words, 120, break_long_words=False, break_on_hyphens=False) for words in paragraphs if words
    )


def _count(table: Table | None) -> str:
    return "0" if table is None else table.caption.split(" ", 1)[0]


def _lines(table: Table) -> str:
    rows = [table.columns, tuple("---" if at == 0 else "---:" for at in range(len(table.columns))), *table.rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
