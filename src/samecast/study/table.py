"""All scores of a study as one tidy table: a row for each picture, with everything that made it."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from samecast.control.rule_files import rules_to_data
from samecast.disk import replace_file, write_text
from samecast.study.axes import BASE
from samecast.study.casting import Order, orders_of
from samecast.study.folder import PICTURE, StudyFolder
from samecast.study.recipe import ENGINE, Recipe, code_version, recipe_to_data
from samecast.study.scoring import ALIGNMENTS, VERDICTS, Scorers
from samecast.study.subjects import StudySubject

Row = dict[str, Any]
PARQUET, CSV = "scores.parquet", "scores.csv"
_DIGITS = 6


@dataclass(frozen=True)
class Scores:
    """The table.

    Args:
        rows: one for each finished and scored picture, in the order of subjects, photos, prompts and variants.
        missing: how many there are not yet.
    """

    rows: tuple[Row, ...]
    missing: int


def read_scores(folder: StudyFolder, scorers: Scorers) -> Scores:
    """The rows of all pictures that are finished and scored."""
    recipe = folder.recipe()
    rows: list[Row] = []
    missing = 0
    for name in folder.subject_names():
        subject = folder.subject(name)
        for order in orders_of(recipe, subject):
            scores = folder.score(scorers.key(order.key, subject)) if folder.is_finished(order.key) else None
            if scores is None:
                missing += 1
            else:
                rows.append(_row(recipe, subject, order, scores, scorers))
    return Scores(tuple(rows), missing)


def _row(recipe: Recipe, subject: StudySubject, order: Order, scores: Mapping[str, Any], scorers: Scorers) -> Row:
    fields = order.variant.fields
    settings = recipe.settings
    told = {name: scores[name] for name in (*ALIGNMENTS, *VERDICTS)}
    return {
        "subject": subject.subject,
        "hidden": subject.hidden,
        "photos": "+".join(str(number + 1) for number in order.numbers),
        "prompt": order.cast.prompt,
        "seed": order.cast.seed,
        "variant": order.variant.name,
        # As text, for one field takes numbers and words: `final` is a step or a share, `threshold` a value or `otsu`.
        **{field: None if fields.get(field) is None else str(fields[field]) for field in ("handover", *BASE)},
        **{name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in told.items()},
        "rules": json.dumps(rules_to_data(order.variant.rules)),
        "key": order.key,
        "picture": f"runs/{order.key}/{PICTURE}",
        "photo_hashes": "+".join(order.cast.photos),
        "class_noun": order.cast.noun,
        "source_prompt": order.cast.caption,
        "negative_prompt": settings.negative_prompt,
        "model": recipe.model,
        "revision": recipe.revision,
        "lora": "+".join(revision for _, revision in recipe.lora),
        "dtype": recipe.dtype,
        "steps": settings.steps,
        "guidance_scale": settings.guidance,
        "guidance_rescale": settings.guidance_rescale,
        "init": str(settings.init),
        "pairing": settings.pairing,
        "fixed_point": settings.fixed_point,
        "size": settings.size,
        "clip": scorers.facts["clip"]["id"],
        "clip_revision": scorers.facts["clip"]["revision"],
        "dino": scorers.facts["dino"]["id"] if "dino" in scorers.facts else None,
        "dino_revision": scorers.facts["dino"]["revision"] if "dino" in scorers.facts else None,
        "probe_revision": None if subject.case is None else scorers.facts["probe"]["revision"],
        "scale": scorers.facts["clip"]["scale"],
        "code": f"{code_version()}, engine {ENGINE}",
    }


def write_scores(folder: StudyFolder, scores: Scores, scorers: Scorers) -> None:
    """Writes the table twice: as Parquet, with the recipe and the scorers in its metadata, and as CSV.

    Raises:
        SamecastError: it cannot be written.
    """
    metadata = {
        "recipe": json.dumps(recipe_to_data(folder.recipe())),
        "scorers": json.dumps(dict(scorers.facts), default=str),
    }
    table = pa.Table.from_pylist(list(scores.rows), schema=_schema(metadata))
    replace_file(folder.path / PARQUET, lambda part: pq.write_table(table, part))
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in _schema({})], lineterminator="\n")
    writer.writeheader()
    writer.writerows(scores.rows)
    write_text(folder.path / CSV, text.getvalue())


def load_table(path: Path) -> Sequence[Row]:
    """The rows of a table that was written as Parquet."""
    return pq.read_table(path).to_pylist()


def _schema(metadata: Mapping[str, str]) -> Any:
    kinds: dict[str, Any] = {
        "hidden": pa.bool_(),
        "seed": pa.int64(),
        **dict.fromkeys(ALIGNMENTS, pa.float64()),
        **dict.fromkeys(VERDICTS, pa.bool_()),
        "steps": pa.int64(),
        "guidance_scale": pa.float64(),
        "guidance_rescale": pa.float64(),
        "fixed_point": pa.int64(),
        "size": pa.int64(),
    }
    names = (
        *("subject", "hidden", "photos", "prompt", "seed", "variant", "handover", *BASE, *ALIGNMENTS, *VERDICTS),
        *("rules", "key", "picture", "photo_hashes", "class_noun", "source_prompt", "negative_prompt"),
        *("model", "revision", "lora", "dtype", "steps", "guidance_scale", "guidance_rescale"),
        *("init", "pairing", "fixed_point", "size"),
        *("clip", "clip_revision", "dino", "dino_revision", "probe_revision", "scale", "code"),
    )
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names], metadata=dict(metadata))
