"""`samecast diorama benchmark`: runs it, prints the table and the path of the results."""

from dataclasses import replace

from rich.table import Table

from samecast.cli.console import RESULTS
from samecast.cli.contest import Asked, chosen_methods, contested
from samecast.cli.executors import lasting
from samecast.cli.options.diorama import BenchmarkOptions
from samecast.disk import check_writable
from samecast.metrics import BENCHMARK, metric_types


def run_benchmark(options: BenchmarkOptions) -> bool:
    """Run or resume the benchmark, and print the means; False if a subject could not be scored.

    Raises:
        SamecastError: a method does not exist, or the folder cannot be written.
    """
    from samecast.compare.methods import placements

    methods = chosen_methods(placements(options.settings.num_inference_steps), options.methods)
    metrics = metric_types(options.metrics or BENCHMARK)
    check_writable(options.out, "folder")
    from samecast.compare.job import Contest
    from samecast.compare.page import shown_metrics
    from samecast.compare.results import write_results
    from samecast.diorama.benchmark import cases

    contest = Contest(lasting(options.model), options.settings, options.prompts, options.hidden, options.device)
    contest = replace(contest, metrics=tuple(metric.name for metric in metrics))
    ran = contested(options, contest, Asked(cases(options.subjects), methods))
    if ran is None:
        return True
    benchmark, found = ran
    there = [method for method in methods if any(judged.method == method.name for judged in found.judgements)]
    if not there:
        return False
    means = write_results(options.out, benchmark, found.judgements, there)
    title = f"{options.subjects} held-out subjects, {options.prompts} scenes each"
    table = Table(title=title, title_justify="left")
    columns = shown_metrics(metrics)
    for heading in ("method", *(metric.title for metric in columns)):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in there:
        of = means[method.name]
        data = (f"{of[m.column]:.1%}" if m.kind == "share" else f"{of[m.column]:.3f}" for m in columns)
        table.add_row(method.name, *data)
    RESULTS.print(table)
    for method in there:
        RESULTS.print(f"{method.name}: {method.title}")
    for name in ("grid.png", "scores.csv", "summary.json"):
        RESULTS.print(str(options.out / name), markup=False)
    return not found.failures
