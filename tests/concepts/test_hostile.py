"""Hostile and broken files: each is one clear line, and nothing in it runs.

Every file below that is a pickle with a program in it would create `BEACON` if it were run.
"""

import gzip
import io
import json
import math
import os
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from samecast import SamecastError
from samecast.cli import main
from samecast.concepts.concept import Concept
from samecast.concepts.file import KEY
from samecast.concepts.formats import read_concept

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
NAME = f"{LAYER}.weight"
WEIGHT = torch.ones(4, 4)


class Program:
    """Runs something when it is unpickled."""

    def __init__(self, call: Callable[[str], Any], argument: str) -> None:
        self.call, self.argument = call, argument

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, (self.argument,)


def touching(beacon: Path) -> Program:
    return Program(os.system, f"touch {beacon}")


class Stateful(torch.nn.Module):
    """A whole module, as careless people save them."""


def torched(data: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()


def legacy(data: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(data, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def own(tensors: dict[str, torch.Tensor], **record: Any) -> bytes:
    facts = {"format": 1, "tokens": {}, "alphas": {}, "base": {}, "training": {}} | record
    return save(tensors, {KEY: json.dumps(facts)})


def compressed_zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return buffer.getvalue()


def tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("storages")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def header_of(length: int, header: bytes) -> bytes:
    return length.to_bytes(8, "little") + header


_ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
OVERLAPPING = json.dumps({"a": _ENTRY, "b": _ENTRY}).encode()
GOOD = own({f"unet.{NAME}/value": WEIGHT})
NAN = torch.full((4, 4), float("nan"))
OFFICIAL = {"unet": {NAME: WEIGHT}, "modifier_token": {"<new1>": torch.ones(8)}}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a prototype, says torch
    NESTED = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
BILLION = torch.ones(1).expand(1_000_000, 100_000)

BROKEN: dict[str, tuple[bytes, str]] = {
    # Not what it seems.
    "empty": (b"", "is empty"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
    "text": (b"not a concept at all, but a letter", "neither safetensors"),
    "tar": (tar(b"x"), "tar archive"),
    "gzip": (gzip.compress(GOOD), "neither safetensors"),
    # Safetensors that are broken.
    "truncated tensors": (GOOD[:-10], "not a valid safetensors"),
    "truncated header": (GOOD[:40], "longer than the file"),
    "huge header": (header_of(2**62, b"{}"), "longer than the file"),
    "header is no json": (header_of(6, b"{nope}"), "not a valid safetensors"),
    "overlapping tensors": (header_of(len(OVERLAPPING), OVERLAPPING) + bytes(4), "not a valid safetensors"),
    # Our own format, with lies in it.
    "future format": (own({f"unet.{NAME}/value": WEIGHT}, format=99), "has format 99"),
    "metadata is no json": (save({"a": WEIGHT}, {KEY: "{"}), "damaged"),
    "metadata is a list": (save({"a": WEIGHT}, {KEY: "[]"}), "damaged"),
    "deep metadata": (save({"a": WEIGHT}, {KEY: "[" * 100_000}), "damaged"),
    "half a pair": (own({f"unet.{NAME}/up": WEIGHT}), "damaged"),
    "unknown word": (own({"token/<new1>/text_encoder": WEIGHT}), "damaged"),
    "unknown base": (own({f"unet.{NAME}/value": WEIGHT}, base={"path": "x"}), "damaged"),
    "a parameter elsewhere": (own({"vae.decoder.weight/value": WEIGHT}), "not a parameter of a"),
    "a path as a parameter": (own({"unet.../../etc.weight/value": WEIGHT}), "damaged|no parameter"),
    "a word with a path": (own({"token/<a>/../text_encoder": WEIGHT}, tokens={"<a>": ""}), "damaged"),
    "training that is no number": (own({f"unet.{NAME}/value": WEIGHT}, training={"loss": math.nan}), "damaged"),
    "half a letter": (own({f"unet.{NAME}/value": WEIGHT}, base={"id": "\ud800"}), "damaged"),
    "notes that are no notes": (save({"<rex>": torch.ones(8)}, {"samecast.base": "[1]"}), "metadata is damaged"),
    "nothing in it": (own({}), "needs at least one"),
    "NaN": (own({f"unet.{NAME}/value": NAN}), "NaN or infinite"),
    "integers": (own({f"unet.{NAME}/value": WEIGHT.int()}), "holds int32"),
    "a scale of infinity": (
        own({f"unet.{NAME}/up": WEIGHT, f"unet.{NAME}/down": WEIGHT + 1}, alphas={f"unet.{NAME}": 1e300}),
        "expected a number between",
    ),
    "a scale too long for a number": (
        own({f"unet.{NAME}/up": WEIGHT, f"unet.{NAME}/down": WEIGHT + 1}, alphas={f"unet.{NAME}": 10**400}),
        "damaged|expected a number between",
    ),
    "a base that is a list": (own({f"unet.{NAME}/value": WEIGHT}, base={"id": ["x"]}), "the id .* expected text"),
    "a base of no family": (own({f"unet.{NAME}/value": WEIGHT}, base={"family": "zzz"}), "expected sd or xl"),
    # LoRA and relatives.
    "LoRA without its other half": (save({f"unet.{LAYER}.lora_A.weight": WEIGHT}), "lacks its up matrix"),
    "LoRA whose shapes do not fit": (
        save({f"unet.{LAYER}.lora_A.weight": torch.ones(3, 4), f"unet.{LAYER}.lora_B.weight": torch.ones(4, 2)}),
        "product is not defined",
    ),
    "DoRA": (save({f"lora_unet_{LAYER.replace('.', '_')}.dora_scale": WEIGHT}), "DoRA"),
    "LoHa": (save({f"lora_unet_{LAYER.replace('.', '_')}.hada_w1_a": WEIGHT}), "LoHa"),
    "LoRA of FLUX": (save({"transformer.single_blocks.0.lora_A.weight": WEIGHT}), "it belongs to FLUX"),
    "LoRA of nothing": (save({"unet.nonsense.lora_A.weight": WEIGHT}), "names no layer of a Stable Diffusion U-Net"),
    "LoRA with damaged metadata": (
        save(
            {f"unet.{LAYER}.lora_A.weight": WEIGHT, f"unet.{LAYER}.lora_B.weight": WEIGHT + 1},
            {"lora_adapter_metadata": "{"},
        ),
        "lora_adapter_metadata is damaged",
    ),
    "LoRA with a scale too long for a number": (
        save(
            {f"unet.{LAYER}.lora_A.weight": WEIGHT, f"unet.{LAYER}.lora_B.weight": WEIGHT + 1},
            {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 10**400})},
        ),
        "damaged",
    ),
    "a whole checkpoint": (
        save({"model.diffusion_model.input_blocks.0.0.weight": WEIGHT}),
        "whole checkpoint",
    ),
    "some other model": (save({"encoder.layer.0.weight": WEIGHT}), "not a concept in a format"),
}

PICKLED: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "program": (lambda beacon: pickle.dumps(touching(beacon), 2), "would run (posix|nt).system"),
    "program of protocol 4": (
        lambda beacon: pickle.dumps(touching(beacon), 4),
        "more than data: Unsupported operand",
    ),
    "program of protocol 0": (lambda beacon: b"PROTO" + pickle.dumps(touching(beacon), 0), "neither safetensors"),
    "program in delta.bin": (
        lambda beacon: torched({"unet": {NAME: WEIGHT}, "modifier_token": touching(beacon)}),
        "would run (posix|nt).system",
    ),
    "program in the old layout": (lambda beacon: legacy({"unet": touching(beacon)}), "would run (posix|nt).system"),
    "program by eval": (lambda beacon: torched(Program(eval, f"open({str(beacon)!r}, 'w')")), "would run .*eval"),
    "program by mkdir": (lambda beacon: torched([Program(os.mkdir, str(beacon))]), "would run .*mkdir"),
    "a whole module": (lambda _: torched(Stateful()), "would run"),
    "truncated": (lambda _: torched(OFFICIAL)[:-40], "not a valid pickle|damaged"),
    "truncated in the old layout": (lambda _: legacy(OFFICIAL)[:200], "not a valid pickle|damaged"),
    "compressed archive": (lambda _: compressed_zip(torched(OFFICIAL)), "compressed zip"),
    "a tensor larger than the file": (lambda _: torched({"<a>": BILLION}), "the file does not contain"),
    "meta tensor": (
        lambda _: torched({"unet": {NAME: torch.ones(4, 4, device="meta")}}),
        "the file does not contain",
    ),
    "nested tensor": (lambda _: torched({"<a>": NESTED}), "a nested tensor"),
    "sparse tensor": (
        lambda _: torched({"unet": {NAME: torch.ones(4, 4).to_sparse()}}),
        "the file does not contain",
    ),
    "delta with text": (lambda _: torched({"unet": {NAME: "weight"}}), "neither a tensor nor a pair"),
    "delta with half a pair": (lambda _: torched({"unet": {NAME: {"u": WEIGHT}}}), "neither a tensor nor a pair"),
    "delta with strange tokens": (lambda _: torched({"modifier_token": {"<a>": [1, 2, 3]}}), "neither a vector"),
    "delta that is a list": (lambda _: torched({"unet": [WEIGHT]}), "expected a dict"),
    "delta with a text encoder": (lambda _: torched({**OFFICIAL, "text_encoder": {}}), "whole text encoder"),
    "delta with NaN": (lambda _: torched({"unet": {NAME: NAN}}), "NaN or infinite"),
    "a modifier token of several vectors": (
        lambda _: torched({"unet": {}, "modifier_token": {"<new1>": torch.ones(2, 8)}}),
        "neither a vector nor a pair",
    ),
    "embedding of three axes": (lambda _: torched({"string_to_param": {"*": torch.ones(1, 2, 3)}}), "expected"),
    "two embeddings without a word": (
        lambda _: torched({"*": torch.ones(8), "emb_params": torch.ones(8)}),
        "without a word",
    ),
    "compvis layer that does not exist": (
        lambda _: torched({"state_dict": {"model.diffusion_model.input_blocks.1.attn2.to_k.weight": WEIGHT}}),
        "not a layer|not a parameter|checkpoint",
    ),
    "a number": (lambda _: torched(3), "not a concept in a format"),
    "a list of itself, sixty times": (lambda _: torched({"unet": {NAME: within_itself()}}), "neither a tensor nor"),
}


def within_itself() -> list[Any]:
    """Whoever walks it eight levels deep takes 60^8 steps."""
    endless: list[Any] = []
    endless.extend([endless] * 60)
    return endless


def record(file: Path, *, pickles: bool) -> str:
    with pytest.raises(SamecastError) as caught:
        read_concept(file, pickles=pickles)
    message = str(caught.value)
    assert message.startswith(f"concept {file}: ")
    assert "\n" not in message
    assert len(message) < 400 + len(str(file))
    return message.removeprefix(f"concept {file}: ")


def check(message: str, pattern: str) -> None:

    assert re.search(pattern, message), message


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, pattern = BROKEN[name]
    file = tmp_path / "rex.safetensors"
    file.write_bytes(content)
    check(record(file, pickles=False), pattern)
    check(record(file, pickles=True), pattern)


@pytest.mark.parametrize("name", PICKLED)
def test_bad_pickles_are_refused_and_nothing_runs(name: str, tmp_path: Path) -> None:
    make, pattern = PICKLED[name]
    beacon, file = tmp_path / "beacon", tmp_path / "rex.bin"
    file.write_bytes(make(beacon))
    check(record(file, pickles=True), pattern)
    check(record(file, pickles=False), "pickle, which could run any code|neither safetensors")
    assert not beacon.exists()


def test_the_programs_would_have_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(touching(tmp_path / "beacon")))
    assert (tmp_path / "beacon").exists()


