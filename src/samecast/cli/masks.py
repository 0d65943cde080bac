"""`samecast masks`: where a model sees the subject of a photo, as pictures and a number."""

import json
from dataclasses import asdict
from pathlib import Path

import samecast as sc
from samecast.checked import as_text
from samecast.cli.console import RESULTS, notify, quiet_libraries, stages, working
from samecast.cli.options.common import sides_of
from samecast.cli.options.masks import MasksOptions
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens
from samecast.disk import check_writable, writing_folder
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.records import slug


def run_masks(options: MasksOptions) -> None:
    """Find the masks, write the folder, say how much of each picture they cover.

    Raises:
        SamecastError: something that was asked for cannot be done.
    """
    if not options.references:
        raise SamecastError("give a photo: samecast masks photo.png --noun dog")
    if not options.noun and not options.words:
        raise SamecastError("say what to look for: --noun dog, or --words with --source-prompt")
    for photo in options.references:
        open_photo(photo)
    tokens = SubjectTokens(options.words, options.layers, Steps(options.start, options.final), options.threshold)
    settings = sc.RenderSettings(
        steps=options.steps, **sides_of(options), fit=options.fit, source_prompt=options.source_prompt
    )
    out = options.out or Path("masks") / slug(options.references[0].stem)
    check_writable(out)
    with working("loading the model"):
        quiet_libraries()
        model = sc.load(
            options.model,
            device=options.device,
            dtype=options.dtype,
            lora=options.lora,
            concepts=options.concept,
        )
    with stages() as report:
        subject = sc.Subject(options.references, options.noun)
        search = model.find_masks(subject, tokens, settings=settings, progress=report)
    from samecast.render.found import overlay

    with writing_folder(out) as place:
        for found, reference in zip(search.masks, search.references, strict=True):
            suffix = "" if found.number == 1 else f"-{found.number}"
            reference.save(place.path / f"reference{suffix}.png")
            found.map.save(place.path / f"map{suffix}.png")
            found.mask.save(place.path / f"mask{suffix}.png")
            overlay(reference, found.mask).save(place.path / f"overlay{suffix}.png")
        data = {
            "caption": search.caption,
            "tokens": asdict(tokens),
            "steps": options.steps,
            "model": asdict(model.backbone.identity),
            "masks": [
                {"reference": as_text(photo), "coverage": found.coverage, "threshold": found.threshold}
                for photo, found in zip(options.references, search.masks, strict=True)
            ],
        }
        (place.path / "masks.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for warning in search.warnings:
        notify(warning)
    if place.final != out.absolute():
        notify(f"{out} is there already and was left alone")
    for photo, found in zip(options.references, search.masks, strict=True):
        RESULTS.print(
            f"{photo.name}: {found.phrase!r} covers {found.coverage:.1%} (threshold {found.threshold:.2f})",
        )
    RESULTS.print(f"map, mask and overlay in {place.final} ({search.evaluations} evaluations)")
