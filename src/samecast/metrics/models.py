"""Locates scoring models: local folders in transformers' layout, or repositories of the hub."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from samecast.errors import SamecastError
from samecast.models.fingerprint import directory_revision
from samecast.models.quiet import first_line

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILES = ["*.json", "*.txt", "model.safetensors"]


def locate(model: str | Path) -> tuple[Path, str]:
    """The folder of a scoring model, downloaded from the hub if needed, and its revision: a commit, or a hash.

    Raises:
        SamecastError: the model does not exist or cannot be downloaded.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder, directory_revision(folder, [""])
    if not _HUB_ID.fullmatch(str(model)):
        raise SamecastError(f"scoring model {str(model)!r} does not exist; give a folder or a hub id like owner/name")
    try:
        snapshot = Path(snapshot_download(str(model), allow_patterns=_FILES))
    except Exception as error:  # the hub's client raises a dozen unrelated types
        raise SamecastError(
            f"scoring model {str(model)!r} is not a local folder and could not be downloaded: {first_line(error)}"
        ) from None
    return snapshot, snapshot.name
