"""Custom Diffusion's files: Adobe's `delta.bin` (plain, compressed, XL), CompVis checkpoints, and diffusers' weights.

Adobe's code reads pickles alone, so its format is written as a pickle of tensors, dicts and lists. In diffusers'
safetensors self-attention, which has no weights, is stored as tensors without elements: diffusers' loader needs these
entries, although the files that diffusers writes lack them and cannot be read back.
"""

import io
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from samecast.concepts.concept import TEXT_ENCODERS, Base, Change, Concept, LowRank, ModifierToken, Value
from samecast.concepts.formats.names import family_of, to_compvis, unet_parameter
from samecast.concepts.parts import Parts
from samecast.errors import SamecastError

DIFFUSERS_NAME = "pytorch_custom_diffusion_weights"
_COMPVIS = "model.diffusion_model."
_WIDTHS = (768, 1024)  # channels of the text encoders of Stable Diffusion 1.x and 2.x
_PROCESSOR = re.compile(r"(.+)\.processor\.(to_k|to_v|to_q|to_out)_custom_diffusion((?:\.0)?\.(?:weight|bias))")


def is_official(data: Any) -> bool:
    """Whether a file is Adobe's `delta.bin`."""
    return isinstance(data, Mapping) and bool({"unet", "modifier_token"} & set(data))


def read_official(data: Mapping[str, Any]) -> Parts:
    """Reads Adobe's `delta.bin`."""
    if "text_encoder" in data:
        raise SamecastError("it holds a whole text encoder besides the concept, which samecast does not read")
    record: Any = data.get("modifier_token") or {}
    words: dict[str, ModifierToken] = {}
    for word, vectors in _mapping(record, "modifier_token").items():
        both = vectors if isinstance(vectors, list | tuple) else [vectors]
        single = [isinstance(vector, Tensor) and vector.numel() == vector.shape[-1] for vector in both]
        if not 1 <= len(both) <= 2 or not all(single):
            raise SamecastError(f"its modifier token {str(word)[:60]!r} is neither a vector nor a pair of vectors")
        words[str(word)] = ModifierToken(
            {encoder: vector.reshape(1, -1) for encoder, vector in zip(TEXT_ENCODERS, both, strict=False)}
        )
    unet = _mapping(data.get("unet") or {}, "unet")
    changes = {unet_parameter(str(name)): _change(str(name), value) for name, value in unet.items()}
    is_pair = any(len(token.vectors) > 1 for token in words.values())
    return Parts(words, changes, Base(family="xl" if is_pair else family_of(changes)))


def write_official(concept: Concept) -> bytes:
    """Writes Adobe's `delta.bin`; low-rank changes are written in its compressed form."""
    tokens: dict[str, Any] = {}
    for word, token in concept.tokens.items():
        vectors = [_single(word, token, encoder) for encoder in token.vectors]
        tokens[word] = vectors if len(vectors) > 1 else vectors[0]
    unet = {name.removeprefix("unet."): _plain(change) for name, change in _attention(concept).items()}
    return _pickled({"unet": unet, "modifier_token": tokens})


def is_compvis(data: Any) -> bool:
    """Whether a file is a CompVis checkpoint."""
    return isinstance(data, Mapping) and ("state_dict" in data or any(str(key).startswith(_COMPVIS) for key in data))


def read_compvis(data: Mapping[str, Any]) -> Parts:
    """Reads a CompVis checkpoint's deltas; its tokens have no names and become `<new1>`, `<new2>`, ... by
    convention."""
    state = dict(_mapping(data.get("state_dict", data), "state_dict"))
    embedded: Any = state.pop("embed", None)
    others = [key for key in state if ".attn2." not in str(key)]
    if others:
        raise SamecastError(
            f"it is a whole checkpoint, with {others[0]!r:.80} and {len(others) - 1} more outside cross-attention;"
            " expected a concept's deltas"
        )
    changes: dict[str, Change] = {}
    for key, value in state.items():
        changes[unet_parameter(str(key))] = _change(str(key), value)
    rows = () if embedded is None else _rows(embedded, changes)
    words = {f"<new{at}>": ModifierToken({TEXT_ENCODERS[0]: row[None]}) for at, row in enumerate(rows, start=1)}
    return Parts(words, changes)


def write_compvis(concept: Concept) -> bytes:
    """Writes a CompVis checkpoint's deltas."""
    if concept.base.family == "xl":
        raise SamecastError("CompVis's format cannot hold XL's two text encoders; choose official")
    state: dict[str, Any] = {}
    for name, change in _attention(concept).items():
        path, _, leaf = name.removeprefix("unet.").rpartition(".")
        state[f"{_COMPVIS}{to_compvis(path)}.{leaf}"] = _plain(change)
    rows = [_single(word, token, TEXT_ENCODERS[0]) for word, token in concept.tokens.items()]
    if rows:
        state["embed"] = torch.stack(rows)
    return _pickled({"state_dict": state})


