"""A concept: what light fine-tuning learned of a subject, apart from the model that it was learned on.

Three things may be in it, in any mixture: *modifier tokens* (`<new1>`), words of their own with an embedding for each
text encoder (Textual Inversion, arXiv 2208.01618); *values*, whole trained parameters that take the place of the
model's, mostly the keys and values of cross-attention (Custom Diffusion, arXiv 2212.04488); and *low-rank* changes that
are added to the model's (LoRA, arXiv 2106.09685; Custom Diffusion's compressed files). Each is kept as it was trained,
in its own precision, so that a file that is read and written again holds the same numbers.

Parameters are named as diffusers names them in a pipeline, the part first:
`unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.errors import SamecastError
from samecast.notebook import table_html

if TYPE_CHECKING:
    from samecast.concepts.apply import Applied

Family = Literal["sd", "xl"]

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
"""Parts of a pipeline that embed tokens; only XL has the second."""


@dataclass(frozen=True)
class ModifierToken:
    """A word of its own.

    Args:
        vectors: by text encoder, its embeddings, (vector, channel): mostly one; where there are more, the word stands
            for so many tokens in a row.
        class_noun: what the subject is, in a word; empty where nobody says so.
    """

    vectors: Mapping[str, Float[Tensor, "vector channel"]]
    class_noun: str = ""

    @property
    def length(self) -> int:
        """How many tokens the word stands for."""
        return next(iter(self.vectors.values())).shape[0]


@dataclass(frozen=True)
class Value:
    """A whole parameter, which takes the place of the model's.

    Args:
        value: the trained parameter, in the model's shape.
    """

    value: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """What it consists of."""
        return {"value": self.value}


@dataclass(frozen=True)
class LowRank:
    """A change of a parameter that is a product of two thin matrices: alpha / rank · up · down.

    Convolutions are matrices with their kernel's positions among the columns of `down`. Of rank 0 it changes nothing:
    so Adobe's compression leaves layers of which no singular value is kept.

    Args:
        up: (out, rank), or (out, rank, 1, 1) as files have it for convolutions.
        down: (rank, in), or (rank, in, height, width).
        alpha: its scale times its rank; None, which is the rank itself, scales by 1.
    """

    up: Tensor
    down: Tensor
    alpha: float | None = None

    @property
    def rank(self) -> int:
        """Columns of `up`."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return 1.0 if self.alpha is None or not self.rank else self.alpha / self.rank

    def tensors(self) -> dict[str, Tensor]:
        """What it consists of, without its scale."""
        return {"up": self.up, "down": self.down}

    def difference(self, shape: torch.Size, device: torch.device | str = "cpu") -> Tensor:
        """The change that it is, in float32 and the shape of the parameter, computed on a device."""
        up, down = (side.to(device, torch.float32).flatten(1) for side in (self.up, self.down))
        return (self.scale * (up @ down)).reshape(shape)


Change = Value | LowRank


@dataclass(frozen=True)
class Base:
    """The model that a concept was learned on.

    Args:
        id: as the user called it; empty where nobody knows.
        revision: as in `ModelIdentity`; empty where nobody knows.
        family: `sd` for Stable Diffusion 1.x and 2.x, `xl`.
    """

    id: str = ""
    revision: str = ""
    family: Family = "sd"


@dataclass(frozen=True, repr=False)
class Concept:
    """What was learned of one subject or of several.

    Args:
        tokens: the modifier tokens by their word.
        changes: of the model's parameters, by name.
        base: the model that it was learned on.
        training: how it was learned, for people and provenance; JSON-able.
        origin: the file that it was read from, for provenance; empty where there is none.

    Raises:
        SamecastError: there is nothing in it, or something in it cannot be.
    """

    tokens: Mapping[str, ModifierToken] = field(default_factory=dict[str, ModifierToken])
    changes: Mapping[str, Change] = field(default_factory=dict[str, Change])
    base: Base = Base()
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        from samecast.concepts.checks import check_concept

        check_concept(self)

    def __repr__(self) -> str:
        words = ", ".join(self.tokens) or "no words"
        return f"Concept({words}; {len(self.changes)} changed parameters, {self.size / 1e6:.1f} MB)"

    def _repr_html_(self) -> str:
        record = {
            "words": ", ".join(self.tokens),
            "changed parameters": len(self.changes),
            "size": f"{self.size:,} bytes",
        }
        based = f"{self.base.id or 'a model that the file does not name'} ({self.base.family}) {self.base.revision}"
        return table_html("samecast concept", {**record, "learned on": based.strip(), **self.training})

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, as `save` writes them: `token/<new1>/text_encoder`, `unet....to_k.weight/value`."""
        named = {
            f"token/{word}/{encoder}": vectors
            for word, token in self.tokens.items()
            for encoder, vectors in token.vectors.items()
        }
        for name, change in self.changes.items():
            named |= {f"{name}/{kind}": tensor for kind, tensor in change.tensors().items()}
        return named

    @property
    def revision(self) -> str:
        """`sha256:` and a hash over all numbers, the same in whatever format they were kept."""
        total = sha256()
        for name, tensor in sorted(self.tensors().items()):
            data = tensor.detach().cpu().contiguous()
            total.update(f"{name} {data.dtype} {tuple(data.shape)} ".encode())
            total.update(data.view(torch.uint8).numpy().tobytes())
        scales = {name: change.scale for name, change in self.changes.items() if isinstance(change, LowRank)}
        total.update(repr(sorted(scales.items())).encode())
        return "sha256:" + total.hexdigest()

    def rename(self, words: Mapping[str, str]) -> "Concept":
        """The concept with other modifier tokens.

        Args:
            words: the new word of each old one; others stay.

        Raises:
            SamecastError: an old word is not there, or a new one is there already.
        """
        return replace(self, tokens=renamed(self.tokens, words))

    def save(self, path: str | Path) -> Path:
        """Writes samecast's own format, whole or not at all, in place of what is there; returns where.

        Raises:
            SamecastError: it cannot be written there.
        """
        from samecast.concepts.file import save_concept

        return save_concept(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Concept":
        """Reads a concept from any safetensors file or folder that `samecast.concepts.formats` knows; never a pickle.

        Raises:
            SamecastError: the file is missing, damaged, a pickle, or of no format that is known.
        """
        from samecast.concepts.formats import read_concept

        return read_concept(path, pickles=False)

    def apply(self, model: Any, *, strength: float = 1.0) -> "Applied":
        """Puts the concept into a model at once, until `revert` or the end of a `with` block.

            with concept.apply(model):
                model.render(...)

        Args:
            model: a `samecast.Model`, a backbone, or a stock diffusers pipeline.
            strength: of the changes of parameters: 0 is none, 1 all, more exaggerates. Embeddings are not scaled.

        Raises:
            SamecastError: the concept is of another model, a word is in the vocabulary already, or concepts are applied
                already: several are applied in one call of `samecast.concepts.apply.apply_concepts`.
        """
        from samecast.concepts.apply import apply_concepts

        return apply_concepts(model, [(self, strength)])


def renamed(tokens: Mapping[str, ModifierToken], words: Mapping[str, str]) -> dict[str, ModifierToken]:
    """Modifier tokens with the new word of each old one; errors as for `Concept.rename`."""
    missing = set(words) - set(tokens)
    if missing:
        raise SamecastError(f"the concept has no token {sorted(missing)[0]}; it has {', '.join(tokens) or 'none'}")
    found = {words.get(word, word): token for word, token in tokens.items()}
    if len(found) < len(tokens):
        raise SamecastError("after renaming, two modifier tokens of the concept would be called the same")
    return found
