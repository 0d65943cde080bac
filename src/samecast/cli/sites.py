"""`samecast sites`: what `--sites` can address in a model."""

import samecast as sc
from samecast.cli.console import RESULTS, quiet_libraries, working
from samecast.cli.options.sites import SitesOptions

_STAGES = {"down": "encoder", "mid": "mid", "up": "decoder"}


def run_sites(options: SitesOptions) -> None:
    """Print one line for each attention layer, in execution order.

    Raises:
        SamecastError: the model cannot be loaded.
    """
    with working("loading the model"):
        quiet_libraries()
        model = sc.load(options.model, device="cpu")
    line = "{:>5}  {:<8} {:<8} {:>10} {:>6}"
    RESULTS.print(line.format("index", "name", "stage", "resolution", "heads"))
    for bound in model.backbone.self_attention():
        site = bound.site
        side = f"{site.resolution}x{site.resolution}"
        RESULTS.print(line.format(site.index, site.name, _STAGES[site.stage], side, site.heads))
