"""What a render gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from samecast.render.found import FoundMask
from samecast.render.quality import Fidelity

Progress = Callable[[str, int, int], None]
"""Called with the stage's name (`invert`, `source`, `denoise`, `decode`), how much is done, and how much there is."""


@dataclass(frozen=True)
class Render:
    """One picture.

    Args:
        image: the picture, RGB.
        prompt: what it was to show, `{noun}` filled in.
        seed: of its noise; without effect where it started from the inverted latent.
    """

    image: Image.Image
    prompt: str
    seed: int


@dataclass(frozen=True)
class RenderResult:
    """What one call of `Model.render` gave.

    Args:
        renders: the pictures, prompt by prompt.
        sources: the replayed sources as decoded: what the targets could read. Empty where there is none.
        references: the photos as they were fed to the model. Empty where the source was generated.
        source_psnr: of the worst of `sources` against its reference, in dB; replay makes it that of the VAE alone.
        evaluations: rows that went through the denoiser, counted on it.
        provenance: all that it takes to make the pictures again, beside references and masks; JSON-able.
        warnings: settings without effect, and limits met.
        reference_masks: the given masks as they were used, one for each reference; or none.
        target_masks: the given masks as they were used, one for each picture; or none.
        found_masks: for methods that look for the subject: where they found it, of all maps of the run; or none.
        map_evaluations: rows beside these that only showed where the subject is in the sources.
        check_evaluations: rows beside these that only measured the inversion.
        autoencoder: how close each of `sources` comes to its reference: what encoding and decoding alone lose.
        inversion: how close each inverted reference comes when denoised freely, if `check_inversion` asked for it.
    """

    renders: tuple[Render, ...]
    sources: tuple[Image.Image, ...]
    references: tuple[Image.Image, ...]
    source_psnr: float | None
    evaluations: int
    provenance: dict[str, Any]
    warnings: tuple[str, ...]
    reference_masks: tuple[Image.Image, ...] = ()
    target_masks: tuple[Image.Image, ...] = ()
    found_masks: tuple[FoundMask, ...] = ()
    map_evaluations: int = 0
    check_evaluations: int = 0
    autoencoder: tuple[Fidelity, ...] = ()
    inversion: tuple[Fidelity, ...] = ()

    @property
    def source(self) -> Image.Image | None:
        """The first source: where targets start that start from a source."""
        return self.sources[0] if self.sources else None

    @property
    def reference(self) -> Image.Image | None:
        """The first reference."""
        return self.references[0] if self.references else None
