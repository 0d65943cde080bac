"""A concept: what light fine-tuning learned about a subject, stored separately from its base model.

It holds any mixture of three kinds: *modifier tokens* (`<new1>`), new words with an embedding for each text encoder
(Textual Inversion, arXiv 2208.01618); *values*, whole trained parameters that replace the model's, mostly the keys and
values of cross-attention (Custom Diffusion, arXiv 2212.04488); and *low-rank* changes that are added to the model's
parameters (LoRA, arXiv 2106.09685; Custom Diffusion's compressed files). Each keeps its trained precision, so that
reading and writing a file preserves its numbers.

Parameters have diffusers' names, prefixed with the part of the pipeline:
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
"""The text encoders of a pipeline; only XL has the second."""


@dataclass(frozen=True)
class ModifierToken:
    """A new word of the vocabulary.

    Args:
        vectors: the embeddings by text encoder, (vector, channel); a word of several vectors takes as many tokens of
            the prompt.
        class_noun: what the subject is, such as "dog"; empty where unknown.
    """

    vectors: Mapping[str, Float[Tensor, "vector channel"]]
    class_noun: str = ""

    @property
    def length(self) -> int:
        """The number of tokens that the word takes."""
        return next(iter(self.vectors.values())).shape[0]


@dataclass(frozen=True)
class Value:
    """A whole parameter, which replaces the model's.

    Args:
        value: the trained parameter, in the model's shape.
    """

    value: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Its tensor by name."""
        return {"value": self.value}


@dataclass(frozen=True)
class LowRank:
    """A low-rank change of a parameter, added to it: alpha / rank · up · down.

    For convolutions the kernel's positions are columns of `down`. Rank 0 changes nothing; Adobe's compression writes it
    for layers of which it keeps no singular value.

    Args:
        up: (out, rank), or (out, rank, 1, 1) as files have it for convolutions.
        down: (rank, in), or (rank, in, height, width).
        alpha: scale times rank; None stands for the rank, a scale of 1.
    """

    up: Tensor
    down: Tensor
    alpha: float | None = None

    @property
    def rank(self) -> int:
        """The number of columns of `up`."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """The factor of the product, alpha / rank."""
        return 1.0 if self.alpha is None or not self.rank else self.alpha / self.rank

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name; the scale is not in them."""
        return {"up": self.up, "down": self.down}

    def difference(self, shape: torch.Size, device: torch.device | str = "cpu") -> Tensor:
        """The full change in float32, in the parameter's shape, computed on a device."""
        up, down = (side.to(device, torch.float32).flatten(1) for side in (self.up, self.down))
        return (self.scale * (up @ down)).reshape(shape)


Change = Value | LowRank


@dataclass(frozen=True)
class Base:
    """The model that a concept was trained on.

    Args:
        id: repository id or path, as the user gave it; empty where unknown.
        revision: as in `ModelIdentity`; empty where unknown.
        family: `sd` for Stable Diffusion 1.x and 2.x, or `xl`.
    """

    id: str = ""
    revision: str = ""
    family: Family = "sd"


@dataclass(frozen=True, repr=False)
class Concept:
    """The result of training on one or several subjects.

    Args:
        tokens: the modifier tokens by word.
        changes: the changes of the model's parameters, by name.
        base: the model that it was trained on.
        training: training settings, for display and provenance; JSON-serialisable.
        origin: the file that it was read from, for provenance; empty for none.

    Raises:
        SamecastError: the concept is empty, or a tensor or name in it is invalid.
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
        based = f"{self.base.id or 'an unnamed model'} ({self.base.family}) {self.base.revision}"
        return table_html("samecast concept", {**record, "learned on": based.strip(), **self.training})

    @property
    def size(self) -> int:
        """Size of all tensors in bytes."""
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
        """`sha256:` and a hash over all tensors, independent of the file format."""
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
            words: new words by old word; other words keep theirs.

        Raises:
            SamecastError: an old word is missing, or a new word is already taken.
        """
        return replace(self, tokens=renamed(self.tokens, words))

    def save(self, path: str | Path) -> Path:
        """Writes samecast's own format, replacing an existing file, atomically; returns the path.

        Raises:
            SamecastError: the file cannot be written.
        """
        from samecast.concepts.file import save_concept

        return save_concept(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Concept":
        """Reads a concept from a safetensors file or folder in any supported format; never from a pickle.

        Raises:
            SamecastError: the file is missing, damaged, a pickle, or in an unknown format.
        """
        from samecast.concepts.formats import read_concept

        return read_concept(path, pickles=False)

    def apply(self, model: Any, *, strength: float = 1.0) -> "Applied":
        """Applies the concept to a model immediately, until `revert` or the end of a `with` block.

            with concept.apply(model):
                model.render(...)

        Args:
            model: a `samecast.Model`, a backbone, or a stock diffusers pipeline.
            strength: factor of the parameter changes, -10 to 10: 0 applies none, 1 the trained change, more exaggerates
                it. Embeddings are not scaled.

        Raises:
            SamecastError: the concept belongs to another model, a word is already in the vocabulary, or concepts are
                already applied (apply several in one call of `samecast.concepts.apply.apply_concepts`).
        """
        from samecast.concepts.apply import apply_concepts

        return apply_concepts(model, [(self, strength)])


def renamed(tokens: Mapping[str, ModifierToken], words: Mapping[str, str]) -> dict[str, ModifierToken]:
    """Modifier tokens under their new words; errors as for `Concept.rename`."""
    missing = set(words) - set(tokens)
    if missing:
        raise SamecastError(f"the concept has no token {sorted(missing)[0]}; it has {', '.join(tokens) or 'none'}")
    found = {words.get(word, word): token for word, token in tokens.items()}
    if len(found) < len(tokens):
        raise SamecastError("after renaming, two modifier tokens of the concept would have the same word")
    return found
