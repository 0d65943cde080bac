"""LoRA files: the keys of PEFT and diffusers, of older diffusers versions, and of kohya's scripts.

A layer without a scale has scale 1. kohya stores an `alpha` with each pair of matrices, PEFT stores settings
(`samecast.concepts.formats.peft`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from samecast.concepts.concept import TEXT_ENCODERS, Base, Concept, LowRank, ModifierToken, Value
from samecast.concepts.formats.lora_keys import LoraKey, Side, parse_key
from samecast.concepts.formats.names import family_of, to_compvis
from samecast.concepts.formats.peft import adapter_alphas, adapter_settings
from samecast.concepts.formats.textual_inversion import read_textual_inversion
from samecast.concepts.parts import Parts
from samecast.errors import SamecastError

PEFT_NAME = "pytorch_lora_weights"
_XL_WIDTH = 2048  # channels of the text that XL's cross-attention reads
_NOT_READ = {
    "dora_scale": "DoRA's",
    "lora_magnitude_vector": "DoRA's",
    "hada_": "LoHa's",
    "lokr_": "LoKr's",
    "oft_": "OFT's",
    "boft_": "BOFT's",
    "ia3_": "IA3's",
    "lora_embedding_": "an embedding layer's",
    "diff": "whole differences as",
    "diff_b": "whole differences as",
    "w_norm": "a normalisation layer's",
    "b_norm": "a normalisation layer's",
}
# After the first segment, so that a textual inversion word may be lora_style.
_OF_LORA = re.compile(
    r"^lora_(?:unet|te\d?)[_.].*\.|\.lora_(?:A|B|up|down|mid|linear_layer)\.|[._]lora\.(?:up|down|mid|alpha)|^bundle_emb\."
)
_BUNDLED = re.compile(r"bundle_emb\.(.+)\.(\w+)(?:\.\*)?")


@dataclass
class _Pair:
    """One layer's matrices during reading, each with its key."""

    sides: dict[Side, tuple[str, Tensor]] = field(default_factory=dict[Side, tuple[str, Tensor]])

    def add(self, side: Side, key: str, tensor: Tensor) -> None:
        """Adds a matrix; equal matrices under two spellings, which some merge tools write, count as one."""
        held = self.sides.setdefault(side, (key, tensor))
        if held[1] is not tensor and not torch.equal(held[1], tensor):
            raise SamecastError(f"its keys {held[0]!r:.120} and {key!r:.120} name one layer but differ")


def is_lora(data: Any) -> bool:
    """Whether a file holds LoRA or a related format."""
    return isinstance(data, Mapping) and any(_OF_LORA.search(str(key)) or _unread(str(key)) for key in data)


def read_lora(data: Mapping[str, Any], metadata: Mapping[str, str]) -> Parts:
    """Reads LoRA in any of these spellings, with the words that OneTrainer writes into the same file."""
    pairs: dict[str, _Pair] = {}
    adapters: dict[str, str] = {}
    bundled: dict[str, dict[str, Any]] = {}
    for key, tensor in data.items():
        if found := _BUNDLED.fullmatch(str(key)):
            place = "emb_params" if found[2] == "string_to_param" else found[2]
            bundled.setdefault(found[1], {})[place] = tensor
            continue
        name, side, adapter = _parse(str(key), tensor)
        if side != "alpha" and adapter != (first := adapters.setdefault(name.partition(".")[0], adapter)):
            raise SamecastError(
                f"it holds the adapters {first!r:.40} and {adapter!r:.40}; expected one: save each to its own file"
            )
        pairs.setdefault(name, _Pair()).add(side, str(key), tensor.detach())
    factors = {name: _factors(name, pair) for name, pair in pairs.items()}
    alphas = _alphas(pairs) | adapter_alphas(metadata, {name: down.shape[0] for name, (_, down) in factors.items()})
    changes = {name: LowRank(up, down, alphas.get(name)) for name, (up, down) in factors.items()}
    tokens: dict[str, ModifierToken] = {}
    for word, vectors in bundled.items():
        tokens |= read_textual_inversion(vectors, word).tokens
    is_xl = any(str(key).startswith("lora_te1_") for key in data) or _reads_wide_text(changes)
    return Parts(tokens, changes, Base(family="xl" if is_xl else family_of(changes)))


def write_peft(concept: Concept) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of `pytorch_lora_weights.safetensors`, which diffusers' `load_lora_weights` reads."""
    tensors: dict[str, Tensor] = {}
    by_part: dict[str, dict[str, LowRank]] = {}
    for name, change in low_rank_changes(concept).items():
        part, path = _for_others(name)
        # PEFT finds layers by the end of their path; some encoders' paths lack the leading text_model.
        by_part.setdefault(part, {})[path.removeprefix("text_model.")] = change
        tensors[f"{part}.{path}.lora_A.weight"] = change.down
        tensors[f"{part}.{path}.lora_B.weight"] = change.up
    return tensors, adapter_settings(by_part)


