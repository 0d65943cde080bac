"""What a render is asked for, and the pictures that come with it, read as the model will see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from samecast.attention.rule import Rules
from samecast.core.batch import Branch
from samecast.core.settings import RenderSettings
from samecast.engine.checks import check_masks, check_source, wanted_masks
from samecast.engine.given import GivenMask, read_mask
from samecast.engine.prepare import size_of
from samecast.engine.targets import Target, expand, make_targets
from samecast.models.base import Backbone
from samecast.photos import fit_photo, open_photo, upright
from samecast.render.result import OutputType
from samecast.subject import Subject


@dataclass(frozen=True)
class Request:
    """One call of `Model.render`, as it was given.

    Args:
        subject: whom to keep the same; None where the source is generated, or where there is none.
        prompts: one scene each.
        rules: who reads whom.
        settings: how to render.
        target_masks: where the subject is to be in each prompt's pictures.
        output_type: the form of the result's pictures.

    Raises:
        SamecastError: rules or settings need a source that is not there, or would repeat one picture.
    """

    subject: Subject | None
    prompts: Sequence[str]
    rules: Rules
    settings: RenderSettings
    target_masks: tuple[GivenMask, ...] = ()
    output_type: OutputType = "pil"

    def __post_init__(self) -> None:
        check_source(self.rules, self.settings, source=self.subject is not None or self.generated)

    @property
    def noun(self) -> str:
        """What the subject is; empty where nobody says so."""
        return self.subject.class_noun if self.subject is not None else ""

    @property
    def generated(self) -> bool:
        """Whether the source is generated from its prompt, for want of a photo."""
        return self.subject is None and bool(self.settings.source_prompt)

    @property
    def inverts(self) -> bool:
        """Whether the photos have to be inverted: somebody reads them or starts from them."""
        needed = self.settings.noise_share < 1 or any(rule.reads_source for rule in self.rules)
        return needed and bool(self.photos)

    @property
    def photos(self) -> tuple[str | Path | Image.Image, ...]:
        """The references as they were given."""
        return self.subject.references if self.subject is not None else ()

    @property
    def caption(self) -> str:
        """The sources' prompt."""
        return expand(self.settings.source_prompt, self.noun)

    def targets(self) -> tuple[Target, ...]:
        """The pictures to make; errors as for `make_targets`."""
        # A generated source takes the seed itself, so that fresh noise is not its noise again.
        return make_targets(self.prompts, self.settings, noun=self.noun, shift=int(self.generated))

    def sources(self) -> tuple[Branch, ...]:
        """One branch for each photo, or the one that is generated; one also where nobody needs it."""
        return tuple(Branch("source", index, self.caption) for index in range(max(1, len(self.photos))))


@dataclass(frozen=True)
class Pictures:
    """The request's pictures, of the run's size.

    Args:
        height: of all pictures in pixels.
        width: likewise.
        references: the photos, RGB.
        reference_masks: the given masks of these, grey; or none.
        target_masks: the given masks of the pictures to be made, one for each; or none.
    """

    height: int
    width: int
    references: tuple[Image.Image, ...]
    reference_masks: tuple[Image.Image, ...]
    target_masks: tuple[Image.Image, ...]


def read_pictures(request: Request, backbone: Backbone) -> Pictures:
    """Reads the photos and masks of a request; the size of all is what `size_of` makes of the first photo.

    Args:
        request: what was asked for.
        backbone: the model.

    Raises:
        SamecastError: one cannot be read, or masks are missing, or given that no rule reads.
    """
    fit, photos = request.settings.fit, [opened(photo) for photo in request.photos]
    height, width = size_of(backbone, request.settings, photos[0].size if photos else None)
    references = tuple(fit_photo(photo, height=height, width=width, fit=fit) for photo in photos)
    of_photos = request.subject.masks if request.subject is not None else ()
    of_prompts, prompts = request.target_masks, len(request.prompts)
    wanted = wanted_masks(request.rules)
    check_masks(wanted, references=len(of_photos), targets=len(of_prompts), prompts=prompts)
    read = partial(read_mask, height=height, width=width, fit=fit)
    reference_masks = tuple(
        read(mask, f"reference {number}", photo=photo.size)
        for number, (mask, photo) in enumerate(zip(of_photos, photos, strict=False), start=1)
    )
    masks = tuple(read(mask, f"prompt {number}", photo=None) for number, mask in enumerate(of_prompts, start=1))
    spread = masks if len(masks) != 1 else masks * prompts
    target_masks = tuple(mask for mask in spread for _ in range(request.settings.num_images_per_prompt))
    return Pictures(height, width, references, reference_masks, target_masks)


def opened(photo: str | Path | Image.Image) -> Image.Image:
    """A photo at its own size, upright, read from disk unless it is at hand."""
    return upright(photo) if isinstance(photo, Image.Image) else open_photo(photo)
