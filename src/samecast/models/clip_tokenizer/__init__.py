"""CLIP's tokenizer, which single-file checkpoints lack: the merges are included, the vocabulary follows from them."""

import gzip
import json
from importlib.resources import files
from pathlib import Path

VOCABULARY_SIZE = 49408
START, END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(directory: Path, *, pad_token: str) -> None:
    """Writes the files of a `CLIPTokenizer` (Radford et al. 2021).

    Args:
        directory: created if needed.
        pad_token: pads texts to 77 tokens: the end token in Stable Diffusion 1.x, `!` in 2.x.
    """
    packed = files(__name__).joinpath("merges.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode("utf-8").splitlines()
    letters = _byte_letters()
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
        START,
        END,
    ]
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": pad_token,
        "do_lower_case": True,
    }
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def _byte_letters() -> list[str]:
    """GPT-2's printable stand-in for each byte, in vocabulary order: printable ones first, the rest from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(hidden))]
