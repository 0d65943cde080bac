"""The trained parameters, placed in the model for a `with` block, and the concept made from them.

Weights are trained in place. Modifier tokens are not trained as rows of the embedding matrix, whose gradient would be
almost all zeros: they form a small separate parameter, which a hook inserts after the lookup. So all tokens train, no
other row can change, and the optimizer holds moments of the tokens alone. The block restores the model bit for bit.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from samecast.concepts.apply import apply_concepts
from samecast.concepts.concept import Change, Concept, LowRank, ModifierToken, Value
from samecast.concepts.places import cross_attention_parameters, find_pipeline
from samecast.errors import SamecastError
from samecast.learn.initial import initial_token
from samecast.learn.lists import ToLearn
from samecast.learn.settings import LearnSettings
from samecast.models.base import Backbone

_ADAPTER = "samecast"
_LORA_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Trained:
    """The trained parameters.

    Args:
        weights: parameters of the denoiser by name; empty for textual inversion.
        rows: embeddings of the modifier tokens by text encoder, (token, channel).
        settings: training settings.
        subjects: the subjects of the tokens, in the order of the rows.
    """

    weights: Mapping[str, nn.Parameter]
    rows: Mapping[str, nn.Parameter]
    settings: LearnSettings
    subjects: tuple[ToLearn, ...]

    def named(self) -> dict[str, nn.Parameter]:
        """All trained parameters by name."""
        rows = self.rows if self.settings.trains_tokens else {}
        return {**self.weights, **{f"token.{encoder}": row for encoder, row in rows.items()}}

    def groups(self, photos_per_step: int) -> list[dict[str, Any]]:
        """The optimizer's parameter groups; learning rates scale with the photos per step, as in Custom Diffusion."""
        settings = self.settings
        weights = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        tokens = {"lr": settings.token_rate, "weight_decay": 0.0}
        pairs = ((list(self.weights.values()), weights), (list(self.rows.values()), tokens))
        return [
            {"params": params, **options, "lr": options["lr"] * photos_per_step}
            for params, options in pairs
            if params and options["lr"]
        ]

    def tokens(self) -> dict[str, ModifierToken]:
        """The current modifier tokens."""
        return {
            subject.token: ModifierToken(
                {encoder: rows[index][None].detach().clone() for encoder, rows in self.rows.items()}, subject.noun
            )
            for index, subject in enumerate(self.subjects)
        }

    def changes(self) -> dict[str, Change]:
        """The current changes of the denoiser's parameters."""
        if self.settings.method != "lora":
            return {name: Value(weight.detach().clone()) for name, weight in self.weights.items()}
        pairs: dict[str, Change] = {}
        for name, up in self.weights.items():
            if ".lora_B." in name:
                layer = name.partition(".lora_B.")[0]
                down = self.weights[f"{layer}.lora_A.{_ADAPTER}.weight"]
                pairs[f"{layer}.weight"] = LowRank(up.detach().clone(), down.detach().clone())
        return pairs


@contextmanager
def training(backbone: Backbone, settings: LearnSettings, subjects: Sequence[ToLearn]) -> Generator[Trained]:
    """Makes a model trainable within a `with` block and restores it at the end.

    Args:
        backbone: the model, changed in place within the block.
        settings: training settings.
        subjects: the subjects whose tokens are added.

    Raises:
        SamecastError: a token is already in the vocabulary, or concepts are applied to the model.
    """
    pipeline = find_pipeline(backbone)
    tokens = {
        subject.token: initial_token(pipeline, subject, index, settings.initializer)
        for index, subject in enumerate(subjects)
    }
    with ExitStack() as undo:
        applied = undo.enter_context(apply_concepts(backbone, [(Concept(tokens=tokens), 1.0)]))
        rows: dict[str, nn.Parameter] = {}
        for encoder, ids in applied.token_ids.items():
            embedding = getattr(pipeline, encoder).get_input_embeddings()
            token_ids = [row for subject in subjects for row in ids[subject.token]]
            rows[encoder] = nn.Parameter(embedding.weight[token_ids].detach().float().clone())
            rows[encoder].requires_grad_(settings.trains_tokens)
            undo.callback(embedding.register_forward_hook(put_in_place(rows[encoder], token_ids)).remove)
        weights = _weights(pipeline, settings, undo)
        for weight in weights.values():
            undo.callback(_restore(weight))
            weight.data = weight.data.float()
            weight.requires_grad_(True)
        if settings.method == "custom-diffusion":
            _leave_the_start(pipeline.unet, undo)
        if settings.checkpointing:
            pipeline.unet.enable_gradient_checkpointing()
            undo.callback(pipeline.unet.disable_gradient_checkpointing)
        yield Trained(weights, rows, settings, tuple(subjects))


def put_in_place(rows: Tensor, ids: Sequence[int]) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A forward hook of an embedding that replaces the rows of some tokens.

    Args:
        rows: their embeddings (token, channel).
        ids: their token ids.
    """
    places = torch.full((max(ids) + 1,), -1, device=rows.device)
    places[list(ids)] = torch.arange(len(ids), device=rows.device)

    def hook(module: nn.Module, given: Any, embedded: Tensor) -> Tensor:
        asked: Tensor = given[0]
        place = places[asked.clamp(max=len(places) - 1)]
        place = torch.where(asked < len(places), place, -1)
        found = rows[place.clamp(min=0)].to(embedded.dtype)
        return torch.where((place >= 0)[..., None], found, embedded)

    return hook


def _leave_the_start(unet: Any, undo: ExitStack) -> None:
    """Stops the gradient of keys and values through the first token of every text, the start token.

    All texts share its hidden state, so it carries nothing about a subject. Adobe's code and diffusers do the same.
    """
    for name, layer in unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            undo.callback(layer.register_forward_hook(without_first).remove)


def without_first(module: nn.Module, given: Any, out: Tensor) -> Tensor:
    """A forward hook: (row, token, channel), unchanged, without gradient through the first token."""
    return torch.cat([out[:, :1].detach(), out[:, 1:]], dim=1)


def _weights(pipeline: Any, settings: LearnSettings, undo: ExitStack) -> dict[str, nn.Parameter]:
    if settings.method == "custom-diffusion":
        return dict(cross_attention_parameters(pipeline, settings.mode))
    if settings.method == "dreambooth":
        return {f"unet.{name}": weight for name, weight in pipeline.unet.named_parameters()}
    if settings.method == "lora":
        return _add_lora(pipeline.unet, settings, undo)
    return {}


def _add_lora(unet: Any, settings: LearnSettings, undo: ExitStack) -> dict[str, nn.Parameter]:
    """Low-rank changes by peft; alpha equals the rank, a scale of 1."""
    from peft import LoraConfig

    if getattr(unet, "peft_config", None):
        raise SamecastError("the model already has a LoRA loaded: unload or fuse it before training")
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.rank, init_lora_weights="gaussian", target_modules=list(_LORA_LAYERS)
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        unet.add_adapter(config, adapter_name=_ADAPTER)
    undo.callback(unet.unload_lora)
    unet.requires_grad_(False)
    return {f"unet.{name}": weight for name, weight in unet.named_parameters() if f".{_ADAPTER}." in name}


def _restore(parameter: nn.Parameter) -> Callable[[], None]:
    original = parameter.data.clone()

    def restore() -> None:
        parameter.data = original
        parameter.grad = None
        parameter.requires_grad_(False)

    return restore
