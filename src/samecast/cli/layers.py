"""`samecast layers`: lists the layers that `--layers` can address in a model."""

import samecast as sc
from samecast.cli.console import RESULTS, quiet_libraries, working
from samecast.cli.options.layers import LayersOptions

_STAGES = {"down": "encoder", "up": "decoder"}


def run_layers(options: LayersOptions) -> None:
    """Print one line for each attention layer, in execution order.

    Raises:
        SamecastError: the model cannot be loaded.
    """
    with working("loading the model"):
        quiet_libraries()
        model = sc.load(options.model, device="cpu")
    line = "{:>5}  {:<10} {:<8} {:>10} {:>6}  {}"
    layers = [bound.layer for bound in model.backbone.self_attention()]
    sets = "sets" if any(layer.sets for layer in layers) else ""
    RESULTS.print(line.format("index", "name", "stage", "resolution", "heads", sets).rstrip())
    for layer in layers:
        side = f"{layer.resolution}x{layer.resolution}"
        stage = _STAGES.get(layer.stage, layer.stage)
        RESULTS.print(line.format(layer.index, layer.name, stage, side, layer.heads, ", ".join(layer.sets)).rstrip())
