"""Concepts as training would leave them, on real classes at tiny widths."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from samecast.concepts.concept import Base, Concept, LowRank, ModifierToken, Value
from samecast.concepts.places import Mode, cross_attention_parameters
from samecast.concepts.words import encoders_of

STEPS = 2


def make_words(pipeline: Any, words: Sequence[str], *, noun: str = "dog", vectors: int = 1, seed: int = 0):
    """Modifier tokens with embeddings about as long as the model's own."""
    generator = torch.Generator().manual_seed(seed)
    tokens: dict[str, ModifierToken] = {}
    for word in words:
        by_encoder = {}
        for encoder in encoders_of(pipeline):
            weight = getattr(pipeline, encoder).get_input_embeddings().weight
            by_encoder[encoder] = torch.randn(vectors, weight.shape[1], generator=generator) * weight.detach().std()
        tokens[word] = ModifierToken(by_encoder, noun)
    return tokens


def make_concept(
    pipeline: Any,
    *,
    mode: Mode = "kv",
    words: Sequence[str] = ("<new1>",),
    noun: str = "dog",
    vectors: int = 1,
    size: float = 0.4,
    seed: int = 0,
) -> Concept:
    """A Custom Diffusion concept: whole weights that differ by so much of their spread."""
    generator = torch.Generator().manual_seed(seed + 100)
    changes = {
        name: Value(
            parameter.detach() + size * parameter.detach().std() * torch.randn(parameter.shape, generator=generator)
        )
        for name, parameter in cross_attention_parameters(pipeline, mode)
    }
    family = "xl" if len(encoders_of(pipeline)) == 2 else "sd"
    tokens = make_words(pipeline, words, noun=noun, vectors=vectors, seed=seed)
    return Concept(tokens, changes, Base(family=family), {"steps": 250})


def make_lora(pipeline: Any, *, rank: int = 3, alpha: float | None = 6.0, text: bool = True, seed: int = 0) -> Concept:
    """A LoRA of attention, of a feed-forward layer, of a convolution, and of the text encoders."""
    generator = torch.Generator().manual_seed(seed)
    parts = {"unet": pipeline.unet} | (
        {name: getattr(pipeline, name) for name in encoders_of(pipeline)} if text else {}
    )
    wanted = ("to_q", "to_v", "to_out.0", "ff.net.2", "proj_in", "q_proj", "out_proj", "fc1")
    changes = {}
    for part, module in parts.items():
        for path, layer in module.named_modules():
            if path.endswith(wanted) and isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                out, into, *kernel = layer.weight.shape
                up = torch.randn(out, rank, *(1 for _ in kernel), generator=generator) * 0.2
                down = torch.randn(rank, into, *kernel, generator=generator) * 0.2
                changes[f"{part}.{path.removeprefix('text_model.')}.weight"] = LowRank(up, down, alpha)
    return Concept(changes=changes, base=Base(family="xl" if hasattr(pipeline, "text_encoder_2") else "sd"))


def digest(pipeline: Any) -> tuple[object, ...]:
    """All bits of a pipeline's weights, and which its tokenizers are."""
    total = sha256()
    for part in ("unet", *encoders_of(pipeline)):
        for name, tensor in getattr(pipeline, part).state_dict().items():
            total.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    encoders = [getattr(pipeline, name) for name in encoders_of(pipeline)]
    settings = [(part.config.vocab_size, part.config.eos_token_id) for part in encoders]
    tokenizers = [getattr(pipeline, name.replace("text_encoder", "tokenizer")) for name in encoders_of(pipeline)]
    return total.hexdigest(), settings, [id(tokenizer) for tokenizer in tokenizers]


def paint(pipeline: Any, prompt: str) -> np.ndarray:
    """A picture of a stock pipeline, 0 to 255."""
    generator = torch.Generator().manual_seed(0)
    made = pipeline(prompt, num_inference_steps=STEPS, generator=generator, output_type="np", guidance_scale=5.0)
    return np.asarray(made.images[0]) * 255


def same(one: Concept, two: Concept) -> bool:
    """Whether two concepts hold the same words and the same numbers to the bit."""
    return one.revision == two.revision and {word: token.length for word, token in one.tokens.items()} == {
        word: token.length for word, token in two.tokens.items()
    }
