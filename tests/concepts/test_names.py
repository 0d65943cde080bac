"""What words of embeddings are called: as their file says, as the file is called, or as the user says."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from samecast import SamecastError
from samecast.cli import main
from samecast.concepts.concept import Concept
from samecast.concepts.formats import read_concept, write_concept
from tests.concepts.makers import make_concept, make_words, same

VECTORS = torch.arange(16.0).reshape(2, 8)
WIDE = torch.arange(24.0).reshape(2, 12)


def a1111(name: str | None) -> dict[str, Any]:
    data = {"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "step": 5, "sd_checkpoint": None}
    return data | ({} if name is None else {"name": name})


def convert(path: Path, *words: str) -> int:
    return main(["concept", "convert", str(path), "--out", str(path.with_name("out.safetensors")), *words])


def data(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


NAMED: dict[str, Any] = {
    "A1111's with spaces": a1111("my old teapot"),
    "A1111's with a path": a1111("a/b"),
    "A1111's too long": a1111("x" * 120),
    "diffusers' with spaces": {"my old teapot": VECTORS},
    "Adobe's with spaces": {"unet": {}, "modifier_token": {"my old teapot": VECTORS[0]}},
}


@pytest.mark.parametrize("name", NAMED)
def test_a_name_that_is_no_word_can_be_replaced(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "some.pt"
    torch.save(NAMED[name], file)
    assert convert(file) == 2
    assert re.search(r"cannot be a modifier token; expected a word without spaces.*--word '<new1>'", data(capsys))
    (old,) = [key for key in ("my old teapot", "a/b", "x" * 120) if key in str(NAMED[name])]
    for words in (["--word", "<pot>"], ["--rename", f"{old}=<pot>"], ["--word", "<a>", "--rename", "<a>=<pot>"]):
        assert convert(file, *words) == 0, capsys.readouterr().err
        out = tmp_path / "out.safetensors"
        assert list(Concept.load(out).tokens) == ["<pot>"]
        out.unlink()
    assert convert(file, "--word", "two words") == 2
    assert "'two words' cannot be a modifier token" in data(capsys)
    assert convert(file, "--rename", "nobody=<pot>") == 2
    assert "has no token nobody; it has" in data(capsys)


def test_several_names_that_are_no_words_are_replaced_one_by_one(tmp_path: Path) -> None:
    torch.save({"my teapot": VECTORS, "my cup": VECTORS}, tmp_path / "x.bin")
    with pytest.raises(SamecastError, match=r"--rename 'my teapot=<new1>'"):
        read_concept(tmp_path / "x.bin", pickles=True)
    words = {"my teapot": "<pot>", "my cup": "<cup>"}
    assert list(read_concept(tmp_path / "x.bin", pickles=True, rename=words).tokens) == ["<pot>", "<cup>"]


FILES: dict[str, Any] = {
    "A1111's": a1111("rex"),
    "A1111's without a name": a1111(None),
    "diffusers'": {"<rex>": VECTORS},
    "kohya's": {"emb_params": VECTORS},
    "a tensor": VECTORS,
    "the first of XL's encoders": {"clip_l": VECTORS},
}


@pytest.mark.parametrize("name", FILES)
def test_the_users_word_goes_before_the_files_own(name: str, tmp_path: Path) -> None:
    torch.save(FILES[name], tmp_path / "stem.pt")
    own = {"A1111's": "rex", "diffusers'": "<rex>"}.get(name, "stem")
    for word, expected in (("", own), ("<pot>", "<pot>")):
        ((found, token),) = read_concept(tmp_path / "stem.pt", pickles=True, word=word).tokens.items()
        assert found == expected
        assert torch.equal(token.vectors["text_encoder"], VECTORS)


def test_the_users_word_is_for_one_token(sd: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = Concept(make_words(sd, ["<rex>", "<tom>"]))
    two.save(tmp_path / "two.safetensors")
    assert convert(tmp_path / "two.safetensors", "--word", "<pot>") == 2
    assert "the word <pot> needs a concept with one modifier token, but this has 2: <rex>, <tom>" in data(capsys)
    Concept(changes=make_concept(sd).changes).save(tmp_path / "none.safetensors")
    assert convert(tmp_path / "none.safetensors", "--word", "<pot>") == 2
    assert "but this has none" in data(capsys)
    make_concept(sd).save(tmp_path / "own.safetensors")
    assert convert(tmp_path / "own.safetensors", "--word", "<pot>") == 0
    assert same(Concept.load(tmp_path / "out.safetensors"), make_concept(sd).rename({"<new1>": "<pot>"}))
    assert convert(tmp_path / "two.safetensors", "--rename", "<rex>=<tom>") == 2
    assert "two modifier tokens of the concept would have the same word" in data(capsys)
    swapped = read_concept(tmp_path / "two.safetensors", pickles=False, rename={"<rex>": "<tom>", "<tom>": "<rex>"})
    assert torch.equal(swapped.tokens["<tom>"].vectors["text_encoder"], two.tokens["<rex>"].vectors["text_encoder"])


@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
@pytest.mark.parametrize("dims", [1, 2])
def test_pairs_of_xl_are_one_word_for_both_encoders(keys: tuple[str, str], dims: int, tmp_path: Path) -> None:
    vectors = [tensor if dims == 2 else tensor[0] for tensor in (VECTORS, WIDE)]
    save_file(dict(zip(keys, (each.contiguous() for each in vectors), strict=True)), tmp_path / "pot.safetensors")
    concept = read_concept(tmp_path / "pot.safetensors", pickles=False)
    assert list(concept.tokens) == ["pot"]
    assert concept.base.family == "xl"
    held = concept.tokens["pot"].vectors
    for encoder, expected in zip(("text_encoder", "text_encoder_2"), vectors, strict=True):
        assert torch.equal(held[encoder], expected.reshape(-1, expected.shape[-1]))


REFUSED: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "the second encoder alone": ({"clip_g": WIDE}, "holds clip_g without clip_l"),
    "diffusers' second alone": ({"text_encoders_1": WIDE}, "holds text_encoders_1 without text_encoders_0"),
    "a pair and a word": ({"clip_l": VECTORS, "clip_g": WIDE, "<rex>": VECTORS}, "clip_l beside '<rex>'"),
    "a word beside the first": ({"clip_l": VECTORS, "<rex>": VECTORS}, "clip_l beside '<rex>'"),
    "OneTrainer's output embedding": ({"emb_params_out": VECTORS}, "its emb_params_out is one of OneTrainer's output"),
    "both": ({"emb_params": VECTORS, "emb_params_out": VECTORS}, "OneTrainer's output embeddings"),
    "of XL": ({"clip_l_out": VECTORS, "clip_g_out": WIDE}, "its clip_[lg]_out is one of OneTrainer's"),
    "of XL, beside a pair": ({"clip_l": VECTORS, "clip_g": WIDE, "clip_g_out": WIDE}, "its clip_g_out is"),
    "T5's": ({"clip_l": VECTORS, "t5": torch.ones(2, 4096)}, "its t5 is an embedding for FLUX or Stable Diffusion 3"),
    "T5's in ComfyUI": ({"t5xxl": torch.ones(2, 4096)}, "its t5xxl is an embedding for FLUX"),
    "a third encoder": (
        {f"text_encoders_{n}": torch.ones(1, 8 + n) for n in range(3)},
        "its text_encoders_2 is an embedding for a model with a third",
    ),
    "as many vectors as do not fit": ({"clip_l": VECTORS, "clip_g": WIDE[:1]}, "more vectors in one text encoder"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("word", ["", "<pot>"])
def test_embeddings_without_a_place_are_refused(name: str, word: str, tmp_path: Path) -> None:
    tensors, pattern = REFUSED[name]
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / "pot.safetensors")
    with pytest.raises(SamecastError, match=pattern) as caught:
        read_concept(tmp_path / "pot.safetensors", pickles=False, word=word)
    assert "\n" not in str(caught.value)


def picture(path: Path, **text: str) -> Path:
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key.replace("_", "-"), value)
    Image.new("RGB", (64, 64), "red").save(path, "PNG", pnginfo=info)
    return path


@pytest.mark.parametrize("command", ["show", "convert"])
def test_pictures_are_told_from_files_of_tensors(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hidden = base64.b64encode(json.dumps({"name": "rex", "string_to_param": {"*": [[1.0]]}}).encode()).decode()
    cases = {
        picture(tmp_path / "rex.png", sd_ti_embedding=hidden): "is A1111's picture embedding",
        picture(tmp_path / "rex.safetensors", sd_ti_embedding=hidden): "is A1111's picture embedding",
        picture(tmp_path / "plain.png"): "a picture, perhaps A1111's picture embedding",
    }
    for suffix in ("webp", "jpeg", "gif", "avif"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / f"x.{suffix}")
        cases[tmp_path / f"x.{suffix}"] = "a picture, perhaps A1111's picture embedding"
    for file, expected in cases.items():
        assert main(["concept", command, str(file)]) == 2
        assert expected in data(capsys)


def test_a_name_written_by_us_comes_back_whatever_the_file_is_called(sd: Any, tmp_path: Path) -> None:
    concept = Concept(make_words(sd, ["EasyNeg"], vectors=2))
    place = write_concept(concept, tmp_path / "some other name.safetensors", "textual-inversion")
    assert same(read_concept(place, pickles=False), concept)
