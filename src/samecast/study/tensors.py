"""Tensors on disk, with their failures told as those of any other file."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, told: Mapping[str, str]) -> None:
    """Writes tensors and texts.

    Raises:
        OSError: it cannot be written; the library has an error of its own for a disk that is full.
    """
    try:
        save_file({name: tensor.detach().cpu() for name, tensor in tensors.items()}, path, dict(told))
    except SafetensorError as error:
        raise OSError(f"{error}") from error
