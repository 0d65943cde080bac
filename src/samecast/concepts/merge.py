"""Merge several concepts in closed form (Custom Diffusion, arXiv 2212.04488, section 3.3, equations 4 and 5).

For each key or value projection: the weight W that maps every concept's words as that concept's own weight W_i does, W
c = W_i c, and changes the output for other captions least, min ‖(W - W0) C_reg'‖. With the words' text features as rows
of C, their target outputs V and G = C_reg' C_reg,

    W = W0 + (V - W0 C') M⁻¹ A,   A = C G⁻¹,   M = A C'.

G, A and M depend on the text alone and are computed once for all layers, in float64. G⁻¹ is a pseudo-inverse:
directions that no caption spans stay unchanged (a text encoder that ends in a layer norm can have one), and the words
must not lie in them.

A word's features differ from prompt to prompt. As in the authors' code, two prompts are constrained, the word alone and
"photo of a <word> noun"; the loss in other prompts is measured on a few held-out ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.concepts.apply import apply_concepts, difference, related_parameters
from samecast.concepts.captions import default_captions
from samecast.concepts.compress import Progress
from samecast.concepts.concept import Base, Change, Concept, Value
from samecast.concepts.places import cross_attention_parameters, find_pipeline
from samecast.errors import SamecastError

_WORST_CONDITION = 1e12  # beyond it, float64 leaves fewer than four digits
_OUTSIDE = 1e-3  # largest share of the words' features outside the captions' span
_CHUNK = 50

CONSTRAINED = ("{}", "photo of a {}")
"""Constrained prompts for each word: alone, and before its noun."""

HELD_OUT = ("a {} on the beach", "the {} is asleep", "a painting of a {} in the snow")
"""Prompts without constraint, for measuring."""


@dataclass(frozen=True)
class Merging:
    """How well a merge fits.

    Args:
        condition: condition number of the captions' second moments G within their span; large where captions are too
            few.
        separation: condition number of M; large where the text encoder gives two concepts' words nearly equal features.
        error: largest ‖W c - W_i c‖ / ‖W_i c‖ of the written weights over all layers, for the constrained prompts.
        unseen: ‖(W - W_i) C'‖ / ‖(W_i - W0) C'‖ over all layers, for the prompts `HELD_OUT`: 0 equals each concept
            alone, 1 an error as large as its whole change. 0 where nothing is changed.
        drift: ‖(W - W0) C_reg'‖ / ‖W0 C_reg'‖ over all layers: the change for all other text.
    """

    condition: float
    separation: float
    error: float
    unseen: float
    drift: float


def merge(
    concepts: Sequence[Concept], model: Any, *, captions: Sequence[str] = (), progress: Progress | None = None
) -> tuple[Concept, Merging]:
    """Merges concepts into one, with the words of all and the keys and values that fit all.

    Args:
        concepts: two or more, with different words; a concept without weights (textual inversion) keeps the model's.
        model: the samecast model or backbone that they were trained on, without any concept applied.
        captions: texts of other things, whose output should not change; empty is a thousand everyday captions.
        progress: called with the progress of the stages `captions` and `merge`.

    Raises:
        SamecastError: a concept belongs to another model, changes more than keys and values or has no word; captions
            are too few; or two concepts cannot be distinguished.
    """
    if len(concepts) < 2:
        raise SamecastError(f"merging needs at least two concepts; got {len(concepts)}")
    pipeline = find_pipeline(model)
    places = {name: parameter.detach() for name, parameter in cross_attention_parameters(pipeline, "kv")}
    for number, concept in enumerate(concepts, start=1):
        related_parameters(pipeline, concept, f"concept {number}")
        _check(concept, number, places)
    words, of = _word_features(concepts, model, CONSTRAINED)
    others, of_others = _word_features(concepts, model, HELD_OUT)
    captions = captions or default_captions()
    moments = _moments(model, captions, progress)
    inverse, condition = _inverted(moments, words, len(captions))
    reading = words @ inverse
    kernel = reading @ words.T
    separation = float(torch.linalg.cond(kernel))
    if not separation < _WORST_CONDITION:
        named = " and ".join(word for concept in concepts for word in concept.tokens)
        raise SamecastError(
            f"{named} cannot be distinguished: the text encoder gives them nearly equal features (condition"
            f" {separation:.0e}, at most {_WORST_CONDITION:.0e}); give each concept once"
        )
    spread = torch.linalg.solve(kernel, reading)
    changes: dict[str, Change] = {}
    errors: list[float] = []
    moved = kept = off = changed = 0.0
    for number, (name, parameter) in enumerate(places.items(), start=1):
        base = parameter.cpu().double()
        target = _outputs(name, base, concepts, words, of)
        value = (base + (target - base @ words.T) @ spread).float()
        changes[name] = Value(value)
        written = value.double()
        errors.append(float((written @ words.T - target).norm() / target.norm()))
        alone = _outputs(name, base, concepts, others, of_others)
        off += float((written @ others.T - alone).square().sum())
        changed += float((alone - base @ others.T).square().sum())
        moved += float(((written - base) @ moments @ (written - base).T).trace())
        kept += float((base @ moments @ base.T).trace())
        if progress is not None:
            progress("merge", number, len(places))
    tokens = {word: token for concept in concepts for word, token in concept.tokens.items()}
    merged = Concept(tokens, changes, _common_base(concepts), _history(concepts))
    unseen = (off / changed) ** 0.5 if changed else 0.0
    return merged, Merging(condition, separation, max(errors), unseen, (moved / kept) ** 0.5)


def _check(concept: Concept, number: int, places: Mapping[str, Tensor]) -> None:
    if not concept.tokens:
        raise SamecastError(
            f"concept {number} has no modifier token, which merging needs: it fits the weights to the token's prompts"
        )
    other = next((name for name in concept.changes if name not in places), None)
    if other is not None:
        raise SamecastError(
            f"concept {number} changes {other}, but only keys and values of cross-attention can be merged in closed"
            " form: apply the concepts together instead, or train them jointly"
        )


def _word_features(
    concepts: Sequence[Concept], model: Any, prompts: Sequence[str]
) -> tuple[Float[Tensor, "row channel"], list[int]]:
    """Text features from each modifier token to the end of each prompt, and the concept number of each row.

    The noun follows the word, except in the prompt of the word alone.
    """
    backbone: Any = getattr(model, "backbone", model)
    rows: list[Tensor] = []
    of: list[int] = []
    with apply_concepts(model, [(_words_only(concept), 1.0) for concept in concepts]):
        for number, concept in enumerate(concepts):
            for word, token in concept.tokens.items():
                for prompt in prompts:
                    phrase = word if prompt == "{}" else f"{word} {token.class_noun}".strip()
                    features = _word_to_end(backbone, prompt.format(phrase), word)
                    rows.append(features)
                    of += [number] * len(features)
    return torch.cat(rows), of


def _word_to_end(backbone: Any, text: str, word: str) -> Float[Tensor, "row channel"]:
    """The features of a text from a word to its end."""
    tokenizer = backbone.pipeline.tokenizer
    last = len(tokenizer(backbone.pipeline.maybe_convert_prompt(text, tokenizer)).input_ids)
    return _features(backbone, [text])[0, backbone.find_words(text, word)[0] : last]


def _words_only(concept: Concept) -> Concept:
    return Concept(tokens=concept.tokens, base=concept.base)


def _features(backbone: Any, texts: Sequence[str]) -> Float[Tensor, "text token channel"]:
    """Text features for cross-attention, in float64, without the pooled embedding that XL's adapter appends."""
    length = int(backbone.pipeline.text_encoder.config.max_position_embeddings)
    with torch.no_grad():
        return backbone.encode_prompts(texts)[:, :length].cpu().double()


