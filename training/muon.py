"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al., 2024), for small steps of
big effect.

Weights of two or more dimensions in the network's inside are stepped so, a convolution's as (out, in * height * width);
all else (biases, norms, what reads the input and writes the output) by AdamW. Updates have AdamW's size (0.2 times
the rate, root mean square; Liu et al., 2025), so that one rate serves both. Matrices of one shape go through the
Newton-Schulz iteration together, in bfloat16.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

OUTER = {
    "conv_in",
    "conv_out",
    "quant_conv",
    "post_quant_conv",
    "time_embedding",
    "stem",
    "heads",
    "parts",
    "embeddings",
    # of a flow transformer and its T5
    "x_embedder",
    "context_embedder",
    "time_text_embed",
    "norm",
    "norm1",
    "norm1_context",
    "norm_out",
    "shared",
    "embed_tokens",
    "relative_attention_bias",
}
OUTPUTS = {"transformer.proj_out.weight"}
"""Named in full what reads the input or writes the output where a part inside has the same name."""


def orthogonal(stack: Tensor, rounds: int = 4) -> Tensor:
    """Return matrices (n, rows, columns) with their singular values brought near 1."""
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(rounds):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Muon on lists of weights of two or more dimensions."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step from the gradients at hand."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            gradients = [weight.grad for weight in weights]
            velocities = [
                self.state[weight].setdefault("velocity", torch.zeros_like(weight, memory_format=torch.preserve_format))
                for weight in weights
            ]
            torch._foreach_lerp_(velocities, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, velocities, group["momentum"])  # Nesterov's look ahead
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            shapes: dict[tuple[int, int], list[int]] = {}
            for index, weight in enumerate(weights):
                shapes.setdefault((weight.shape[0], weight[0].numel()), []).append(index)
            for (rows, columns), indices in shapes.items():
                updates = orthogonal(torch.stack([ahead[index].reshape(rows, columns) for index in indices]))
                size = 0.2 * max(rows, columns) ** 0.5
                for index, update in zip(indices, updates, strict=True):
                    weights[index].add_(update.view(weights[index].shape), alpha=-group["lr"] * size)


def split(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the weights for Muon and those for AdamW."""
    inner, outer = [], []
    for name, weight in module.named_parameters():
        inside = weight.dim() >= 2 and OUTER.isdisjoint(name.split(".")) and name not in OUTPUTS
        (inner if inside else outer).append(weight)
    return inner, outer
