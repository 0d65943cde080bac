"""What transformers with joint attention share: prompts of several parts, flow schedules, and a walk over their blocks.

A family is one file that derives from `JointBackbone`, and its line in `samecast.models.families`.
"""

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from jaxtyping import Float, Int
from torch import Tensor

from samecast.core.ddim import Schedule
from samecast.core.layers import Kind, Layer, Stage
from samecast.core.settings import Pairing, RenderSettings
from samecast.core.spans import Spans
from samecast.errors import SamecastError
from samecast.models.backbone import PipelineBackbone
from samecast.models.base import AttentionLayer, BoundLayer, ModelIdentity, StockArguments
from samecast.models.finite import check_finite
from samecast.models.schedules import flow_schedule, shift_of
from samecast.models.texts import Text


class JointBackbone(PipelineBackbone):
    """A pipeline whose denoiser is a transformer.

    Args:
        pipeline: the loaded pipeline, on its device; never modified.
        identity: the identity of its weights.

    Raises:
        SamecastError: its scheduler is not that of flow matching.
    """

    prediction_type = "flow"
    patch: ClassVar[int] = 2
    """Latent pixels per token along each side."""
    parts: ClassVar[Mapping[str, tuple[str, ...]]]
    """The parts of a model directory that are run, and the classes that each may have."""
    skipped: ClassVar[tuple[str, ...]] = ()
    """Parts that are not loaded."""
    text_length: ClassVar[int]
    """Most tokens of a prompt, as the pipeline has it by default."""
    named_sets: ClassVar[Mapping[str, Sequence[str]]] = {}
    """For each of the papers' named sets, the names of its layers."""
    whole: ClassVar[tuple[int, int, int]] = (0, 0, 0)
    """Double, single and dual layers of the model that the papers' sets are about."""

    def __init__(self, pipeline: Any, identity: ModelIdentity) -> None:
        super().__init__(pipeline, identity)
        self.check_scheduler()
        if self.latent_channels != self.vae_channels:
            raise SamecastError(
                f"model {identity.id} takes {self.latent_channels} channels for the autoencoder's {self.vae_channels};"
                " models for inpainting or control are not supported"
            )

    def check_scheduler(self) -> None:
        """Refuses another scheduler than that of flow matching."""
        scheduler = self.pipeline.scheduler
        if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            raise SamecastError(
                f"model {self.identity.id} has a {type(scheduler).__name__}; this family's noise levels are those of"
                " FlowMatchEulerDiscreteScheduler"
            )

    @property
    def denoiser(self) -> Any:
        """The transformer."""
        return self.pipeline.transformer

    @property
    def vae_channels(self) -> int:
        """Of the autoencoder's latents, as the denoiser takes them."""
        return int(self.pipeline.vae.config.latent_channels)

    @property
    def embeds_guidance(self) -> bool:
        """Whether guidance_scale is an input of the transformer, and not that of classifier-free guidance."""
        return False

    @property
    def takes_guidance(self) -> bool:
        """Whether guidance_scale has any effect."""
        return True

    @property
    def default_pairing(self) -> Pairing:
        """Models distilled to a few steps invert badly: their steps are long, and their flow bends."""
        return "matched" if self.takes_guidance else "straight"

    def settle(self, settings: RenderSettings) -> RenderSettings:
        """Settings with the model's guidance; see `Backbone`."""
        if self.takes_guidance and not self.embeds_guidance:
            return super().settle(settings)
        if not self.takes_guidance and settings.guidance_scale not in (None, self.default_guidance):
            raise SamecastError(
                f"guidance_scale {settings.guidance_scale:g} would have no effect: the model was distilled to do"
                " without guidance; leave it out"
            )
        true = 1.0 if settings.true_cfg_scale is None else settings.true_cfg_scale
        return replace(settings.settled(self.default_guidance, self.default_pairing), true_cfg_scale=true)

    @property
    def default_size(self) -> int:
        """The native image side, in pixels, which the pipelines have as a number of latent pixels."""
        return int(self.pipeline.default_sample_size) * int(self.pipeline.vae_scale_factor)

    @property
    def smallest_multiple(self) -> int:
        """In pixels: one token."""
        return int(self.pipeline.vae_scale_factor) * self.patch

    @property
    def size_multiple(self) -> int:
        """In pixels: one token."""
        return self.smallest_multiple

    def tokens(self, size: tuple[int, int] | None) -> int:
        """How many tokens a picture of a height and width in pixels has."""
        height, width = size or (self.default_size, self.default_size)
        return (height // self.smallest_multiple) * (width // self.smallest_multiple)

    def schedule(self, steps: int, size: tuple[int, int] | None = None) -> Schedule:
        """The noise levels of the checkpoint's scheduler, shifted for the size where it says so."""
        config = self.pipeline.scheduler.config
        return flow_schedule(config, steps, self.sigmas(steps), self.shift(steps, self.tokens(size)))

    def sigmas(self, steps: int) -> Sequence[float] | None:
        """The noise levels before any shift, as the pipeline gives them; None where it leaves them to the scheduler."""
        return [float(sigma) for sigma in torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64)]

    def shift(self, steps: int, tokens: int) -> float:
        """The shift of the noise levels."""
        return shift_of(self.pipeline.scheduler.config, tokens)

    def noise_levels(self) -> Float[Tensor, " timestep"]:
        """Refused: learning is for models that are trained with DDPM's noise levels."""
        raise SamecastError(
            f"model {self.identity.id} is a {type(self.pipeline).__name__}, and learning works on Stable Diffusion 1.x,"
            " 2.x and XL"
        )

    @abstractmethod
    def blocks(self) -> Iterable[tuple[Stage, int, Kind, Any]]:
        """(stage, number within it, kind, attention module) of each layer, in execution order."""

    def self_attention(self) -> tuple[BoundLayer, ...]:
        """Every layer that the picture's tokens go through, in execution order."""
        check_not_compiled(self.denoiser)
        return tuple(self._walk())

    def _walk(self) -> Iterator[BoundLayer]:
        blocks = list(self.blocks())
        # The papers' sets are of whole models: where one has other blocks, they say nothing of it.
        counts = tuple(sum(stage == wanted for stage, *_ in blocks) for wanted in ("double", "single", "dual"))
        sets = self.named_sets if counts == self.whole else {}
        for index, (stage, number, kind, module) in enumerate(blocks):
            name = f"{stage}.{number}"
            yield self.bind(stage, number, index, kind, module, [word for word in sets if name in sets[word]])

    def bind(
        self, stage: Stage, number: int, index: int, kind: Kind, module: Any, sets: Sequence[str] = ()
    ) -> BoundLayer:
        """A layer's address and module."""
        side = self.default_size // self.smallest_multiple
        layer = Layer(f"{stage}.{number}", index, kind, stage, side, int(module.heads), tuple(sets))
        return BoundLayer(layer, cast(AttentionLayer, module))

    def cross_attention(self) -> tuple[BoundLayer, ...]:
        """The layers of joint attention, in which the picture reads the prompt."""
        return tuple(bound for bound in self.self_attention() if bound.layer.kind == "joint")

    def join_texts(self, texts: Sequence[Text], guidance: Sequence[float]) -> list[Text]:
        """The texts of rows, with the guidance of each."""
        return [replace(text, guidance=scale) for text, scale in zip(texts, guidance, strict=True)]

    def encode_prompts(self, prompts: Sequence[str]) -> list[Text]:
        """Embedded texts; one beyond the encoder's length is refused rather than cut."""
        found: list[Text] = []
        for prompt in prompts:
            self.check_length(prompt)
            text = self.embed(prompt)
            for states in (text.tokens, text.pooled):
                if states is not None:
                    check_finite(states, "text encoder", states.dtype, self.identity)
            pooled = None if text.pooled is None else text.pooled.to(self.dtype)
            found.append(Text(text.tokens.to(self.dtype), pooled))
        return found

    @abstractmethod
    def embed(self, prompt: str) -> Text:
        """One embedded text, by the pipeline's own `encode_prompt`."""

    @abstractmethod
    def count_tokens(self, prompt: str) -> int:
        """How many tokens a text has, special ones counted."""

    def check_length(self, prompt: str) -> None:
        """Refuses a text with more tokens than the model reads."""
        count = self.count_tokens(prompt)
        if count > self.text_length:
            raise SamecastError(
                f"the prompt {prompt[:40]!r}... has {count} tokens; the model reads at most {self.text_length}:"
                " shorten it"
            )

    def find_words(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Positions of a phrase's tokens in a prompt; whole words, as the tokenizer splits both."""
        found = self.positions(prompt, phrase)
        if not found:
            raise SamecastError(f"the word {phrase!r} is not in the prompt {prompt[:60]!r}, so no map can show it")
        return found

    @abstractmethod
    def positions(self, prompt: str, phrase: str) -> tuple[int, ...]:
        """Among `Text.tokens`, all sub-tokens of all occurrences of a phrase; empty where it is not there."""

    def predict(
        self,
        latents: Float[Tensor, "row channel height width"],
        timestep: int | float | Int[Tensor, " row"],
        embeddings: Sequence[Text],
    ) -> Float[Tensor, "row channel height width"]:
        """One call of the transformer."""
        times = torch.as_tensor(timestep, device=latents.device, dtype=torch.float32).expand(len(latents))
        return self.velocity(latents.to(self.dtype), times, embeddings).to(self.latent_dtype)

    @abstractmethod
    def velocity(
        self,
        latents: Float[Tensor, "row channel height width"],
        times: Float[Tensor, " row"],
        texts: Sequence[Text],
    ) -> Float[Tensor, "row channel height width"]:
        """The transformer's prediction: the flow from picture to noise.

        Args:
            latents: in its precision.
            times: the schedule's timesteps, 0 to 1000.
            texts: of each row.
        """

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of a call of the transformer by their names."""
        return inspect.signature(self.denoiser.forward).bind(*args, **kwargs).arguments

    def stock_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> StockArguments:
        """What a pipeline's call of the transformer says; its timestep is the scheduler's, from which it differs by
        rounding.

        Raises:
            SamecastError: rows have different timesteps.
        """
        named = self.named(args, kwargs)
        timestep, size = self.time_and_size(named)
        known = [float(each) for each in self.pipeline.scheduler.timesteps]
        return StockArguments(len(next(iter(named.values()))), min(known, key=lambda each: abs(each - timestep)), size)

    @abstractmethod
    def time_and_size(self, named: Mapping[str, Any]) -> tuple[float, tuple[int, int]]:
        """The timestep in the scheduler's units, and height and width in pixels, given the transformer's arguments by
        name."""

    def spans(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Spans | None:
        """Where picture and prompt lie; see `Backbone`."""
        return self.spans_of(self.named(args, kwargs))

    @abstractmethod
    def spans_of(self, named: Mapping[str, Any]) -> Spans | None:
        """Where picture and prompt lie, given the transformer's arguments by name."""


def check_not_compiled(transformer: Any) -> None:
    """Refuses a compiled transformer, whose attention cannot be changed.

    Raises:
        SamecastError: it or a part of it is compiled.
    """
    parts = transformer.modules() if isinstance(transformer, torch.nn.Module) else ()
    if any(hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None for part in parts):
        raise SamecastError(
            "the transformer is compiled, which fixes its attention: use the transformer without torch.compile"
        )
