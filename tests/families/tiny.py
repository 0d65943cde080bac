"""Random pipelines of every family with a transformer, of the real classes at tiny widths, made without any download.

Two blocks or more of each kind, so that the choice of layers matters; weights are louder than freshly initialised ones,
so that a wrong key shows in the pixels. Tokenizers know a few words whole and all letters.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.conftest import make_tokenizer_files

WORDS = ("a", "photo", "of", "dog", "cat", "red", "ball", "on", "the", "beach", "blurry", "in", "snow", "big", "with")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def t5_tokenizer() -> Any:
    """T5's kind: words with a line before them, and letters."""
    from transformers import T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -5.0)]
    pieces += [(f"\u2581{word}", -2.0) for word in WORDS]
    pieces += [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz,.!"]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=64)


def t5_encoder(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=64, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2, dropout_rate=0.0)
    )


def clip_tokenizer(directory: Path, length: int = 77) -> Any:
    from transformers import CLIPTokenizer

    make_tokenizer_files(directory / "tokenizer_source")
    return CLIPTokenizer.from_pretrained(directory / "tokenizer_source", model_max_length=length)


def clip_encoder(tokenizer: Any, width: int, projection: int = 0) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=projection or width,
            num_hidden_layers=3,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def qwen_tokenizer() -> Any:
    """Qwen's kind: byte-level, with whole words after a space."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2TokenizerFast

    vocabulary = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    merges: list[str] = []
    for word in WORDS:
        whole = "\u0120"
        for letter in word:
            merges.append(f"{whole} {letter}")
            whole += letter
            vocabulary.setdefault(whole, len(vocabulary))
    merges = list(dict.fromkeys(merges))
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        vocabulary[special] = len(vocabulary)
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3_encoder(tokenizer: Any, width: int, layers: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )


def kl_autoencoder(latent: int, **others: Any) -> Any:
    """A factor of 4."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=latent,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=32,
        **others,
    )


def louder(module: nn.Module, factor: float = 2.0) -> None:
    """Attention's weights times a factor, and all that is empty or zero at random."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if not torch.isfinite(weight).all() or (weight == 0).all():
                weight.normal_(std=0.2)
            elif "attn" in name or "attention" in name:
                weight.mul_(factor)


def flow(**settings: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def make_flux(directory: Path, *, guided: bool = True) -> Any:
    """FLUX.1 dev, or schnell: 3 double and 3 single blocks."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    tokenizer = clip_tokenizer(directory)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=3,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=24,
        guidance_embeds=guided,
        axes_dims_rope=(4, 4, 8),
    )
    louder(transformer)
    scheduler = flow(shift=3.0, use_dynamic_shifting=True) if guided else flow(shift=1.0)
    return FluxPipeline(
        scheduler=scheduler,
        vae=kl_autoencoder(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=clip_encoder(tokenizer, 24),
        tokenizer=tokenizer,
        text_encoder_2=t5_encoder(32),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
    )


def make_schnell(directory: Path) -> Any:
    return make_flux(directory, guided=False)


def make_sd3(directory: Path, *, dual: tuple[int, ...] = ()) -> Any:
    """SD3, or 3.5 with dual layers: 3 blocks."""
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    tokenizers = [clip_tokenizer(directory), clip_tokenizer(directory)]
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=16,
        dual_attention_layers=dual,
        qk_norm="rms_norm" if dual else None,
    )
    louder(transformer)
    return StableDiffusion3Pipeline(
        scheduler=flow(shift=3.0),
        vae=kl_autoencoder(4, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=clip_encoder(tokenizers[0], 16, 16),
        tokenizer=tokenizers[0],
        text_encoder_2=clip_encoder(tokenizers[1], 32, 16),
        tokenizer_2=tokenizers[1],
        text_encoder_3=t5_encoder(64),
        tokenizer_3=t5_tokenizer(),
        transformer=transformer,
    )


def make_sd35(directory: Path) -> Any:
    return make_sd3(directory, dual=(0, 1))


def make_z_image(directory: Path) -> Any:
    """Z-Image: 2 refiners and 4 blocks."""
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    tokenizer = qwen_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=4,
        n_refiner_layers=2,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    louder(transformer)
    return ZImagePipeline(
        scheduler=flow(shift=3.0),
        vae=kl_autoencoder(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=qwen3_encoder(tokenizer, 16, 3),
        tokenizer=tokenizer,
        transformer=transformer,
    )


def make_qwen(directory: Path) -> Any:
    """Qwen-Image: 4 blocks."""
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [0],
    }
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )
    louder(transformer)
    moments = {"latents_mean": [0.1, -0.2, 0.0, 0.3], "latents_std": [1.0, 1.5, 2.0, 0.5]}
    return QwenImagePipeline(
        scheduler=flow(
            base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02, use_dynamic_shifting=True
        ),
        vae=AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True], **moments
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        tokenizer=tokenizer,
        transformer=transformer,
    )


def make_klein(directory: Path, *, distilled: bool = False) -> Any:
    """FLUX.2 klein: 2 double and 3 single blocks; the text encoder has the 28 layers that the pipeline reads."""
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel

    tokenizer = qwen_tokenizer()
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    louder(transformer)
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=32,
    )
    vae.bn.running_mean.normal_(std=0.3)
    vae.bn.running_var.uniform_(0.5, 2.0)
    return Flux2KleinPipeline(
        scheduler=flow(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=qwen3_encoder(tokenizer, 16, 28),
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=distilled,
    )


def make_klein_distilled(directory: Path) -> Any:
    return make_klein(directory, distilled=True)


def make_pixart(directory: Path) -> Any:
    """PixArt-Sigma: 4 blocks."""
    from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel

    from tests.conftest import make_scheduler

    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=4,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        cross_attention_dim=24,
        in_channels=4,
        out_channels=8,
        use_additional_conditions=False,
    )
    louder(transformer)
    return PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(32),
        vae=kl_autoencoder(4, scaling_factor=0.13025),
        transformer=transformer,
        scheduler=make_scheduler(),
    )


MAKERS = {
    "flux": make_flux,
    "schnell": make_schnell,
    "sd3": make_sd3,
    "sd35": make_sd35,
    "z_image": make_z_image,
    "qwen": make_qwen,
    "klein": make_klein,
    "klein_distilled": make_klein_distilled,
    "pixart": make_pixart,
}


def make(family: str, directory: Path) -> Any:
    """A pipeline of a family, ready to run."""
    torch.manual_seed(0)
    pipeline = MAKERS[family](directory)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
