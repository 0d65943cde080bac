"""The flow transformer and its pipeline: a stock `FluxPipeline` directory of real classes, only smaller.

FluxTransformer2DModel with double and single blocks, normalised queries and keys and rotary positions; a T5 encoder
that is read token by token and learns along; the shipped CLIP text encoder, whose pooled vector FLUX takes beside it;
the shipped autoencoder. Latents of 32 x 32 with 12 channels are packed 2 x 2: a picture of 256 px is 256 tokens.
"""

import shutil
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from einops import rearrange
from tokenizers import normalizers
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel, T5Tokenizer

from samecast.diorama.captions import ACCESSORY_PHRASES, BACKGROUND_PHRASES, OPENINGS, VIEW_PHRASES
from samecast.diorama.colours import COLOUR_WORDS
from samecast.diorama.scenes import CLASSES, PATTERNS, POSES
from training.flow_data import shipped_vae
from training.ship import WEIGHTS, in_float32
from training.tokenizer import GENERAL

TEXT = 32
"""Text tokens that captions are padded to: the longest has 24."""
PATCH = 2
SCHEDULE = {
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
"""FLUX.1's: noise levels are shifted by exp(0.5) at 256 tokens."""


def caption_words() -> set[str]:
    """Return every word that captions are made of."""
    phrases = [*OPENINGS, *CLASSES, *PATTERNS, *POSES, *COLOUR_WORDS, "a an and close up far away"]
    for wordings in (BACKGROUND_PHRASES, VIEW_PHRASES, ACCESSORY_PHRASES):
        phrases += [wording for several in wordings.values() for wording in several]
    return {word for phrase in phrases for word in phrase.split()}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a T5 tokenizer with a piece for each of the captions' words and of `GENERAL`, and one for each printable
    ASCII character, so that any such text encodes; letters' case is dropped."""
    pieces = [f"▁{word}" for word in sorted(caption_words() | set(GENERAL))]
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0)]
    vocabulary += [(piece, -5.0) for piece in pieces if len(piece) > 2] + [(f"▁{letter}", -9.0) for letter in letters]
    vocabulary += [(letter, -10.0) for letter in letters]
    made = T5Tokenizer(vocab=vocabulary, extra_ids=0).backend_tokenizer
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # T5Tokenizer itself drops the normalizer when it is loaded again
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_max_length=512
    )


def make_text(vocabulary: int, width: int = 128, layers: int = 3) -> T5EncoderModel:
    """Return the untrained T5 encoder. FLUX gives text tokens no positions; T5's relative ones are all their order."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary, d_model=width, d_kv=32, num_heads=width // 32, d_ff=2 * width, num_layers=layers,
            feed_forward_proj="gated-gelu", dropout_rate=0.0, is_encoder_decoder=False, use_cache=False,
        )
    )  # fmt: skip


def make_transformer(
    channels: int, context: int, pooled: int, width: int = 192, head: int = 64, double: int = 3, single: int = 5
) -> FluxTransformer2DModel:
    """Return the untrained transformer; its modulations and its output begin at nought (Peebles and Xie, 2023)."""
    spatial = 2 * round(head * 7 / 32)
    made = FluxTransformer2DModel(
        patch_size=1,
        in_channels=channels * PATCH**2,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=head,
        num_attention_heads=width // head,
        joint_attention_dim=context,
        pooled_projection_dim=pooled,
        guidance_embeds=False,
        axes_dims_rope=(head - 2 * spatial, spatial, spatial),
    )
    for name, part in made.named_modules():
        modulates = name.endswith(".linear") and ".norm" in f".{name}"
        if isinstance(part, nn.Linear) and (modulates or name == "proj_out"):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
    return made


def pack(z: torch.Tensor) -> torch.Tensor:
    """Turn latents (n, channels, height, width) into tokens (n, height / 2 * width / 2, channels * 4), as FluxPipeline
    does."""
    return rearrange(z, "n c (h p) (w q) -> n (h w) (c p q)", p=PATCH, q=PATCH)


def unpack(tokens: torch.Tensor, height: int) -> torch.Tensor:
    """Turn tokens back into latents (n, channels, 2 * height, width), of `height` rows of tokens."""
    return rearrange(tokens, "n (h w) (c p q) -> n c (h p) (w q)", h=height, p=PATCH, q=PATCH)


def positions(side: int, full: int) -> torch.Tensor:
    """Return the position ids (side * side, 3) of a square picture of `side` x `side` tokens, spread over the place
    that `full` x `full` tokens take: what is learnt of layout on few tokens holds for many."""
    at = (torch.arange(side) + 0.5) * full / side - 0.5
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)


def export(
    folder: Path, transformer: FluxTransformer2DModel, text: T5EncoderModel, tokenizer: PreTrainedTokenizerFast
) -> FluxPipeline:
    """Write the pipeline in half precision to a folder, whole or not at all, and return it.

    Like the shipped U-Net's, its text encoders ask to be loaded in single precision.
    """
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULE),
        vae=shipped_vae(),
        text_encoder=CLIPTextModel.from_pretrained(WEIGHTS / "diorama" / "text_encoder", dtype=torch.float32),
        tokenizer=CLIPTokenizer.from_pretrained(WEIGHTS / "diorama" / "tokenizer"),
        text_encoder_2=text,
        tokenizer_2=tokenizer,
        transformer=transformer,
    ).to(torch.float16)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    pipeline.save_pretrained(part)
    for name in ("text_encoder", "text_encoder_2"):
        in_float32(part / name / "config.json")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return pipeline
