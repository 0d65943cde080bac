"""Hashes of a model's files, so that a record identifies the weights independently of their path."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
READ_SUFFIXES = {".safetensors", ".json", ".txt", ".jinja", ".model"}


def file_revision(path: Path) -> str:
    """`sha256:` and the hash of one file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def directory_revision(path: Path, parts: Iterable[str]) -> str:
    """`sha256:` and a hash over names and contents of the files that loading reads in the given subfolders."""
    total = hashlib.sha256()
    for part in sorted(parts):
        for file in sorted((path / part).rglob("*")):
            if file.suffix in READ_SUFFIXES and file.is_file():
                total.update(f"{file.relative_to(path).as_posix()} {file_revision(file)}\n".encode())
    return "sha256:" + total.hexdigest()
