"""`samecast layers`: lists the layers that `--layers` can address in a model, and measures which matter most."""

import json

import samecast as sc
from samecast.attention.rule_files import rules_file
from samecast.cli.console import RESULTS, quiet_libraries, stages, working
from samecast.cli.options.common import DEFAULTS
from samecast.cli.options.layers import LayersOptions
from samecast.disk import check_writable, write_text
from samecast.errors import SamecastError

_STAGES = {"down": "encoder", "up": "decoder"}


def run_layers(options: LayersOptions) -> None:
    """Print one line for each attention layer, in execution order; with --probe, with what leaving it out does.

    Raises:
        SamecastError: the model cannot be loaded, or an option would have no effect.
    """
    if not options.probe:
        given = {"--out": options.out, "--vital": options.vital, "a prompt": options.prompts}
        given |= {"a setting of the render": options.settings != DEFAULTS}
        for name, value in given.items():
            if value:
                raise SamecastError(f"{name} would have no effect without --probe: add --probe, or leave it out")
    elif options.out is not None:
        check_writable(options.out, "file")
    with working("loading the model"):
        quiet_libraries()
        model = sc.load(options.model, device=options.device if options.probe else "cpu")
    layers = [bound.layer for bound in model.backbone.self_attention()]
    if options.probe:
        return _probe(options, model)
    line = "{:>5}  {:<10} {:<8} {:>10} {:>6}  {}"
    sets = "sets" if any(layer.sets for layer in layers) else ""
    RESULTS.print(line.format("index", "name", "stage", "resolution", "heads", sets).rstrip())
    for layer in layers:
        side = f"{layer.resolution}x{layer.resolution}"
        stage = _STAGES.get(layer.stage, layer.stage)
        RESULTS.print(line.format(layer.index, layer.name, stage, side, layer.heads, ", ".join(layer.sets)).rstrip())
    return None


def _probe(options: LayersOptions, model: "sc.Model") -> None:
    from samecast.render.probe import PROMPTS, probe_layers, vital_layers

    count = options.vital or max(1, round(len(model.backbone.self_attention()) / 6))
    prompts = options.prompts or PROMPTS
    with stages() as report:
        probed = probe_layers(model, prompts, options.settings, report)
    vital = vital_layers(probed, count)
    line = "{:>5}  {:<10} {:>8}  {}"
    RESULTS.print(line.format("index", "name", "change", "").rstrip())
    for each in probed:
        mark = "vital" if each.layer in vital else ""
        RESULTS.print(line.format(each.layer.index, each.layer.name, f"{each.change:.4f}", mark).rstrip())
    names = ",".join(layer.name for layer in vital)
    RESULTS.print(f"vital layers: --layers {names}")
    if options.out is not None:
        why = {
            "model": model.backbone.identity.id,
            "revision": model.backbone.identity.revision,
            "prompts": list(prompts),
            "change": {each.layer.name: each.change for each in probed},
        }
        rules = (sc.Rule(layers=names),)
        write_text(options.out, json.dumps(rules_file(rules, why), indent=2) + "\n")
        RESULTS.print(f'rules in {options.out}: samecast render photo.png "a prompt" --rules {options.out}')
