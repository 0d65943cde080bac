"""`samecast compare`: run it, show the table, write the page if asked."""

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table

from samecast.cli.console import RESULTS, quiet_libraries, stages, working
from samecast.cli.options.compare import CompareOptions
from samecast.disk import all_below, check_writable, locked, sweep
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from samecast.report.page import Table as Found


def run_compare(options: CompareOptions) -> None:
    """Run the comparison, or the rest of it, and show the means.

    Raises:
        SamecastError: there is no such method, or a folder cannot be written.
    """
    from samecast.compare.methods import contest

    methods = contest(embedded=options.model == "diorama", steps=options.steps, learn_steps=options.learn_steps)
    known = {method.name: method for method in methods}
    for name in options.methods:
        if name not in known:
            raise SamecastError(f"no method is called {name!r}; choose from {', '.join(known)}")
    chosen = tuple(known[name] for name in dict.fromkeys(options.methods)) or methods
    check_writable(options.out, "folder")
    if options.docs is not None:
        check_writable(options.docs / "compare.md", "file")
    with working("loading the model"):
        from samecast.compare.benchmark import Benchmark, write_results
        from samecast.compare.duos import Duos, draw_duos
        from samecast.compare.figures import headline
        from samecast.compare.page import duo_table, table_of, write_page
        from samecast.core.settings import RenderSettings
        from samecast.diorama.benchmark import cases, duo_case
        from samecast.diorama.probe import load_probe
        from samecast.learn.settings import default_settings
        from samecast.render import load
        from samecast.score.alignment import load_clip, load_vit

        quiet_libraries()
        settings = RenderSettings(
            steps=options.steps, guidance_scale=options.guidance, guidance_rescale=options.guidance_rescale
        )
        model = load(options.model, device=options.device, dtype="float32")
        benchmark = Benchmark(model, load_probe(), load_clip(), load_vit(), settings, options.prompts)
        learning = default_settings("custom-diffusion", embedded=options.model == "diorama")
        # The closed form of merging is of keys and values alone.
        duos = Duos(benchmark, replace(learning, mode="kv", steps=options.learn_steps))
    with locked(options.out) as folder, stages() as report:
        sweep(all_below(folder))
        judgements = benchmark.run(options.out, cases(options.subjects), chosen, report)
        paired = duos.run(options.out, [duo_case(number) for number in range(options.pairs)], progress=report)
        write_results(options.out, benchmark, judgements, chosen)
    tables = [table_of(judgements, chosen, prompts=options.prompts)]
    pictures = [options.out / "grid.png"]
    if paired:
        tables.append(duo_table(paired, prompts=options.prompts))
        pictures.append(draw_duos(options.out, paired))
    for found in tables:
        RESULTS.print(_shown(found))
    summing_up = headline(judgements, chosen)
    if summing_up:
        RESULTS.print(summing_up.replace("*", ""))
    for path in (*pictures, options.out / "scores.csv", options.out / "summary.json"):
        RESULTS.print(str(path))
    if options.docs is not None:
        page = write_page(
            options.docs, pictures, tables, benchmark, options.learn_steps, options.methods, summing_up=summing_up
        )
        RESULTS.print(str(page))


def _shown(found: "Found") -> Table:
    shown = Table(title=found.caption, title_justify="left")
    for index, column in enumerate(found.columns):
        shown.add_column(column, justify="right" if index else "left")
    for row in found.rows:
        shown.add_row(*row)
    return shown
