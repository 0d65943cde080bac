"""LoRA's files: PEFT's keys as PEFT and diffusers write them, older diffusers', and kohya's.

A file that says nothing of a layer's scale means 1. kohya keeps an `alpha` beside each pair of matrices, PEFT keeps
settings (`samecast.concepts.formats.peft`).
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
# Past the name of a layer, so that a word of textual inversion may be called lora_style.
_OF_LORA = re.compile(
    r"^lora_(?:unet|te\d?)[_.].*\.|\.lora_(?:A|B|up|down|mid|linear_layer)\.|[._]lora\.(?:up|down|mid|alpha)|^bundle_emb\."
)
_BUNDLED = re.compile(r"bundle_emb\.(.+)\.(\w+)(?:\.\*)?")


@dataclass
class _Pair:
    """One layer's matrices while they are gathered, each with the key that it came under."""

    sides: dict[Side, tuple[str, Tensor]] = field(default_factory=dict[Side, tuple[str, Tensor]])

    def add(self, side: Side, key: str, tensor: Tensor) -> None:
        """Takes one; the same one under two spellings, as some mergers leave it, is one."""
        held = self.sides.setdefault(side, (key, tensor))
        if held[1] is not tensor and not torch.equal(held[1], tensor):
            raise SamecastError(f"its keys {held[0]!r:.120} and {key!r:.120} are of one layer, and differ")


def is_lora(data: Any) -> bool:
    """Whether a file holds LoRA, or one of its relatives."""
    return isinstance(data, Mapping) and any(_OF_LORA.search(str(key)) or _unread(str(key)) for key in data)


def read_lora(data: Mapping[str, Any], metadata: Mapping[str, str]) -> Parts:
    """Reads LoRA of any of these spellings, with the words that OneTrainer puts into the same file."""
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
                f"it holds the adapters {first!r:.40} and {adapter!r:.40}: expected one, save them apart"
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
        # PEFT finds layers by the end of their path, and not every encoder has text_model at its beginning.
        by_part.setdefault(part, {})[path.removeprefix("text_model.")] = change
        tensors[f"{part}.{path}.lora_A.weight"] = change.down
        tensors[f"{part}.{path}.lora_B.weight"] = change.up
    return tensors, adapter_settings(by_part)


def write_kohya(concept: Concept) -> dict[str, Tensor]:
    """Tensors in kohya's spelling, with CompVis's block names for XL, as his scripts have it.

    The scale is in `up`, so that alpha would be the rank, which all readers take for granted and which is not written:
    diffusers 0.42 mixes up attention layers' alphas where they differ.
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
    """The concept's changes, if all are what LoRA can be; those of rank 0, which change nothing, are left out.

    Raises:
        SamecastError: there are none, or others among them.
    """
    found: dict[str, LowRank] = {}
    for name, change in concept.changes.items():
        if isinstance(change, Value) and change.value.ndim != 2:
            raise SamecastError(
                f"LoRA has no place for {name}, which is no matrix: of Custom Diffusion's concepts those learned with"
                " --mode kv can be LoRA, those with crossattn cannot"
            )
        if not isinstance(change, LowRank):
            raise SamecastError(
                f"LoRA holds changes of low rank, and this concept holds {name} as a whole: give --model, and it is"
                " decomposed"
            )
        if change.rank:
            found[name] = change
    if not found:
        raise SamecastError("this concept changes no parameter, so that there is nothing to write as LoRA")
    return found


def _parse(key: str, tensor: Any) -> LoraKey:
    kind = _unread(key)
    if kind:
        raise SamecastError(f"it holds {kind} weights ({key!r:.120}), which samecast does not read")
    if not isinstance(tensor, Tensor):
        raise SamecastError(f"its entry {key!r:.80} is no tensor")
    return parse_key(key)


def _unread(key: str) -> str:
    """Which relative of LoRA a key is of, if it is one that is not read."""
    segments = key.split(".")[1:]  # the first is a layer, or a word of textual inversion, which may be called anything
    return next(
        (kind for mark, kind in _NOT_READ.items() for segment in segments if _is_marked(segment, mark)),
        "",
    )


def _is_marked(segment: str, mark: str) -> bool:
    return segment.startswith(mark) if mark.endswith("_") else segment == mark


def _factors(name: str, pair: _Pair) -> tuple[Tensor, Tensor]:
    """(up, down). A convolution may be decomposed once more: a kernel of rank x rank between two of 1 x 1."""
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
        raise SamecastError(f"the LoRA of {name} has a middle of shape {tuple(middle.shape)} for {tuple(down.shape)}")
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
    """`up` with the scale in it, in its own precision where that holds the very numbers, else in float32."""
    if change.scale == 1:
        return change.up
    folded = change.up.float() * change.scale
    rounded = folded.to(change.up.dtype)
    return rounded if torch.equal(rounded.float(), folded) else folded


def _reads_wide_text(changes: Mapping[str, LowRank]) -> bool:
    keys = (change for name, change in changes.items() if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")))
    return any(change.down.flatten(1).shape[1] == _XL_WIDTH for change in keys)


def _for_others(name: str) -> tuple[str, str]:
    """The part and the layer's path as other tools write it."""
    part, _, path = name.removesuffix(".weight").partition(".")
    inside = part in TEXT_ENCODERS and not path.startswith("text_projection")
    return part, f"text_model.{path}" if inside else path
