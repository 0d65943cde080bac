"""A run from options, or with `--again` from a record."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from PIL import Image

import samecast as sc
from samecast.attention.rule import Rules
from samecast.attention.rule_files import rules_from_data
from samecast.checked import Within, build, check_fields
from samecast.cli.console import RESULTS, notify
from samecast.cli.options.render import RenderOptions
from samecast.errors import SamecastError
from samecast.records import Record, differing, drift, read_record

_WITH_AGAIN = ("again", "out", "model", "verbose")


@dataclass(frozen=True)
class Run:
    """Everything that a run needs, whether from options or a record."""

    model: str
    device: str
    dtype: str
    lora: tuple[str, ...]
    concepts: tuple[str | tuple[str, float], ...]
    subject: sc.Subject | tuple[sc.Subject, ...] | None
    prompts: tuple[str, ...]
    rules: Rules
    settings: sc.RenderSettings
    out: Path
    target_masks: tuple[Path | Image.Image, ...] | Mapping[str, tuple[Path | Image.Image, ...]] = ()
    revision: str | None = None
    prediction_type: str = "auto"


def recorded(options: RenderOptions) -> Record | None:
    """The record of `--again`, or None."""
    if options.again is None:
        return None
    if given := options.flags(*_WITH_AGAIN):
        raise SamecastError(f"--again takes all settings from the record: leave out {', '.join(given)}")
    return read_record(options.again)


@dataclass(frozen=True)
class _Recorded:
    """The part of a record's provenance that a repetition needs."""

    model: Mapping[str, Any]
    device: str
    dtype: str
    threads: Annotated[int, Within(1, 1024)]
    class_noun: str
    prompts: tuple[str, ...]
    rules: Any
    settings: sc.RenderSettings
    prediction_type: str = "auto"
    subjects: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class _RecordedSubject:
    """A named subject: how many of the record's references and of their masks are its own."""

    name: str
    class_noun: str
    photos: Annotated[int, Within(1, 100_000)]
    masks: Annotated[int, Within(0, 100_000)]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class _RecordedModel:
    """The model of the provenance."""

    id: str
    revision: str
    lora: tuple[tuple[str, str], ...]
    concepts: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class _RecordedConcept:
    """A concept of the provenance; the path is empty if it was not loaded from a file."""

    path: str
    strength: float

    def __post_init__(self) -> None:
        check_fields(self)


def run_again(record: Record, options: RenderOptions) -> Run:
    """The run that a record describes; sets the process's number of threads to the recorded one."""
    import torch

    data = build(_Recorded, record.provenance, "the record", spare=True)
    identity = build(_RecordedModel, data.model, "the record's model", spare=True)
    concepts = [build(_RecordedConcept, each, "the record's concept", spare=True) for each in identity.concepts]
    if not all(concept.path for concept in concepts):
        raise SamecastError("the record has a concept that was not loaded from a file, so it cannot be repeated")
    same = options.model == RenderOptions.model
    run = Run(
        model=identity.id if same else options.model,
        device=data.device,
        dtype=data.dtype,
        lora=tuple(path for path, _ in identity.lora),
        concepts=tuple((concept.path, concept.strength) for concept in concepts),
        subject=_subjects(record, data),
        prompts=data.prompts,
        rules=rules_from_data(data.rules, "the record: "),
        settings=data.settings,
        out=options.out or record.folder.with_name(f"{record.folder.resolve().name}-again"),
        # The record has one for each picture; render takes one for each prompt.
        target_masks={
            name: masks[:: data.settings.num_images_per_prompt] for name, masks in record.subject_masks.items()
        }
        or record.target_masks[:: data.settings.num_images_per_prompt],
        revision=None if identity.revision.startswith("sha256:") else identity.revision,
        prediction_type=data.prediction_type if same else options.prediction_type,
    )
    torch.set_num_threads(data.threads)
    return run


def _subjects(record: Record, data: _Recorded) -> sc.Subject | tuple[sc.Subject, ...] | None:
    """The subjects of a record, with their photos and masks."""
    if not record.references:
        return None
    if not data.subjects:
        return sc.Subject(record.references, data.class_noun, record.reference_masks)
    photos, masks = list(record.references), list(record.reference_masks)
    several = [build(_RecordedSubject, each, "a subject of the record", spare=True) for each in data.subjects]
    counts = sum(each.photos for each in several), sum(each.masks for each in several)
    if counts != (len(photos), len(masks)):
        raise SamecastError(
            f"the record's subjects have {counts[0]} photos and {counts[1]} masks, and it holds {len(photos)} and"
            f" {len(masks)}: it is damaged"
        )
    return tuple(
        sc.Subject(
            tuple(photos.pop(0) for _ in range(each.photos)),
            each.class_noun,
            tuple(masks.pop(0) for _ in range(each.masks)),
            name=each.name,
        )
        for each in several
    )


def compare(record: Record, result: "sc.RenderResult") -> bool:
    """Print whether a repeated run gave the recorded pictures, and what has changed since."""
    for line in drift(record, result.provenance):
        notify(line)
    different = differing(record, result)
    if not different:
        RESULTS.print("identical to the recorded pictures, bit for bit")
    else:
        RESULTS.print(f"pictures {', '.join(map(str, different))} of {len(record.pictures)} differ from the record")
    return not different