def write_kohya(concept: Concept) -> dict[str, Tensor]:
    """Tensors in kohya's spelling, with CompVis's block names for XL, as in kohya's scripts.

    The scale is multiplied into `up`, so that alpha equals the rank, the default of all readers, and is not written:
    diffusers 0.42 confuses the alphas of attention layers where they differ.
    """
    is_xl = concept.base.family == "xl"
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if is_xl else "lora_te", "text_encoder_2": "lora_te2"}
    tensors: dict[str, Tensor] = {}
    for name, change in low_rank_changes(concept).items():
        part, path = _for_others(name)
        if is_xl and part == "unet":
            path = to_compvis(path)
        key = f"{prefixes[part]}_{path.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": change.down, f"{key}.lora_up.weight": _scaled(change)}
    return tensors


def low_rank_changes(concept: Concept) -> dict[str, LowRank]:
    """The concept's changes as LoRA; changes of rank 0, which have no effect, are left out.

    Raises:
        SamecastError: there are none, or some cannot be LoRA.
    """
    found: dict[str, LowRank] = {}
    for name, change in concept.changes.items():
        if isinstance(change, Value) and change.value.ndim != 2:
            raise SamecastError(
                f"LoRA cannot hold {name}, which is not a matrix: a concept of Custom Diffusion trained with"
                " --mode kv can be LoRA, one trained with crossattn cannot"
            )
        if not isinstance(change, LowRank):
            raise SamecastError(
                f"LoRA holds low-rank changes, but this concept holds {name} as a whole weight: give --model to"
                " decompose it"
            )
        if change.rank:
            found[name] = change
    if not found:
        raise SamecastError("this concept changes no parameter: there is nothing to write as LoRA")
    return found


def _parse(key: str, tensor: Any) -> LoraKey:
    kind = _unread(key)
    if kind:
        raise SamecastError(f"it holds {kind} weights ({key!r:.120}), which samecast does not support")
    if not isinstance(tensor, Tensor):
        raise SamecastError(f"its entry {key!r:.80} is not a tensor")
    return parse_key(key)


def _unread(key: str) -> str:
    """The related format that a key belongs to, if it is not supported; else empty."""
    segments = key.split(".")[1:]  # the first is a layer, or a textual inversion word, which is arbitrary
    return next(
        (kind for mark, kind in _NOT_READ.items() for segment in segments if _is_marked(segment, mark)),
        "",
    )


def _is_marked(segment: str, mark: str) -> bool:
    return segment.startswith(mark) if mark.endswith("_") else segment == mark


def _factors(name: str, pair: _Pair) -> tuple[Tensor, Tensor]:
    """(up, down). A convolution may be decomposed further: a kernel of rank x rank between two of 1 x 1."""
    missing = {"up", "down"} - set(pair.sides)
    if missing:
        held = next(iter(pair.sides.values()))[0]
        raise SamecastError(
            f"the LoRA of {name} lacks its {' and '.join(sorted(missing))} matrix beside {held!r:.120}: the file is"
            " incomplete"
        )
    up, down = pair.sides["up"][1], pair.sides["down"][1]
    if "mid" not in pair.sides:
        return up, down
    middle = pair.sides["mid"][1]
    if middle.ndim != 4 or middle.shape[1] != down.shape[0]:
        raise SamecastError(
            f"the LoRA of {name} has a middle matrix of shape {tuple(middle.shape)}, which does not"
            f" fit down {tuple(down.shape)}"
        )
    # W[o, i, y, x] = up[o, p] middle[p, q, y, x] down[q, i] (LyCORIS, rebuild of a decomposed convolution).
    kernel = torch.einsum("pqyx,qi->piyx", middle.float(), down.float().flatten(1))
    return up, kernel


def _alphas(pairs: Mapping[str, _Pair]) -> dict[str, float]:
    alphas: dict[str, float] = {}
    for name, pair in pairs.items():
        key, alpha = pair.sides.get("alpha", ("", None))
        if alpha is None:
            continue
        if alpha.numel() != 1:
            raise SamecastError(f"its {key!r:.120} has the shape {tuple(alpha.shape)}; expected one number")
        alphas[name] = float(alpha)
    return alphas


def _scaled(change: LowRank) -> Tensor:
    """`up` times the scale, in its own precision where that is exact, else in float32."""
    if change.scale == 1:
        return change.up
    folded = change.up.float() * change.scale
    rounded = folded.to(change.up.dtype)
    return rounded if torch.equal(rounded.float(), folded) else folded


def _reads_wide_text(changes: Mapping[str, LowRank]) -> bool:
    keys = (change for name, change in changes.items() if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")))
    return any(change.down.flatten(1).shape[1] == _XL_WIDTH for change in keys)


def _for_others(name: str) -> tuple[str, str]:
    """The part of the pipeline and the layer's path, in other tools' names."""
    part, _, path = name.removesuffix(".weight").partition(".")
    inside = part in TEXT_ENCODERS and not path.startswith("text_projection")
    return part, f"text_model.{path}" if inside else path
