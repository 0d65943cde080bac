"""Validation of input from files, options and callers: bytes to text, text to data, data to dataclasses.

`read_json` and `read_yaml` turn a file into plain data with limits on its length, depth and numbers. `check_fields`
checks a dataclass against its annotations, types and ranges, and `build` makes one from data. All raise SamecastError
with one line. Accepted data cannot overflow, recurse without end, or fail to be written later.
"""

from samecast.checked.fields import RAW, Within, build, check_fields, check_value
from samecast.checked.options import GROUPS, Group, Leaf, Option, Takes, leaves
from samecast.checked.text import MOST_DEPTH, parse_json, read_json, read_lines, read_text, read_yaml
from samecast.checked.values import as_text, check_text, one_line, shown

__all__ = [
    "GROUPS",
    "MOST_DEPTH",
    "RAW",
    "Group",
    "Leaf",
    "Option",
    "Takes",
    "Within",
    "as_text",
    "build",
    "check_fields",
    "check_text",
    "check_value",
    "leaves",
    "one_line",
    "parse_json",
    "read_json",
    "read_lines",
    "read_text",
    "read_yaml",
    "shown",
]
