"""`samecast tune`: search the rules that suit one subject, show the front, write the chosen ones."""

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from samecast.attention.rule_files import rules_file
from samecast.cli.console import RESULTS, notify, quiet_libraries, working
from samecast.cli.executors import device_here, lasting, make_executor
from samecast.cli.options.common import sides_of
from samecast.cli.options.tune import TuneOptions
from samecast.cli.render import split_inputs
from samecast.cli.watching import watching
from samecast.core.prompts import check_prompts
from samecast.disk import absolute, check_writable, locked, sweep, write_text
from samecast.engine.targets import expand
from samecast.photos import open_photo
from samecast.study.axes import parse_axis
from samecast.study.grid import factorial
from samecast.study.presets import fitted

if TYPE_CHECKING:
    from samecast.study.recipe import Recipe
    from samecast.study.subjects import StudySubject
    from samecast.study.tune import Round, Tuning


def run_tune(options: TuneOptions) -> bool:
    """Search, show, write; False if pictures could not be made.

    Raises:
        SamecastError: something that was asked for cannot be done.
    """
    references, prompts = split_inputs(options.inputs, command="tune")
    check_prompts(prompts)
    photos = tuple(open_photo(photo) for photo in references)
    out = absolute(options.out) if options.dry_run else check_writable(options.out, "folder")
    executor = make_executor(options)
    with working("loading the model"):
        import samecast as sc
        from samecast.experiments.executors import Watch
        from samecast.report.plots import save_figure
        from samecast.study.figures import best_front
        from samecast.study.job import settled_dtype
        from samecast.study.recipe import Recipe
        from samecast.study.scoring import NO_DINO
        from samecast.study.subjects import StudySubject
        from samecast.study.tune import candidates, tune
        from samecast.study.unit import ExecutionConfig

        quiet_libraries()
        model = sc.load(options.model, device=device_here(options))
    axes = tuple(parse_axis(words) for words in options.axis)
    layers = len(model.backbone.self_attention())
    grid = factorial(axes, {}, options.steps) if axes else fitted(candidates(options.steps), layers)
    settings = sc.RenderSettings(
        steps=options.steps,
        guidance_scale=options.guidance,
        guidance_rescale=options.guidance_rescale,
        init=options.init,
        **sides_of(options),
        fit=options.fit,
    )
    data = tuple(dict.fromkeys(expand(prompt, options.noun) for prompt in prompts))
    subject = StudySubject(Path(references[0]).stem, data, photos, options.noun)
    repeat = "each" if len(photos) > 1 else "first"
    name = lasting(options.model)
    recipe = Recipe(grid, settings, name, "", "", photos=repeat, seeds=options.seeds, clip=options.clip, dino=NO_DINO)
    if options.dry_run:
        _show_rounds(recipe, subject)
        return True
    with locked(out), watching("units") as showing, nullcontext() if executor is None else executor:
        sweep([out])
        dtype = "" if executor is None else executor.ask(partial(settled_dtype, options.device, "auto"), Watch())
        found = tune(
            out,
            recipe,
            subject,
            model.backbone,
            weight=options.favour,
            execution=ExecutionConfig(out, device=options.device),
            executor=executor,
            dtype=dtype,
            watch=showing.watch(),
            round_done=_show_round,
        )
    _show_front(found)
    last = found.rounds[-1]
    text, image = last.points[found.chosen.name]
    why = {
        "chosen": found.chosen.name,
        "text_alignment": text,
        "image_alignment": image,
        "favour": options.favour,
        "front": list(found.front),
        "prompts": last.extent.prompts,
        "photos": last.extent.photos,
        "seeds": last.extent.seeds,
        "candidates": len(grid.variants),
        "model": options.model,
    }
    rules = json.dumps(rules_file(found.chosen.rules, why), indent=2)
    write_text(out / "rules.json", rules + "\n")
    save_figure(best_front(found.measures, found.grid, options.favour, found.scale), out / "front")
    file = options.out / "rules.json"
    RESULTS.print(f"chosen: {found.chosen.name}; samecast render ... --rules {file}")
    if found.failed:
        notify(f"{found.failed} pictures or units could not be made: see the folders failures in {out}")
    return not found.failed


def _show_round(done: "Round") -> None:
    notify(f"{len(done.candidates)} candidates tried on {done.extent}")


def _show_rounds(recipe: "Recipe", subject: "StudySubject") -> None:
    from samecast.study.tune import extent_of, rounds_of

    table = Table(title="what it would take: rounds, as long as none fails", title_justify="left")
    for heading in ("candidates", "tried on", "pictures"):
        table.add_column(heading, justify="left" if heading == "tried on" else "right")
    for count, extent in rounds_of(len(recipe.grid.variants), extent_of(recipe, subject)):
        table.add_row(str(count), str(extent), f"{count * extent.prompts * extent.photos * extent.seeds:,}")
    RESULTS.print(table)


def _show_front(found: "Tuning") -> None:
    table = Table(title="the best trade-offs; text and image are cosines of CLIP", title_justify="left")
    for heading in ("setting", "text", "image"):
        table.add_column(heading, justify="left" if heading == "setting" else "right")
    for name in found.front:
        text, image = found.rounds[-1].points[name]
        table.add_row(name, f"{text:.3f}", f"{image:.3f}")
    RESULTS.print(table)
