"""Files and folders: read within limits, written atomically, under names that no other process uses.

Files are written in a hidden folder next to their final place, which holds a lock while its process lives. So a later
process can distinguish the leftovers of a killed process from work in progress.
"""

from samecast.disk.locks import LOCK, PENDING, all_below, locked, pending, sweep
from samecast.disk.paths import (
    absolute,
    check_writable,
    expanded,
    free_path,
    inside,
    is_file,
    is_folder,
    lasting,
    read_bytes,
)
from samecast.disk.writing import (
    PendingFolder,
    replace_file,
    replace_picture,
    save_tensors,
    write_bytes,
    write_new_bytes,
    write_picture,
    write_text,
    writing_folder,
)

__all__ = [
    "LOCK",
    "PENDING",
    "PendingFolder",
    "absolute",
    "all_below",
    "check_writable",
    "expanded",
    "free_path",
    "inside",
    "is_file",
    "is_folder",
    "lasting",
    "locked",
    "pending",
    "read_bytes",
    "replace_file",
    "replace_picture",
    "save_tensors",
    "sweep",
    "write_bytes",
    "write_new_bytes",
    "write_picture",
    "write_text",
    "writing_folder",
]
