"""Stable Diffusion 1.x and 2.x (and their miniatures): one CLIP text encoder, a conditional U-Net, a KL autoencoder.

An adapter over diffusers' pipeline, which it does not change: prompts go through the pipeline's `encode_prompt`, so
that textual inversions and LoRAs have the same effect as in diffusers.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from samecast.core.ddim import Schedule
from samecast.core.layers import Kind, Layer, Stage
from samecast.core.spans import Spans
from samecast.errors import SamecastError
from samecast.models.backbone import PipelineBackbone, common_timestep
from samecast.models.base import AttentionLayer, BoundLayer, ModelIdentity, StockArguments
from samecast.models.finite import check_finite
from samecast.models.schedules import ddim_schedule
from samecast.models.words import find_phrase, word_starts


class UNetBackbone(PipelineBackbone):
    """A `StableDiffusionPipeline` behind the `Backbone` protocol.

    Args:
        pipeline: the loaded pipeline, on its device; never modified.
        identity: the identity of its weights.

    Raises:
        SamecastError: the checkpoint's prediction type is neither epsilon nor v_prediction.
    """

    customary_guidance = 7.5
    """Guidance scale of papers and diffusers for this family."""

    def __init__(self, pipeline: Any, identity: ModelIdentity) -> None:
        super().__init__(pipeline, identity)
        prediction_type: str = pipeline.scheduler.config.get("prediction_type", "epsilon")
        if prediction_type not in ("epsilon", "v_prediction"):
            raise SamecastError(f"model {identity.id} predicts {prediction_type!r}; expected epsilon or v_prediction")
        self.prediction_type = prediction_type
        self.image_prompts: tuple[Tensor, ...] = ()
        """Empty image prompts, one row per IP-Adapter; set while a pipeline with IP-Adapters is attached."""

    @property
    def denoiser(self) -> torch.nn.Module:
        """The U-Net."""
        return self.pipeline.unet

    @property
    def default_size(self) -> int:
        """The native image side of the U-Net, in pixels."""
        side = self.pipeline.unet.config.sample_size
        return int(side if isinstance(side, int) else side[0]) * int(self.pipeline.vae_scale_factor)

    @property
    def size_multiple(self) -> int:
        """What the U-Net can halve at every level; or finer, where the model's size has less than eight of these."""
        finest = int(self.pipeline.vae_scale_factor)
        halved = finest * 2 ** (len(self.pipeline.unet.config.block_out_channels) - 1)
        return max(finest, min(halved, self.default_size // 8 // finest * finest))

    def schedule(self, steps: int, size: tuple[int, int] | None = None) -> Schedule:
        """The noise levels of diffusers' DDIMScheduler with the checkpoint's configuration, the same at any size."""
        return ddim_schedule(self.pipeline.scheduler.config, steps, self.prediction_type)

    def noise_levels(self) -> Float[Tensor, " timestep"]:
        """Cumulative products of the checkpoint's schedule."""
        return self.pipeline.scheduler.alphas_cumprod.float()

    def self_attention(self) -> tuple[BoundLayer, ...]:
        """Every `attn1`, in execution order."""
        return tuple(walk(self.pipeline.unet, "self"))

    def cross_attention(self) -> tuple[BoundLayer, ...]:
        """Every `attn2`, in execution order."""
        return tuple(walk(self.pipeline.unet, "cross"))

    def spans(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Spans | None:
        """None: no layer has picture and prompt in one sequence."""
        return None

    def stock_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> StockArguments:
        """What a call of the U-Net says.

        Raises:
            SamecastError: rows have different timesteps.
        """
        sample: Tensor = args[0] if args else kwargs["sample"]
        timestep = common_timestep(args[1] if len(args) > 1 else kwargs["timestep"])
        factor = int(self.pipeline.vae_scale_factor)
        return StockArguments(len(sample), timestep, (sample.shape[-2] * factor, sample.shape[-1] * factor))

    def join_texts(
        self, texts: Sequence[Float[Tensor, "token channel"]], guidance: Sequence[float]
    ) -> Float[Tensor, "row token channel"]:
        """One tensor; there is no embedded guidance."""
        return torch.stack(list(texts))

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "prompt token channel"]:
        """Text embeddings; texts beyond the encoder's length are refused rather than cut."""
        for prompt in prompts:
            self._check_length(prompt)
        embeddings, _ = self.pipeline.encode_prompt(list(prompts), self.device, 1, False)
        check_finite(embeddings, "text encoder", embeddings.dtype, self.identity)
        return embeddings.to(self.dtype)

    def _check_length(self, prompt: str) -> None:
        limit = self._text_limit
        text = self.pipeline.maybe_convert_prompt(prompt, self.pipeline.tokenizer)
        tokens = len(self.pipeline.tokenizer(text, verbose=False).input_ids)
        if tokens > limit:
            raise SamecastError(
                f"the prompt {prompt[:40]!r}... has {tokens - 2} tokens;"
                f" the model reads at most {limit - 2}: shorten it"
            )

    def find_words(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Positions of a phrase's tokens in a prompt; whole words, as the tokenizer splits both."""
        tokenizer = self.pipeline.tokenizer
        tokens = [self._tokens(text) for text in (prompt, phrase)]
        whole = frozenset(tokenizer.get_added_vocab())
        found = find_phrase(tokens[0], tokens[1][1:-1], word_starts(tokens[0], whole))
        if not found:
            raise SamecastError(f"the word {phrase!r} is not in the prompt {prompt[:60]!r}, so no map can show it")
        limit = self._text_limit
        read = tuple(at for at in found if at < limit - 1)  # the last is the end token
        if not read:
            raise SamecastError(
                f"the word {phrase!r} comes after the {limit - 2} tokens that the model reads of the prompt"
                f" {prompt[:40]!r}...: move it forward"
            )
        return read

    @property
    def _text_limit(self) -> int:
        """The largest number of tokens of a text, with start and end token; 77 for both of XL's encoders."""
        return int(self.pipeline.text_encoder.config.max_position_embeddings)

    def _tokens(self, text: str) -> list[str]:
        """The tokens of a text, with start and end token."""
        tokenizer = self.pipeline.tokenizer
        return tokenizer.convert_ids_to_tokens(tokenizer(self.pipeline.maybe_convert_prompt(text, tokenizer)).input_ids)

    def predict(
        self,
        latents: Float[Tensor, "row channel height width"],
        timestep: int | float | Int[Tensor, " row"],
        embeddings: Float[Tensor, "row token channel_text"],
    ) -> Float[Tensor, "row channel height width"]:
        """One call of the U-Net."""
        prediction = self.pipeline.unet(
            latents.to(self.dtype),
            timestep,
            encoder_hidden_states=embeddings,
            added_cond_kwargs=self.added_conditions(len(latents)),
            return_dict=False,
        )[0]
        return prediction.to(self.latent_dtype)

    def added_conditions(self, rows: int) -> dict[str, Any]:
        """The U-Net's conditions besides the text: empty image prompts, if it has an IP-Adapter.

        Raises:
            SamecastError: it has an IP-Adapter, and no empty image prompt is set.
        """
        if getattr(self.pipeline.unet, "encoder_hid_proj", None) is None:
            return {}
        if not self.image_prompts:
            raise SamecastError(
                "the U-Net has an IP-Adapter, which needs an image prompt: call its pipeline under samecast.attach, or"
                " unload_ip_adapter() first"
            )
        return {"image_embeds": [prompt.expand(rows, *prompt.shape[1:]) for prompt in self.image_prompts]}


def check_not_compiled(unet: Any) -> None:
    """Refuses a compiled U-Net, whose attention cannot be changed.

    Raises:
        SamecastError: the U-Net or a part of it is compiled.
    """
    modules = unet.modules() if isinstance(unet, torch.nn.Module) else ()
    if any(hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None for part in modules):
        raise SamecastError("the U-Net is compiled, which fixes its attention: use the U-Net without torch.compile")


def walk(unet: Any, kind: Kind) -> Iterator[BoundLayer]:
    """Yields a U-Net's attention layers of one kind in execution order; the U-Net's own lists put `mid` last.

    Raises:
        SamecastError: the U-Net is compiled, or has attention outside transformer blocks.
    """
    check_not_compiled(unet)
    resolution = unet.config.sample_size if isinstance(unet.config.sample_size, int) else unet.config.sample_size[0]
    index = 0
    stages: list[tuple[Stage, list[Any]]] = [
        ("down", list(unet.down_blocks)),
        ("mid", [unet.mid_block] if unet.mid_block is not None else []),
        ("up", list(unet.up_blocks)),
    ]
    for stage, blocks in stages:
        within = 0
        for block in blocks:
            for transformer in getattr(block, "attentions", None) or ():
                if not hasattr(transformer, "transformer_blocks"):
                    raise SamecastError(
                        f"this U-Net's {type(block).__name__} has attention outside transformer blocks; samecast"
                        " supports U-Nets of Stable Diffusion 1.x, 2.x and XL"
                    )
                for module in transformer.transformer_blocks:
                    attention = cast(AttentionLayer, module.attn1 if kind == "self" else module.attn2)
                    layer = Layer(f"{stage}.{within}", index, kind, stage, resolution, attention.heads)
                    yield BoundLayer(layer, attention)
                    index, within = index + 1, within + 1
            if getattr(block, "downsamplers", None):
                resolution = (resolution + 1) // 2  # stride 2, padding 1
            if getattr(block, "upsamplers", None):
                resolution = resolution * 2
