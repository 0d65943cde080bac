"""`samecast diorama benchmark`: run it, show the table, say where the rest is."""

from rich.table import Table

from samecast.cli.console import RESULTS
from samecast.cli.contest import Asked, chosen_methods, contested
from samecast.cli.executors import lasting
from samecast.cli.options.diorama import BenchmarkOptions
from samecast.disk import check_writable


def run_benchmark(options: BenchmarkOptions) -> bool:
    """Run the benchmark, or the rest of it, and show the means; False if a subject could not be judged.

    Raises:
        SamecastError: there is no such method, or the folder cannot be written.
    """
    from samecast.compare.methods import placements

    methods = chosen_methods(placements(options.settings.num_inference_steps), options.methods)
    check_writable(options.out, "folder")
    from samecast.compare.job import Contest
    from samecast.compare.results import write_results
    from samecast.diorama.benchmark import cases

    contest = Contest(lasting(options.model), options.settings, options.prompts, options.hidden, options.device)
    ran = contested(options, contest, Asked(cases(options.subjects), methods))
    if ran is None:
        return True
    benchmark, found = ran
    there = [method for method in methods if any(judged.method == method.name for judged in found.judgements)]
    if not there:
        return False
    means = write_results(options.out, benchmark, found.judgements, there)
    title = f"{options.subjects} held-out subjects, {options.prompts} scenes each; text, image: CLIP; dino: ViT"
    table = Table(title=title, title_justify="left")
    headings = ("method", "same", "scene", "both", "text", "image", "dino")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in there:
        of = means[method.name]
        shares = (f"{of[measure]:.1%}" for measure in ("identity", "scene", "both"))
        cosines = (f"{of[measure]:.3f}" for measure in ("text_alignment", "image_alignment", "dino_alignment"))
        table.add_row(method.name, *shares, *cosines)
    RESULTS.print(table)
    for method in there:
        RESULTS.print(f"{method.name}: {method.title}")
    for name in ("grid.png", "scores.csv", "summary.json"):
        RESULTS.print(str(options.out / name), markup=False)
    return not found.failures
