"""Single-file checkpoints."""

from pathlib import Path
from typing import Any

import torch

from samecast.errors import SamecastError


def read_single_file(path: Path, dtype: torch.dtype, skipped: dict[str, Any]) -> Any:
    """Refuses single files."""
    raise SamecastError(f"model {path} is a single file; give a pipeline directory or a hub id")
