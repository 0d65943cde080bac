"""What a render gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from samecast.notebook import figures_html
from samecast.records import result_grid, save_run
from samecast.render.found import FoundMask
from samecast.render.quality import Fidelity

Progress = Callable[[str, int, int], None]
"""Called with the stage's name (`invert`, `source`, `denoise`, `decode`), how much is done, and how much there is."""

OutputType = Literal["pil", "np", "pt", "latent"]


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"Render({self.prompt!r}, seed {self.seed}, {self.image.width} x {self.image.height})"

    def _repr_html_(self) -> str:
        return figures_html([(self.image, f"{self.prompt} (seed {self.seed})")])


@dataclass(frozen=True, repr=False)
class RenderResult:
    """What one call of `Model.render` gave; in a notebook it shows its pictures.

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
        subject_masks: likewise those of named subjects, by name.
        found_masks: for methods that look for the subject: where they found it, of all maps of the run; or none.
        map_evaluations: rows beside these that only showed where the subject is in the sources.
        check_evaluations: rows beside these that only measured the inversion.
        reused_evaluations: of `evaluations`, those of the sources that an earlier render had done (`Model.kept`).
        autoencoder: how close each of `sources` comes to its reference: what encoding and decoding alone lose.
        inversion: how close each inverted reference comes when denoised freely, if `check_inversion` asked for it.
        latents: the pictures' clean latents, (picture, channel, height, width), scaled as the denoiser takes them.
        pixels: the pictures before rounding, (picture, 3, height, width) from 0 to 1, if `output_type` asked for them.
        output_type: the form of `images`.
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
    subject_masks: Mapping[str, tuple[Image.Image, ...]] = field(default_factory=dict[str, tuple[Image.Image, ...]])
    found_masks: tuple[FoundMask, ...] = ()
    map_evaluations: int = 0
    check_evaluations: int = 0
    reused_evaluations: int = 0
    autoencoder: tuple[Fidelity, ...] = ()
    inversion: tuple[Fidelity, ...] = ()
    latents: Tensor | None = field(default=None, compare=False)
    pixels: Tensor | None = field(default=None, compare=False)
    output_type: OutputType = "pil"

    @property
    def images(self) -> Any:
        """The pictures as the call asked for them, prompt by prompt, as `images` of a diffusers pipeline's output.

        For `output_type="pil"`, the default, a list of RGB pictures; for "pt" a tensor (picture, 3, height, width) and
        for "np" an array (picture, height, width, 3), both float32 from 0 to 1; for "latent" the clean latents.
        """
        if self.output_type == "pil" or self.pixels is None:
            return self.latents if self.output_type == "latent" else [render.image for render in self.renders]
        return self.pixels if self.output_type == "pt" else self.pixels.permute(0, 2, 3, 1).numpy()

    def save(self, folder: str | Path) -> Path:
        """Writes the pictures, a labelled grid and the record of the run, as the command line does.

        Args:
            folder: where; if it exists, the next free name is taken (`rex-2`, `rex-3`, ...).

        Returns:
            The folder that was written. `samecast render --again FOLDER` makes the same pictures again.

        Raises:
            SamecastError: the folder cannot be written.
        """
        return save_run(self, folder)

    def grid(self) -> Image.Image:
        """The source and every picture in one, each with its words below."""
        return result_grid(self)

    def __repr__(self) -> str:
        count = len(self.renders)
        size = f" of {self.renders[0].image.width} x {self.renders[0].image.height}" if self.renders else ""
        return f"RenderResult({count} picture{'s' * (count != 1)}{size}, {self.evaluations} evaluations)"

    def _repr_html_(self) -> str:
        shown = "reference" if self.references else "source"
        figures = [(image, shown) for image in self.references or self.sources]
        figures += [(render.image, f"{render.prompt} (seed {render.seed})") for render in self.renders]
        return figures_html(figures, below=(f"warning: {warning}" for warning in self.warnings))

    @property
    def source(self) -> Image.Image | None:
        """The first source: where targets start that start from a source."""
        return self.sources[0] if self.sources else None

    @property
    def reference(self) -> Image.Image | None:
        """The first reference."""
        return self.references[0] if self.references else None
