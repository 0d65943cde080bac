"""`samecast tune`: search the rules that suit one subject, show the front, write the chosen ones."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from samecast.cli.console import RESULTS, quiet_libraries, remark, stages, working
from samecast.cli.options.tune import TuneOptions
from samecast.cli.render import split_inputs
from samecast.control.rule_files import rules_file
from samecast.control.targets import expand
from samecast.core.prompts import check_prompts
from samecast.disk import check_writable, locked, sweep, write_text
from samecast.photos import open_photo
from samecast.records import slug
from samecast.study.axes import parse_axis
from samecast.study.grid import factorial, fitted

if TYPE_CHECKING:
    from samecast.study.tune import Round, Tuning


def run_tune(options: TuneOptions) -> None:
    """Search, show, write.

    Raises:
        SamecastError: something that was asked for cannot be done.
    """
    references, prompts = split_inputs(options.inputs, command="tune")
    check_prompts(prompts)
    photos = tuple(open_photo(photo) for photo in references)
    out = check_writable(options.out, "folder")
    with working("loading the model"):
        import samecast as sc
        from samecast.report.plots import save_figure
        from samecast.study.pictures import best_front
        from samecast.study.recipe import Recipe
        from samecast.study.scoring import NO_DINO
        from samecast.study.subjects import StudySubject
        from samecast.study.tune import candidates, tune

        quiet_libraries()
        model = sc.load(options.model, device=options.device)
    axes = tuple(parse_axis(words) for words in options.axis)
    sites = len(model.backbone.self_attention())
    grid = factorial(axes, {}, options.steps) if axes else fitted(candidates(options.steps), sites)
    settings = sc.RenderSettings(
        steps=options.steps,
        guidance_scale=options.guidance,
        guidance_rescale=options.guidance_rescale,
        init=options.init,
        size=options.size,
    )
    told = tuple(dict.fromkeys(expand(prompt, options.noun) for prompt in prompts))
    subject = StudySubject(slug(Path(references[0]).stem), told, photos, options.noun)
    repeat = "each" if len(photos) > 1 else "first"
    recipe = Recipe(
        grid, settings, options.model, "", "", photos=repeat, seeds=options.seeds, clip=options.clip, dino=NO_DINO
    )
    with locked(out), stages() as report:
        sweep([out])
        found = tune(
            out,
            recipe,
            subject,
            model.backbone,
            weight=options.favour,
            progress=report,
            round_done=_tell_round,
        )
    _tell_front(found)
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
    save_figure(best_front(found.rows, found.grid, options.favour), out / "front")
    file = options.out / "rules.json"
    RESULTS.print(f"chosen: {found.chosen.name}; samecast render ... --rules {file}")


def _tell_round(done: "Round") -> None:
    remark(f"{len(done.candidates)} candidates tried on {done.extent}")


def _tell_front(found: "Tuning") -> None:
    table = Table(title="the best trade-offs; text and image are cosines of CLIP", title_justify="left")
    for heading in ("setting", "text", "image"):
        table.add_column(heading, justify="left" if heading == "setting" else "right")
    for name in found.front:
        text, image = found.rounds[-1].points[name]
        table.add_row(name, f"{text:.3f}", f"{image:.3f}")
    RESULTS.print(table)
