"""Weigh: the others' keys and values times a weight and their mask (FreeCustom, Ding et al., CVPR 2024).

arXiv 2405.13870, section 3.3. One's own tokens have weight 1, a source's its weight within the subject and 0 outside:
the keys outside remain, with a logit of zero and nothing to give, as in the paper. (The authors' code adds the weight
to the logits within the mask, and lets nothing be read outside of it.)
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from samecast.attention.modes.base import Masked, Reading
from samecast.checked import Within


@dataclass(frozen=True)
class Weigh(Masked):
    """Weighted masks on the others' keys and values.

    Args:
        tokens: where the masks of the others come from.
        weight: of the others within their subject, 0 or more.

    Raises:
        SamecastError: a field is out of range.
    """

    name: ClassVar[str] = "weigh"
    masks_sources: ClassVar[bool] = True

    weight: Annotated[float, Within(0)] = 1.0

    def change(self, reading: Reading) -> None:
        """Multiplies keys and values."""
        table = reading.key.new_ones(len(reading.readers), reading.key.shape[2])
        for row, reader in enumerate(reading.readers):
            for at, own in enumerate(reader.own):
                if not own:
                    part = reader.source_tokens(at, reading.tokens).to(table)
                    table[row, reading.span(at)] = self.weight * part
        weight = table[:, None, :, None]
        reading.key, reading.value = weight * reading.key, weight * reading.value
