"""LoRA weights on top of a checkpoint, through diffusers' own loader."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samecast.backbones.base import ModelIdentity
from samecast.backbones.fingerprint import PICKLES, file_revision
from samecast.backbones.quiet import first_line
from samecast.errors import SamecastError


def add_lora(pipeline: Any, identity: ModelIdentity, paths: Sequence[Path]) -> ModelIdentity:
    """Adds LoRAs, all at full strength.

    Args:
        pipeline: changed in place.
        identity: of the checkpoint.
        paths: files, or directories with diffusers' file name in them.

    Returns:
        The identity with the LoRAs in it.

    Raises:
        SamecastError: a LoRA is missing, pickled, empty or of another model.
    """
    names: list[str] = []
    loaded: list[tuple[str, str]] = []
    for path in paths:
        if path.suffix.lower() in PICKLES:
            raise SamecastError(f"LoRA {path} is a pickle, which could run any code; convert it to .safetensors first")
        file = path / "pytorch_lora_weights.safetensors" if path.is_dir() else path
        if not file.is_file():
            raise SamecastError(
                f"LoRA {path} does not exist; expected a .safetensors file or a directory with {file.name}"
            )
        name = f"lora_{len(names)}"
        try:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
        except Exception as error:  # a LoRA of another model fails in torch, peft or diffusers, each its own way
            raise SamecastError(f"LoRA {path} does not fit model {identity.id}: {first_line(error)}") from error
        if not any(name in adapters for adapters in pipeline.get_list_adapters().values()):
            raise SamecastError(f"LoRA {path} has no weights for model {identity.id}")
        names.append(name)
        loaded.append((str(path), file_revision(file)))
    pipeline.set_adapters(names)
    return ModelIdentity(identity.id, identity.revision, tuple(loaded))
