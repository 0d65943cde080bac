"""`samecast compare`: runs it, prints the table, writes the page on request."""

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table

from samecast.cli.console import RESULTS
from samecast.cli.contest import Asked, chosen_methods, contested
from samecast.cli.executors import lasting
from samecast.cli.options.compare import CompareOptions
from samecast.disk import check_writable
from samecast.metrics import BENCHMARK, metric_types

if TYPE_CHECKING:
    from samecast.report.page import Table as Found


def run_compare(options: CompareOptions) -> bool:
    """Run or resume the comparison, and print the means; False if anything could not be scored.

    Raises:
        SamecastError: a method does not exist, or a folder cannot be written.
    """
    from samecast.compare.methods import contest

    methods = contest(
        embedded=options.model == "diorama", steps=options.settings.num_inference_steps, learn_steps=options.learn_steps
    )
    chosen = chosen_methods(methods, options.methods)
    metrics = metric_types(options.metrics or BENCHMARK)
    check_writable(options.out, "folder")
    if options.docs is not None:
        check_writable(options.docs / "compare.md", "file")
    from samecast.compare.duos import draw_duos
    from samecast.compare.figures import headline
    from samecast.compare.job import Contest
    from samecast.compare.page import duo_table, table_of, write_page
    from samecast.compare.results import write_results
    from samecast.diorama.benchmark import cases, duo_case
    from samecast.learn.settings import default_settings

    learning = default_settings("custom-diffusion", embedded=options.model == "diorama")
    # The closed form of merging covers keys and values only.
    duos = replace(learning, mode="kv", steps=options.learn_steps)
    asked = Asked(cases(options.subjects), chosen, [duo_case(number) for number in range(options.pairs)])
    job = Contest(
        lasting(options.model), options.settings, options.prompts, device=options.device, dtype="float32", duos=duos
    )
    job = replace(job, metrics=tuple(metric.name for metric in metrics))
    ran = contested(options, job, asked)
    if ran is None:
        return True
    benchmark, found = ran
    chosen = tuple(m for m in chosen if any(judged.method == m.name for judged in found.judgements))
    if not chosen:
        return False
    write_results(options.out, benchmark, found.judgements, chosen)
    tables = [table_of(found.judgements, chosen, prompts=options.prompts, metrics=metrics)]
    pictures = [options.out / "grid.png"]
    if found.pairs:
        tables.append(duo_table(found.pairs, prompts=options.prompts))
        pictures.append(draw_duos(options.out, found.pairs))
    for each in tables:
        RESULTS.print(_shown(each))
    summing_up = headline(found.judgements, chosen)
    if summing_up:
        RESULTS.print(summing_up.replace("*", ""))
    for path in (*pictures, options.out / "scores.csv", options.out / "summary.json"):
        RESULTS.print(str(path))
    if options.docs is not None:
        page = write_page(
            options.docs, pictures, tables, benchmark, options.learn_steps, options.methods, summing_up=summing_up
        )
        RESULTS.print(str(page))
    return not found.failures


def _shown(found: "Found") -> Table:
    shown = Table(title=found.caption, title_justify="left")
    for index, column in enumerate(found.columns):
        shown.add_column(column, justify="right" if index else "left")
    for row in found.rows:
        shown.add_row(*row)
    return shown