def test_a_sound_pickle_is_read_by_the_converter_alone(tmp_path: Path) -> None:
    for number, content in enumerate((torched(OFFICIAL), legacy(OFFICIAL))):
        file = tmp_path / f"{number}.safetensors"
        file.write_bytes(content)
        assert list(read_concept(file, pickles=True).tokens) == ["<new1>"]
        with pytest.raises(SamecastError, match="samecast concept convert"):
            Concept.load(file)


def test_places_that_hold_no_concept_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "twice").mkdir()
    for name in ("a", "b"):
        (tmp_path / "twice" / f"{name}.safetensors").write_bytes(GOOD)
    (tmp_path / "apart").mkdir()
    for name, width in (("a", 8), ("b", 12)):
        save_file({name: torch.ones(1, width)}, tmp_path / "apart" / f"{name}.safetensors")
    cases = {
        "missing": "does not exist",
        "folder": "without files",
        "twice": "and in another file",
        "apart": "apart: the modifier tokens have embeddings of 8 and 12 channels",
    }
    for name, message in cases.items():
        with pytest.raises(SamecastError, match=message):
            Concept.load(tmp_path / name)


def test_a_file_name_that_is_no_word_is_refused(tmp_path: Path) -> None:
    save_file({"emb_params": torch.ones(1, 8)}, tmp_path / "two words.safetensors")
    check(record(tmp_path / "two words.safetensors", pickles=True), "cannot be a modifier token.*convert --word")
    assert list(read_concept(tmp_path / "two words.safetensors", pickles=True, word="<a>").tokens) == ["<a>"]


@pytest.mark.parametrize("command", ["show", "merge", "compress", "convert"])
def test_the_command_line_refuses_them_too(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rex.bin").write_bytes(pickle.dumps(touching(tmp_path / "beacon")))
    files = ["rex.bin"] * (2 if command == "merge" else 1)
    assert main(["concept", command, *files]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "beacon").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["rex.bin"]
