"""Match: attend to oneself, with the others' values put where they match (DreamMatcher).

Nam et al., CVPR 2024, arXiv 2402.09812, section 4. Replacing keys and values disturbs the structure that the prompt
asks for, so the reader keeps its queries and keys, and takes over only values: those of the source, warped to its own
layout by dense semantic matching. Each of its tokens matches the source token with the most similar descriptor
(cosine). A match counts where it is cycle-consistent, that is, where the way back from it leads near to where it came
from, and where the reader shows the subject:

    out = softmax(Q K' / sqrt d) (M V_warped + (1 - M) V)

The paper's descriptors are the outputs of the decoder's second and third block, each on its 256 principal components
common to both pictures, normalised and put side by side; the authors' code takes them of the step before, and resizes
them to each layer. Ours are the states that enter the very layer at the very step, on their common principal
components: they are there already, so that matching costs no evaluation, but they see one scale only. The consistency
limit is the paper's: 0.4 times side times the subject's share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from samecast.attention.modes.base import Masked, Part, Reader, Reading
from samecast.checked import Within
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from torch import Tensor

CONSISTENCY = 0.4
SUBJECT = SubjectTokens()
_COMPONENTS = 64


@dataclass(frozen=True)
class Match(Masked):
    """Own keys, and the others' values where they match.

    Args:
        tokens: where the mask of the reader comes from.
        consistency: how far from a token the way to its match and back may lead, as a share of the picture's side times
            the subject's share of the picture; above 0.

    Raises:
        SamecastError: a field is out of range.
    """

    name: ClassVar[str] = "match"
    reads_besides: ClassVar[frozenset[Part]] = frozenset({"hidden"})
    masks_readers: ClassVar[bool] = True

    tokens: Literal["given"] | SubjectTokens = SUBJECT
    consistency: Annotated[float, Within(0)] = CONSISTENCY

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.consistency == 0:
            raise SamecastError("the consistency of mode match must be above 0; got 0, at which nothing matches")

    def check(self, sources: Sequence[Any]) -> None:
        """Refuses sources that lack the reader itself or somebody else."""
        if "self" not in sources or len(sources) < 2:
            raise SamecastError(f"mode match needs 'self' and another source; got sources {sources!r}")

    def change(self, reading: Reading) -> None:
        """Leaves each reader its own keys, and its values but where a match counts."""
        import torch

        keys, values = list["Tensor"](), list["Tensor"]()
        for row, reader in enumerate(reading.readers):
            own = reading.span(reader.own.index(True))
            others = [number for number, mine in enumerate(reader.own) if not mine]
            shown = reading.own[row]["hidden"]
            match, error = correspond(
                shown, torch.cat([reading.pool[row][number]["hidden"] for number in others]), _grid(reader, len(shown))
            )
            offered = torch.cat([reading.value[row, :, reading.span(number)] for number in others], dim=1)
            counts = self._counting(reader, error)
            keys.append(reading.key[row, :, own])
            values.append(torch.where(counts[:, None], offered[:, match], reading.value[row, :, own]))
        reading.key, reading.value = torch.stack(keys), torch.stack(values)

    def _counting(self, reader: Reader, error: "Tensor") -> "Tensor":
        """Where matches count: on the subject, with an error below `consistency` times side times the subject's
        share."""
        from samecast.core.masks import tokens_of

        subject = tokens_of(reader.mask, len(error))
        limit = self.consistency * math.sqrt(len(error)) * float(subject.float().mean())
        return subject.to(error.device) & (error < limit)


def _grid(reader: Reader, tokens: int) -> tuple[int, int]:
    """Height and width of the reader's picture in tokens."""
    from samecast.core.masks import grid_of

    aspect = 1.0 if reader.mask is None else reader.mask.aspect
    return grid_of(tokens, aspect)


def correspond(target: "Tensor", sources: "Tensor", grid: tuple[int, int]) -> "tuple[Tensor, Tensor]":
    """For each token of a picture its match, and how far the way there and back leads astray.

    Args:
        target: descriptors of its tokens, row by row, (token, channel).
        sources: descriptors of all tokens that may match, (key, channel).
        grid: height and width of the picture in tokens.

    Returns:
        The index of the most similar source token, (token); and the distance, in tokens, from the target token to the
        one that is most similar to that match, (token).
    """
    import torch

    first, second = (torch.nn.functional.normalize(each, dim=1) for each in _principal(target, sources))
    similarity = first @ second.T
    match, back = similarity.argmax(dim=1), similarity.argmax(dim=0)
    at = torch.arange(len(target), device=target.device)
    places = torch.stack([at // grid[1], at % grid[1]], dim=1).to(first)
    return match, (places[back[match]] - places).norm(dim=1)


def _principal(target: "Tensor", sources: "Tensor") -> "tuple[Tensor, Tensor]":
    """Both on their common principal components; of few channels all are kept, which leaves angles as they are."""
    import torch

    states = torch.cat([target, sources])
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    states = states - states.mean(dim=0)
    if states.shape[1] > _COMPONENTS:
        _, axes = torch.linalg.eigh(states.T @ states)
        states = states @ axes[:, -_COMPONENTS:]
    return states[: len(target)], states[len(target) :]
