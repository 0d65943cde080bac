"""`samecast compare`: run it, show the table, write the page if asked."""

from rich.table import Table

from samecast.cli.console import RESULTS, quiet_libraries, stages, working
from samecast.cli.options.compare import CompareOptions
from samecast.disk import check_writable
from samecast.errors import SamecastError


def run_compare(options: CompareOptions) -> None:
    """Run the comparison, or the rest of it, and show the means.

    Raises:
        SamecastError: an option is out of range, or a folder cannot be written.
    """
    for name, value, most in (("--subjects", options.subjects, 32), ("--prompts", options.prompts, 20)):
        if not 1 <= value <= most:
            raise SamecastError(f"{name} must be 1 to {most}; got {value}")
    from samecast.compare.methods import contest

    methods = contest(embedded=options.model == "diorama", steps=options.steps, learn_steps=options.learn_steps)
    known = {method.name: method for method in methods}
    for name in options.methods:
        if name not in known:
            raise SamecastError(f"no method is called {name!r}; choose from {', '.join(known)}")
    chosen = tuple(known[name] for name in dict.fromkeys(options.methods)) or methods
    for place in (options.out, *((options.docs / "compare.md",) if options.docs else ())):
        check_writable(place)
    with working("loading the model"):
        from samecast.compare.benchmark import Benchmark, write_results
        from samecast.compare.page import table_of, write_page
        from samecast.core.settings import RenderSettings
        from samecast.diorama.benchmark import cases
        from samecast.diorama.probe import load_probe
        from samecast.render import load
        from samecast.score.alignment import load_clip, load_vit

        quiet_libraries()
        settings = RenderSettings(steps=options.steps, guidance_scale=options.guidance)
        model = load(options.model, device=options.device)
        benchmark = Benchmark(model, load_probe(), load_clip(), load_vit(), settings, options.prompts)
    with stages() as report:
        judgements = benchmark.run(options.out, cases(options.subjects), chosen, report)
    means = write_results(options.out, benchmark, judgements, chosen)
    found = table_of(means, chosen, subjects=options.subjects, prompts=options.prompts)
    shown = Table(title=found.caption, title_justify="left")
    for index, column in enumerate(found.columns):
        shown.add_column(column, justify="right" if index else "left")
    for row in found.rows:
        shown.add_row(*row)
    RESULTS.print(shown)
    for name in ("grid.png", "scores.csv", "summary.json"):
        RESULTS.print(str(options.out / name), markup=False)
    if options.docs is not None:
        RESULTS.print(str(write_page(options.docs, options.out, found, benchmark, options.learn_steps)), markup=False)
