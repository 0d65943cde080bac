"""`samecast diorama benchmark`: run it, show the table, say where the rest is."""

from typing import TYPE_CHECKING

from rich.table import Table

from samecast.cli.console import RESULTS, quiet_libraries, stages, working
from samecast.cli.options.diorama import BenchmarkOptions
from samecast.disk import all_below, check_writable, locked, sweep
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from samecast.compare.methods import Method


def run_benchmark(options: BenchmarkOptions) -> None:
    """Run the benchmark, or the rest of it, and show the means.

    Raises:
        SamecastError: there is no such method, or the folder cannot be written.
    """
    methods = _chosen(options.methods, options.steps)
    check_writable(options.out, "folder")
    with working("loading the model"):
        from samecast.compare.benchmark import Benchmark, write_results
        from samecast.core.settings import RenderSettings
        from samecast.diorama.benchmark import cases
        from samecast.diorama.probe import load_probe
        from samecast.render import load
        from samecast.score.alignment import load_clip, load_vit

        quiet_libraries()
        settings = RenderSettings(
            steps=options.steps,
            guidance_scale=options.guidance,
            guidance_rescale=options.guidance_rescale,
            init=options.init,
        )
        model = load(options.model, device=options.device)
        benchmark = Benchmark(model, load_probe(), load_clip(), load_vit(), settings, options.prompts, options.hidden)
    with locked(options.out) as folder, stages() as report:
        sweep(all_below(folder))
        judgements = benchmark.run(options.out, cases(options.subjects), methods, report)
        means = write_results(options.out, benchmark, judgements, methods)
    title = f"{options.subjects} held-out subjects, {options.prompts} scenes each; text, image: CLIP; dino: ViT"
    table = Table(title=title, title_justify="left")
    headings = ("method", "same", "scene", "both", "text", "image", "dino")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in methods:
        of = means[method.name]
        shares = (f"{of[measure]:.1%}" for measure in ("identity", "scene", "both"))
        cosines = (f"{of[measure]:.3f}" for measure in ("text_alignment", "image_alignment", "dino_alignment"))
        table.add_row(method.name, *shares, *cosines)
    RESULTS.print(table)
    for method in methods:
        RESULTS.print(f"{method.name}: {method.title}")
    for name in ("grid.png", "scores.csv", "summary.json"):
        RESULTS.print(str(options.out / name))


def _chosen(names: tuple[str, ...], steps: int) -> "tuple[Method, ...]":
    from samecast.compare.methods import placements

    methods = placements(steps)
    known = {method.name: method for method in methods}
    for name in names:
        if name not in known:
            raise SamecastError(f"no method is called {name!r}; choose from {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) or methods
