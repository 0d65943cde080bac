"""`samecast masks`: finds the subject of a photo, and writes its map, mask and overlay."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import samecast as sc
from samecast.checked import as_text
from samecast.cli.console import RESULTS, notify, quiet_libraries, stages, working
from samecast.cli.options.masks import MasksOptions
from samecast.disk import check_writable, writing_folder
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.records import slug


def run_masks(options: MasksOptions) -> None:
    """Find the masks, write the folder, and print how much of each picture they cover.

    Raises:
        SamecastError: a request cannot be fulfilled.
    """
    if not options.references:
        raise SamecastError("give a photo: samecast masks photo.png --noun dog")
    if not options.noun and not options.tokens.phrase:
        raise SamecastError("name the subject: --noun dog, or --map-words with --source-prompt")
    for photo in options.references:
        open_photo(photo)
    tokens, settings = replace(options.tokens, steps=options.steps), options.settings
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
            "num_inference_steps": settings.num_inference_steps,
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
        notify(f"{out} exists and was not changed")
    for photo, found in zip(options.references, search.masks, strict=True):
        RESULTS.print(
            f"{photo.name}: {found.phrase!r} covers {found.coverage:.1%} (threshold {found.threshold:.2f})",
        )
    RESULTS.print(f"map, mask and overlay in {place.final} ({search.evaluations} evaluations)")
