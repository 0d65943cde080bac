"""`samecast demo`: makes it, prints its path and scores."""

from rich.table import Table

import samecast as sc
from samecast.cli.console import RESULTS, quiet_libraries, stages, working
from samecast.cli.options.demo import DemoOptions
from samecast.disk import check_writable


def run_demo(options: DemoOptions) -> None:
    """Make the demo and print its scores.

    Raises:
        SamecastError: the demo cannot be made or written.
    """
    check_writable(options.out)
    with working("loading the model"):
        from samecast import demo

        quiet_libraries()
        model = sc.load(options.model, device=options.device)
    with stages() as report:
        done = demo.run_demo(model, options.out, steps=options.settings.num_inference_steps, progress=report)
    found = done.table()
    shown = Table(title=found.caption, title_justify="left")
    for column in found.columns:
        shown.add_column(column)
    for row in found.rows:
        shown.add_row(*row)
    RESULTS.print(shown)
    for name in ("index.html", "grid.png"):
        RESULTS.print(str(done.folder / name))
