"""Where picture and prompt lie among the tokens of one call of a transformer with joint attention."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spans:
    """The tokens of one call of the denoiser, the same places in every row.

    Args:
        image: of the picture that is denoised.
        text: of the prompt.
        lengths: how many tokens of `text` each row has; None is all of them in every row.
    """

    image: slice
    text: slice
    lengths: tuple[int, ...] | None = None

    def image_of(self, tokens: int) -> slice:
        """Where the picture is in a layer's sequence of `tokens`, which may be the picture alone."""
        return slice(0, tokens) if tokens == self.image.stop - self.image.start else self.image
