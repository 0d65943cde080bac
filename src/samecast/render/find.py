"""Where is the subject in a photo? Masks from cross-attention maps on the photo's own inversion, without rendering."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from samecast.attention.plan import Plan
from samecast.core.batch import Branches
from samecast.core.settings import RenderSettings
from samecast.core.tokens import SubjectTokens
from samecast.engine.attention_store import AttentionStore, make_map_spec
from samecast.engine.map_passes import map_sources
from samecast.engine.prepare import Resolved, prepare
from samecast.engine.run import Advance
from samecast.engine.source import encode_photos
from samecast.engine.targets import split_evenly
from samecast.errors import SamecastError
from samecast.models.base import Backbone
from samecast.notebook import figures_html
from samecast.render.found import FoundMask, found_masks, overlay
from samecast.render.request import Request, read_pictures
from samecast.render.result import Progress
from samecast.render.sources import invert, make_counter
from samecast.subject import Subject

ALMOST_ALL, ALMOST_NONE = 0.9, 0.01


@dataclass(frozen=True, repr=False)
class MaskSearch:
    """What one call of `Model.find_masks` gave.

    Args:
        references: the photos as they were fed to the model.
        masks: for each photo, for each thing looked for, where it was found; photo by photo.
        caption: the prompt whose words were looked for.
        evaluations: rows that went through the denoiser.
        warnings: masks that show next to nothing, or next to everything.
    """

    references: tuple[Image.Image, ...]
    masks: tuple[FoundMask, ...]
    caption: str
    evaluations: int
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"MaskSearch({', '.join(map(repr, self.masks))})"

    def _repr_html_(self) -> str:
        figures = [
            (overlay(self.references[mask.number - 1], mask.mask), f"{mask.phrase} ({mask.coverage:.1%})")
            for mask in self.masks
        ]
        return figures_html(figures, below=(f"warning: {warning}" for warning in self.warnings))


def find_masks(
    backbone: Backbone,
    subject: Subject,
    tokens: Sequence[SubjectTokens],
    settings: RenderSettings,
    progress: Progress | None,
) -> MaskSearch:
    """Looks for the subject in its photos; arguments and errors as for `Model.find_masks`."""
    settings = backbone.settle(settings)
    request = Request(subject, (), (), settings)
    schedule = backbone.schedule(settings.num_inference_steps)
    crossed = [bound.layer for bound in backbone.cross_attention()]
    if not tokens:
        raise SamecastError("nothing to look for: give at least one SubjectTokens")
    if any(each.average == "step" for each in tokens):
        raise SamecastError("average='step' has no effect here: maps are averaged over the given steps; leave it out")
    map_specs = tuple(dict.fromkeys(make_map_spec(each, crossed, schedule, request.noun) for each in tokens))
    resolved = Resolved.of(Plan(), map_specs, request.noun, request.caption)
    resolved.check_words(backbone, request.sources()[:1])
    pictures = read_pictures(replace(request, subject=replace(subject, masks=())), backbone)
    references, size = pictures.references, (pictures.height, pictures.width)
    schedule = backbone.schedule(settings.num_inference_steps, size)
    alone = Branches((), request.sources(), settings.guidance)
    prepared = prepare(
        backbone, schedule, resolved, alone, height=size[0], width=size[1], batch_rows=settings.batch_rows
    )
    run, store = prepared.run, AttentionStore(map_specs, backbone, size[1] / size[0])
    shown = store if request.caption else None  # the inversion's own evaluations show the subject, if they name it
    chunks = split_evenly(request.sources(), prepared.rows)
    counter = make_counter(progress, run)
    inverted, looked = counter("invert", len(chunks)), counter("look", len(chunks))

    def inverting(stage: str, rounds: int) -> Advance:
        return inverted

    with run.session:
        encoded = encode_photos(backbone, references)
        for chunk in chunks:
            trajectory = invert(run, chunk, encoded, settings, rows=len(chunk), counter=inverting, store=shown)
            map_sources(run, store, trajectory, prepared.caption, rows=len(chunk), advance=looked)
    masks = found_masks(store.masks(), map_specs, size)
    return MaskSearch(references, masks, prepared.caption, run.session.evaluations, _remarks(masks))


def _remarks(masks: Sequence[FoundMask]) -> tuple[str, ...]:
    found: list[str] = []
    for mask in masks:
        if ALMOST_NONE <= mask.coverage <= ALMOST_ALL:
            continue
        few = mask.coverage < ALMOST_NONE
        found.append(
            f"the mask of {mask.phrase!r} in {mask.of} {mask.number} is {'almost empty' if few else 'almost full'}"
            f" ({mask.coverage:.1%} of the picture): try {'a lower' if few else 'a higher'} threshold, otsu,"
            " or maps of other layers"
        )
    return tuple(found)