def _moments(model: Any, captions: Sequence[str], progress: Progress | None) -> Float[Tensor, "channel channel"]:
    """G."""
    backbone: Any = getattr(model, "backbone", model)
    total = torch.zeros(())
    for at in range(0, len(captions), _CHUNK):
        rows = _features(backbone, captions[at : at + _CHUNK]).flatten(0, 1)
        total = total + rows.T @ rows
        if progress is not None:
            progress("captions", min(at + _CHUNK, len(captions)), len(captions))
    return total


def _inverted(
    moments: Float[Tensor, "channel channel"], words: Float[Tensor, "row channel"], captions: int
) -> tuple[Float[Tensor, "channel channel"], float]:
    """The pseudo-inverse of G, and the condition number of G within its span.

    Raises:
        SamecastError: the captions do not span the words' features.
    """
    values, vectors = torch.linalg.eigh(moments)
    spanned = values > values[-1].clamp(min=1e-30) / _WORST_CONDITION
    values, vectors = values[spanned], vectors[:, spanned]
    outside = float((words - words @ vectors @ vectors.T).norm() / words.norm())
    if outside > _OUTSIDE:
        raise SamecastError(
            f"{captions} captions are too few: their text features span {len(values)} of {words.shape[1]}"
            f" dimensions, and {outside:.0%} of the words' features lie outside; give more and more varied captions"
        )
    return vectors / values @ vectors.T, float(values[-1] / values[0])


def _outputs(
    name: str, base: Tensor, concepts: Sequence[Concept], words: Float[Tensor, "row channel"], of: Sequence[int]
) -> Float[Tensor, "out row"]:
    """V: the output of each row of text features under its own concept's weight."""
    target = base @ words.T
    for number, concept in enumerate(concepts):
        if name in concept.changes:
            mine = torch.tensor([owner == number for owner in of])
            target[:, mine] += difference(concept.changes[name], base).double() @ words[mine].T
    return target


def _common_base(concepts: Sequence[Concept]) -> Base:
    bases = list(dict.fromkeys(concept.base for concept in concepts if concept.base.id)) or [concepts[0].base]
    return bases[0] if len(bases) == 1 else Base(family=bases[0].family)


def _history(concepts: Sequence[Concept]) -> dict[str, Any]:
    return {"merged": [{"words": list(concept.tokens), "training": dict(concept.training)} for concept in concepts]}
