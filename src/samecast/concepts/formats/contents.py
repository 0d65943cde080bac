"""The contents of a file, detected by its first bytes: safetensors, or a pickle, which only the converter reads.

A pickle is a program. It is read with `weights_only=True`, which accepts tensors and plain containers alone, and only
if the caller allows pickles; the result is data or an error of one line.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from samecast.errors import SamecastError

_ZIP, _PICKLE, _TAR = b"PK\x03\x04", b"\x80", b"ustar"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"\xff\x0a", b"\x00\x00\x00\x0cJXL")
_LARGEST_HEADER = 100_000_000  # what safetensors itself allows
_ASKED = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class Contents:
    """The contents of a file that may be a concept.

    Args:
        name: the file's name without its suffix.
        data: tensors by key, or the containers of tensors of a pickle.
        metadata: the metadata of a safetensors file.
    """

    name: str
    data: Any
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


def read_contents(path: Path, *, pickles: bool) -> Contents:
    """Reads a file, whatever its name.

    Args:
        path: the file.
        pickles: whether a pickle may be read; False wherever a file is used rather than converted.

    Raises:
        SamecastError: the file is damaged, empty, not a file of tensors, a pickle that is not allowed, or a pickle with
            more than data.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise SamecastError(f"it cannot be read: {error.strerror}") from None
    if not head:
        raise SamecastError("the file is empty; the download may have failed")
    if _is_safetensors(head, size):
        return _read_safetensors(path)
    if head.startswith((_ZIP, _PICKLE)):
        if not pickles:
            raise SamecastError(
                "it is a pickle, which could run any code: turn it into safetensors once, with samecast concept convert"
            )
        return Contents(path.stem, _read_pickle(path, zipped=head.startswith(_ZIP)))
    raise SamecastError(_describe_other(head))


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length <= min(size, _LARGEST_HEADER)


def _describe_other(head: bytes) -> str:
    if head[8:9] == b"{":
        return "its safetensors header is longer than the file: the file is cut off or damaged"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself: fetch it with git lfs pull"
    if head.startswith(_PICTURES) or head[4:12] in (b"ftypavif", b"ftypheic"):
        sure = (
            "A1111's picture embedding"
            if b"sd-ti-embedding" in head
            else "a picture, perhaps A1111's picture embedding"
        )
        return f"it is {sure}, which samecast does not read; expected the embedding's .pt or .safetensors file"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, not a file of tensors: the download failed"
    if head[257:262] == _TAR:
        return "it is a tar archive; expected safetensors, or a file written by torch.save"
    return "it is neither safetensors nor a file written by torch.save"


def _read_safetensors(path: Path) -> Contents:
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            opened: Any = file
            data: dict[str, Tensor] = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            return Contents(path.stem, data, dict(opened.metadata() or {}))
    except Exception as error:  # safetensors' error class is private
        raise SamecastError(f"it is not a valid safetensors file: {' '.join(str(error).split())}") from None


def _read_pickle(path: Path, *, zipped: bool) -> Any:
    try:
        if zipped:
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as file:  # given a path, torch would go by the suffix
                data = torch.load(file, map_location="cpu", weights_only=True)
        _check_sizes(data, path.stat().st_size, set())
    except SamecastError:
        raise
    except pickle.UnpicklingError as error:
        requested = _ASKED.search(str(error))
        if requested:
            raise SamecastError(
                f"it is a pickle that would run {requested[1]}; expected tensors alone. Nothing was run"
            ) from None
        raise SamecastError(
            f"it is a pickle that is damaged or holds more than data: {_short(error.__context__ or error)}"
        ) from None
    except Exception as error:  # a damaged archive fails in zip, in torch or in the unpickler, with different errors
        raise SamecastError(f"it is not a valid pickle of tensors: {_short(error)}") from None
    return data


def _check_archive(path: Path) -> None:
    """Refuses compressed archives, which can expand without limit: torch.save never compresses."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise SamecastError("it is a compressed zip archive; expected one written by torch.save")


def _check_sizes(data: Any, size: int, seen: set[int], depth: int = 0) -> None:
    """Refuses tensors that claim more numbers than the file has bytes for, before they are copied.

    Each container is checked once, however often it is referenced.
    """
    if isinstance(data, Tensor) and data.is_nested:
        raise SamecastError("it has a nested tensor; expected plain tensors")
    if isinstance(data, Tensor):
        strange = data.layout != torch.strided or data.is_quantized or data.is_meta
        if strange or data.numel() * data.element_size() > size:
            raise SamecastError(f"it claims a tensor of shape {tuple(data.shape)}, which the file does not contain")
    elif depth < 8 and id(data) not in seen and isinstance(data, Mapping | list | tuple):
        seen.add(id(data))
        values: Any = data.values() if isinstance(data, Mapping) else data
        for value in values:
            _check_sizes(value, size, seen, depth + 1)


def _short(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
