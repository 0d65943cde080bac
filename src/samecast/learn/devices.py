"""Several devices, one process each, started by `accelerate launch`; by default a single process."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn


@dataclass(frozen=True)
class Devices:
    """The processes of a training run.

    Args:
        count: number of processes.
        index: index of this process, from 0.
        device: device of this process; empty to choose automatically.
    """

    count: int = 1
    index: int = 0
    device: str = ""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.index == 0

    def wait(self) -> None:
        """Waits until all processes reach this call."""
        if self.count > 1:
            PartialState().wait_for_everyone()

    def add_up(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Sums gradients and losses over all processes in one message; returns the summed loss."""
        if self.count == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([loss.flatten().float(), *(gradient.flatten() for gradient in gradients)])
        total: Any = reduce(flat, "sum")
        parts = total[1:].split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return total[0]


def find_devices(device: str = "auto") -> Devices:
    """The processes started by `accelerate launch`, or this one alone.

    Args:
        device: as for `samecast.load`.
    """
    state = PartialState(cpu=device == "cpu")
    if state.num_processes == 1:
        return Devices()
    return Devices(state.num_processes, state.process_index, str(state.device) if device == "auto" else device)