def is_diffusers(data: Any) -> bool:
    """Whether a file holds diffusers' Custom Diffusion weights."""
    return isinstance(data, Mapping) and any("_custom_diffusion." in str(key) for key in data)


def read_diffusers(data: Mapping[str, Any]) -> Parts:
    """Reads diffusers' Custom Diffusion weights; their tokens are in separate files."""
    changes: dict[str, Change] = {}
    for key, value in data.items():
        found = _PROCESSOR.fullmatch(str(key))
        if found:
            changes[unet_parameter(f"{found[1]}.{found[2]}{found[3]}")] = _change(str(key), value)
        elif len(value):  # self-attention has an entry without weights
            raise SamecastError(f"its entry {key!r:.100} is not one of Custom Diffusion's weights")
    return Parts(changes=changes, base=Base(family=family_of(changes)))


def write_diffusers(concept: Concept) -> dict[str, Tensor]:
    """The tensors of diffusers' Custom Diffusion weights, with empty tensors for self-attention."""
    if not concept.changes:
        raise SamecastError("this concept has no weights to write; choose textual-inversion")
    tensors: dict[str, Tensor] = {}
    for name, change in _attention(concept).items():
        if not isinstance(change, Value):
            raise SamecastError(
                "diffusers' Custom Diffusion format holds whole weights, but this concept is low-rank: give --model"
            )
        layer, found, rest = name.removeprefix("unet.").rpartition(".attn2.")
        projection, leaf = rest.split(".", 1)
        tensors[f"{layer}{found}processor.{projection}_custom_diffusion.{leaf}"] = change.value
        tensors[f"{layer}.attn1.processor"] = torch.empty(0)
    return tensors


def _attention(concept: Concept) -> Mapping[str, Change]:
    """The concept's changes; raises SamecastError unless all are in cross-attention."""
    other = next((name for name in concept.changes if not name.startswith("unet.") or ".attn2." not in name), None)
    if other is not None:
        raise SamecastError(f"Custom Diffusion's formats hold cross-attention alone, but this concept changes {other}")
    of_keys_and_values = {name for name in concept.changes if name.endswith((".to_k.weight", ".to_v.weight"))}
    kinds = {type(concept.changes[name]) for name in of_keys_and_values}
    others = {type(concept.changes[name]) for name in concept.changes.keys() - of_keys_and_values}
    if len(kinds) > 1 or LowRank in others:
        raise SamecastError(
            "Custom Diffusion's formats hold whole weights or low-rank keys and values, not both: give --model"
            " to make all of them whole"
        )
    return concept.changes


def _rows(embedded: Any, changes: Mapping[str, Change]) -> Tensor:
    """The tokens' embeddings (token, channel); Adobe's `convert.py` concatenates them into one flat vector."""
    if not isinstance(embedded, Tensor) or embedded.ndim not in (1, 2):
        raise SamecastError("its embed is not a matrix of token embeddings")
    if embedded.ndim == 2:
        return embedded.detach()
    read = (change for name, change in changes.items() if name.endswith((".to_k.weight", ".to_v.weight")))
    widths = [(change.value if isinstance(change, Value) else change.down).shape[-1] for change in read]
    width = widths[0] if widths else next((each for each in _WIDTHS if len(embedded) % each == 0), len(embedded))
    if not len(embedded) or len(embedded) % width:
        raise SamecastError(f"its embed has {len(embedded)} numbers, which are no tokens of {width} channels")
    return embedded.detach().reshape(-1, width)


def _change(name: str, value: Any) -> Change:
    if isinstance(value, Tensor):
        return Value(value.detach())
    if isinstance(value, Mapping) and set(value) == {"u", "v"}:
        up, down = value["u"], value["v"]
        if isinstance(up, Tensor) and isinstance(down, Tensor):
            return LowRank(up.detach(), down.detach())
    raise SamecastError(f"its entry {name!r:.100} is neither a tensor nor a pair u, v")


def _plain(change: Change) -> Any:
    if isinstance(change, Value):
        return _own(change.value)
    up = change.up if change.scale == 1 else change.up * change.scale
    return {"u": _own(up), "v": _own(change.down)}


def _single(word: str, token: ModifierToken, encoder: str) -> Tensor:
    if token.length > 1:
        raise SamecastError(f"{word} has {token.length} vectors, but Custom Diffusion's formats hold one per token")
    return _own(token.vectors[encoder][0])


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone().contiguous()


def _mapping(value: Any, name: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise SamecastError(f"its {name} is a {type(value).__name__}; expected a dict")
    return value


def _pickled(data: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(data), buffer)
    return buffer.getvalue()
