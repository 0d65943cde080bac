"""Ways to spoil what people have on disk: values of other kinds, broken structure, broken text, broken bytes."""

import copy
import json
from random import Random
from typing import Any

_DEEP = 50_000
_NAMES = ("gone.png", "../../etc/passwd", "/dev/zero", "/dev/null", "~nosuchuser/x", "a\nb", "x" * 300, "[red]x[/red]")
_TEXTS = (
    "",
    " ",
    "\u202egnp",
    "\x1b[2J",
    "강아지",
    "<new1>",
    "{noun}",
    "{",
    "a" * 5000,
    "0",
    "none",
    "nan",
    "1:2:3",
    *_NAMES,
)
_NUMBERS = (0, 1, -1, 2, 1.5, 1.0, 0.5, -0.0, 2**31, 2**63 - 1, 2**63, 10**19, 10**30, 1e308, 1e-320)
_WORDS = (
    *("inf", "-inf", "nan", "1e400", "9" * 30, "9" * 5000, "0x10", "1_000", "true", "None", "null", "-", "--"),
    *_TEXTS,
)
_SNIPPETS = (
    *(b"[" * _DEEP, b'{"a":' * _DEEP, b"{a: " * _DEEP, b"9" * 5000, b"1e400", b"NaN", b"-Infinity", b'"\\ud800"'),
    *(b"\xff", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"&a [*a]", b"<<: *a", b"!!python/object:os.system", b"%", b"\t"),
    *(b"'", b'"', b"\\", b"\n", b"\r", b",", b":", b"]", b"}", b"\xed\xa0\x80", b"\x85", b"\xc2\x85"),
)


def odd_value(draw: Random, depth: int = 0) -> Any:
    """A value that is likely of another kind than the one it stands for."""
    kind = draw.randrange(9 if depth < 3 else 7)
    if kind < 2:
        return draw.choice(_NUMBERS)
    if kind < 4:
        return draw.choice(_TEXTS)
    if kind < 7:
        return draw.choice((None, True, False, [], {}, float("nan"), float("inf"), "\ud800", [[]], [None]))
    if kind == 7:
        return [odd_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(_TEXTS): odd_value(draw, depth + 1) for _ in range(draw.randrange(4))}


def odd_word(draw: Random) -> str:
    """A word of a command line that is likely of another kind than the one it stands for."""
    return draw.choice((*_WORDS, "\udce9", "a\udcffb", str(draw.choice(_NUMBERS)), draw.choice(_NAMES)))


def spoiled_data(draw: Random, data: Any) -> Any:
    """A copy of plain data with one to three things in it changed, lost, doubled or renamed."""
    data = copy.deepcopy(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(data))
        if not places:
            return odd_value(draw)
        holder, key = draw.choice(places)
        act = draw.randrange(6)
        if act == 0:
            del holder[key]
        elif act == 1 and isinstance(holder, dict):
            holder[draw.choice(_TEXTS)] = holder.pop(key)
        elif act == 1:
            holder.insert(key, copy.deepcopy(holder[key]))
        elif act == 2:
            other, at = draw.choice(places)
            holder[key] = copy.deepcopy(other[at])
        else:
            holder[key] = odd_value(draw)
    return data


def _places(data: Any) -> Any:
    """Each (holder, key) in nested lists and dictionaries."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(inner):
        yield data, key
        yield from _places(value)


def spoiled_json(draw: Random, data: Any) -> bytes:
    """JSON of spoiled data, or spoiled JSON."""
    if draw.random() < 0.7:
        return json.dumps(spoiled_data(draw, data), ensure_ascii=draw.random() < 0.9).encode("utf-8", "surrogatepass")
    return spoiled_text(draw, json.dumps(data).encode())


def spoiled_text(draw: Random, text: bytes) -> bytes:
    """Text that is cut off, encoded otherwise, or has something in it that does not belong there."""
    act = draw.randrange(7)
    if act == 0:
        return text[: draw.randrange(len(text) + 1)]
    if act == 1:
        return text.decode("utf-8", "replace").encode(
            draw.choice(("utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp500"))
        )
    if act == 2:
        return spoiled_bytes(draw, text)
    if act == 3:
        words = text.split(b'"')
        draw.shuffle(words)
        return b'"'.join(words)
    at = draw.randrange(len(text) + 1)
    end = at + draw.choice((0, 0, 1, 5))
    return text[:at] + draw.choice(_SNIPPETS) + text[end:]


def spoiled_bytes(draw: Random, data: bytes) -> bytes:
    """Bytes that are flipped, cut off, zeroed, doubled or moved."""
    changed = bytearray(data)
    act = draw.randrange(6)
    if act == 0:
        return bytes(changed[: draw.randrange(len(changed) + 1)])
    if act == 1 and changed:  # where headers lie
        for _ in range(draw.randrange(1, 6)):
            changed[draw.randrange(min(64, len(changed)))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        return bytes(changed)
    if act == 2:
        at, length = draw.randrange(len(changed) + 1), draw.randrange(1, 200)
        changed[at : at + length] = bytes(draw.choice((0, 0xFF)) for _ in range(length))
        return bytes(changed)
    if act == 3:
        at, length = draw.randrange(len(changed) + 1), draw.randrange(1, 2000)
        return bytes(changed[:at] + changed[at : at + length] * draw.randrange(2, 5) + changed[at:])
    if act == 4:
        return bytes(changed) + draw.randbytes(draw.randrange(1, 400))
    for _ in range(draw.randrange(1, 40)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def spoiled_tensors(draw: Random, data: bytes) -> bytes:
    """A safetensors file with a spoiled header: eight bytes of its length, the JSON, then the numbers."""
    length = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
    record = header.get("__metadata__", {})
    for name, text in record.items():
        if draw.random() < 0.5 and text.startswith(("{", "[")):
            record[name] = spoiled_json(draw, json.loads(text)).decode("utf-8", "replace")
            text = json.dumps(header).encode()
            return len(text).to_bytes(8, "little") + text + numbers
    if draw.random() < 0.3:  # numbers that are none
        return data[: 8 + length] + bytes(draw.choice((b"\0\0\xc0\x7f", b"\0\0\x80\xff"))) * (len(numbers) // 4)
    text = spoiled_json(draw, header)
    return len(text).to_bytes(8, "little") + text + numbers
