"""All scores of a study as one tidy table: a row for each picture, with everything that made it.

Rows are read and written one by one, so that a study may have any size.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from samecast.attention.rule_files import rules_to_data
from samecast.disk import replace_file
from samecast.errors import SamecastError, lacking
from samecast.experiments.work import code_version
from samecast.metrics import Metric
from samecast.study.axes import BASE
from samecast.study.binding import Order, orders_for, sources_of
from samecast.study.folder import StudyFolder
from samecast.study.grid import Variant
from samecast.study.kept_subjects import Unreadable
from samecast.study.recipe import ENGINE, Cast, Recipe, recipe_to_data
from samecast.study.scoring import score_key
from samecast.study.subjects import StudySubject

try:
    import pyarrow as pa
    import pyarrow.csv as pcsv
    import pyarrow.parquet as pq
except ImportError as error:
    raise lacking("study", error) from None

Row = dict[str, Any]
PARQUET, CSV = "scores.parquet", "scores.csv"
_DIGITS = 6
_GROUP = 5_000
"""Number of rows that are written at once."""


@dataclass
class Rows:
    """The rows of all finished and scored pictures, in the order of subjects, photos, prompts and variants.

    Args:
        folder: of the study.
        metrics: metrics of the scores.
        count: number of rows, after all have been read.
        missing: number of missing rows, likewise.
    """

    folder: StudyFolder
    metrics: Sequence[Metric]
    count: int = 0
    missing: int = 0

    def __iter__(self) -> Iterator[Row]:
        recipe = self.folder.recipe()
        self.count = self.missing = 0
        fixed = _fixed(recipe)
        of_variant = {variant.name: fixed | _of_variant(variant) for variant in recipe.grid.variants}
        for subject in self.folder.subjects():
            if isinstance(subject, Unreadable):
                self.missing += len(recipe.grid.variants)
                continue
            for sources in sources_of(recipe, subject):
                for cast in sources.casts:
                    known = self.folder.scores(score_key(subject, cast), self.metrics)
                    shared = _of_cast(subject, cast, sources.numbers) | self._asked(subject)
                    for order in orders_for(recipe, cast, sources.numbers):
                        row = self._row(order, known.get(order.key, {}), of_variant[order.variant.name] | shared)
                        if row is not None:
                            yield row

    @cached_property
    def _columns(self) -> dict[str, str]:
        return {metric.key: metric.column for metric in self.metrics}

    def _asked(self, subject: StudySubject) -> Row:
        """The revisions of the models that scored a subject's pictures; None for metrics without scores."""
        row: Row = {}
        for metric in self.metrics:
            silent = "truth" in metric.needs and subject.case is None
            row |= {name: None if silent else value for name, value in metric.facts().items()}
        return row

    def _row(self, order: Order, scores: Mapping[str, Any], row: Row) -> Row | None:
        """The row of one picture, if it exists with all its scores."""
        if not scores.keys() >= self._columns.keys() or not self.folder.is_finished(order.key):
            self.missing += 1
            return None
        self.count += 1
        for key, column in self._columns.items():
            value = scores[key]
            row[column] = round(value, _DIGITS) if isinstance(value, float) else value
        row["key"], row["picture"] = order.key, self.folder.picture_name(order.key)
        return row


def _fixed(recipe: Recipe) -> Row:
    settings = recipe.settings
    return {
        "negative_prompt": settings.negative_prompt,
        "model": recipe.model,
        "revision": recipe.revision,
        "lora": "+".join(revision for _, revision in recipe.lora),
        "dtype": recipe.dtype,
        "steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance,
        "guidance_rescale": settings.guidance_rescale,
        "init": str(settings.init),
        "pairing": settings.pairing,
        "fixed_point": settings.fixed_point,
        "height": settings.height,
        "width": settings.width,
        "code": f"{code_version()}, engine {ENGINE}",
    }


def _of_variant(variant: Variant) -> Row:
    fields = variant.fields
    return {
        "variant": variant.name,
        # As text, as fields may be numbers or words: `final` is a step or a share, `threshold` a value or `otsu`.
        **{field: None if fields.get(field) is None else str(fields[field]) for field in ("handover", *BASE)},
        "rules": json.dumps(rules_to_data(variant.rules)),
    }


def _of_cast(subject: StudySubject, cast: Cast, numbers: tuple[int, ...]) -> Row:
    return {
        "subject": subject.subject,
        "hidden": subject.hidden,
        "photos": "+".join(str(number + 1) for number in numbers),
        "prompt": cast.prompt,
        "seed": cast.seed,
        "photo_hashes": "+".join(cast.photos),
        "class_noun": cast.noun,
        "source_prompt": cast.caption,
    }


def write_table(rows: Rows, see: Callable[[Row], None]) -> None:
    """Writes the table twice: as Parquet, with the recipe and the metrics in its metadata, and as CSV.

    Args:
        rows: the rows.
        see: called with each row.

    Raises:
        SamecastError: a file cannot be written, or an existing table would become empty, as keys include the versions
            of samecast and of the metrics; the existing table is then kept.
    """
    path = rows.folder.path
    metadata = {
        "recipe": json.dumps(recipe_to_data(rows.folder.recipe())),
        "metrics": json.dumps({metric.name: _described(metric) for metric in rows.metrics}, default=str),
    }
    schema = _schema(rows.metrics, metadata)

    def write(parquet: Path, plain: Path) -> None:
        with pq.ParquetWriter(parquet, schema) as table, pcsv.CSVWriter(plain, schema) as text:
            left = iter(rows)
            while group := list(islice(left, _GROUP)):
                part = pa.Table.from_pylist(group, schema=schema)
                table.write_table(part)
                text.write_table(part)
                for row in group:
                    see(row)
        if not rows.count and (path / PARQUET).is_file():
            raise SamecastError(
                f"{str(path / PARQUET)!r} is kept: this version of samecast, with these metrics, has made none"
                f" of its pictures and scores; make them with samecast study --resume {path}"
            )

    replace_file(path / PARQUET, lambda parquet: replace_file(path / CSV, lambda plain: write(parquet, plain)))


def load_table(path: Path) -> Sequence[Row]:
    """The rows of a Parquet table."""
    return pq.read_table(path).to_pylist()


def _described(metric: Metric) -> dict[str, Any]:
    data: dict[str, Any] = {"column": metric.column, "description": metric.description, "kind": metric.kind}
    data["bounds"] = [bound if math.isfinite(bound) else None for bound in metric.bounds]
    return {**data, "higher_is_better": metric.higher_is_better, "key": metric.key, **metric.identity()}


def _schema(metrics: Sequence[Metric], metadata: Mapping[str, str]) -> Any:
    kinds: dict[str, Any] = {
        "hidden": pa.bool_(),
        "seed": pa.int64(),
        **{metric.column: pa.bool_() if metric.kind == "share" else pa.float64() for metric in metrics},
        "steps": pa.int64(),
        "guidance_scale": pa.float64(),
        "guidance_rescale": pa.float64(),
        "fixed_point": pa.int64(),
        "height": pa.int64(),
        "width": pa.int64(),
    }
    names = (
        *("subject", "hidden", "photos", "prompt", "seed", "variant", "handover", *BASE),
        *(metric.column for metric in metrics),
        *("rules", "key", "picture", "photo_hashes", "class_noun", "source_prompt", "negative_prompt"),
        *("model", "revision", "lora", "dtype", "steps", "guidance_scale", "guidance_rescale"),
        *("init", "pairing", "fixed_point", "height", "width"),
        *dict.fromkeys(name for metric in metrics for name in metric.facts()),
        "code",
    )
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names], metadata=dict(metadata))
