"""Sound inputs of every kind, and the words that give a spoiled one to the command."""

import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from benchmarks.mangling import odd_word, spoiled_bytes, spoiled_json, spoiled_tensors, spoiled_text
from samecast.attention.methods import METHODS
from samecast.attention.rule_files import rules_file
from samecast.cli import main as samecast
from samecast.cli.parsing import options_of
from samecast.cli.words import flags_of
from tests.conftest import make_tiny_pipeline

NOWHERE = "no such model anywhere"
"""Given as the model where the input alone is of interest: what is told of it means that all else passed."""
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "ICO", "AVIF")
_TO_THE_END = 0.02
_YAMLS = (
    b"axes: {final: [20, 30], layers: [encoder, decoder]}\nbase: {start: 4}\n",
    b"axes:\n  final: 20:51:5\n  maps: [none, encoder]\n  threshold: [0.1, otsu]\nbase:\n  start: 0.1\n",
    b"axes:\n  weight: [1, 2.5]\nbase: {sources: source+self, mode: weigh, maps: mid, dropout: 0}\n",
)
_NO_MODEL = {"--model": NOWHERE}
_COMMANDS: dict[str, dict[str, str]] = {
    "render": _NO_MODEL,
    "masks": _NO_MODEL,
    "tune": _NO_MODEL,
    "study": _NO_MODEL,
    "compare": _NO_MODEL,
    "demo": _NO_MODEL,
    "diorama benchmark": _NO_MODEL,
    "diorama sheet": {"--rows": "1", "--columns": "1", "--size": "16"},
    "diorama photos": {"--size": "16"},
    "learn custom-diffusion": _NO_MODEL,
    "learn lora": _NO_MODEL,
    "learn textual-inversion": _NO_MODEL,
    "concept merge": _NO_MODEL,
    "concept compress": _NO_MODEL,
    "concept convert": _NO_MODEL,
}
"""Each command, and options that keep its work short where nothing else is wrong."""


def tiny_model(place: Path) -> Path:
    """The directory of a random model, made in a folder."""
    with redirect_stderr(io.StringIO()):
        make_tiny_pipeline(place / "parts").save_pretrained(place / "model")
    return place / "model"


def tiny_photo(file: Path) -> Path:
    """A colourful photo of 48 x 36 pixels; returns where."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((48, 36), Image.Resampling.BICUBIC).save(file)
    return file


class Inputs:
    """A folder with sound inputs, and another for the spoiled one of the moment.

    Args:
        place: where to make them.
    """

    def __init__(self, place: Path) -> None:
        self.sound, self.spoiled = place / "sound", place / "spoiled"
        self.sound.mkdir()
        self.spoiled.mkdir()
        self.photo = tiny_photo(self.sound / "rex.png")
        self.image = Image.open(self.photo)
        self.photos = {name: self._encoded(name) for name in _FORMATS if name in self._writable()}
        self.model = tiny_model(self.sound)
        self.subjects = self.sound / "photos"
        self.subjects.mkdir()
        shutil.copy(self.photo, self.subjects / "0.png")
        self.list = [
            {
                "instance_prompt": "photo of a <new1> dog",
                "class_prompt": "dog",
                "instance_data_dir": str(self.subjects),
                "class_data_dir": "./real_reg/dog",
            },
            {"instance_prompt": "a cat", "class_prompt": "a photo of a cat", "instance_data_dir": "photos"},
        ]
        self.annotation: list[dict[str, Any]] = [
            {"name": "corgi", "description": "a running corgi", "image_path": str(self.photo)},
            {
                "name": "ring",
                "description": ["a {noun} on a table", "a {noun}"],
                "image_path": [str(self.photo)],
                "class_noun": "ring",
                "source_prompt": "a {noun}",
            },
        ]
        self.record = self.sound / "record"
        quick = ("--model", str(self.model), "--steps", "2", "--start", "1", "--init", "0.5")
        _done("render", str(self.photo), "a dog", "--out", str(self.record), *quick)
        self.study = self.sound / "study"
        axis = (
            "--axis",
            "start=0,1",
            "--steps",
            "2",
            "--clip",
            "diorama",
            "--dino",
            "none",
            "--model",
            str(self.model),
        )
        annotation = self.write_sound("annotation.json", self.annotation[:1])
        _done("study", str(annotation), *axis, "--out", str(self.study))
        self.learn = ["learn", "textual-inversion", "--photos", str(self.subjects), "--noun", "dog", "--steps", "1"]
        self.learn += ["--show-every", "0", "--model", str(self.model)]
        self.learning = self.sound / "rex"
        _done(*self.learn, "--out", str(self.learning))
        _done("diorama", "sheet", "--rows", "1", "--columns", "1", "--size", "16")  # which is compiled at first
        tensors = {"emb_params": torch.zeros(1, 32)}
        lora = {
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.lora_A.weight": torch.zeros(2, 32),
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.lora_B.weight": torch.zeros(32, 2),
        }
        self.concepts = [save(tensors), save({"<new1>": torch.ones(1, 32)}), save(lora)]
        official = {"state_dict": lora, "<new1>": torch.ones(32)}
        named = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(1, 32)}, "name": "rex"}
        self.pickles = [_pickled({"<new1>": torch.ones(32)}), _pickled(official), _pickled(named)]

    def clear(self) -> None:
        """Forget the spoiled input, and what was written."""
        shutil.rmtree(self.spoiled)
        self.spoiled.mkdir()
        for made in Path.cwd().iterdir():
            if made not in (self.sound, self.spoiled):
                shutil.rmtree(made) if made.is_dir() and not made.is_symlink() else made.unlink()

    def write(self, name: str, content: bytes) -> Path:
        """A spoiled file."""
        (self.spoiled / name).write_bytes(content)
        return self.spoiled / name

    def write_sound(self, name: str, data: Any) -> Path:
        """A sound file of JSON."""
        (self.sound / name).write_text(json.dumps(data))
        return self.sound / name

    def _encoded(self, kind: str) -> bytes:
        stream = io.BytesIO()
        self.image.save(stream, format=kind)
        return stream.getvalue()

    def _writable(self) -> set[str]:
        Image.init()
        return set(Image.SAVE)


def _pickled(data: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(data, stream)
    return stream.getvalue()


def _done(*words: str) -> None:
    """Has the command make a sound input."""
    facts = io.StringIO()
    with redirect_stdout(facts), redirect_stderr(facts):
        if samecast(words) != 0:
            raise AssertionError(facts.getvalue())


def photo(inputs: Inputs, draw: Random) -> list[str]:
    """A photo, a mask of one, or a folder with one."""
    kind = draw.choice(list(inputs.photos))
    content = inputs.photos[kind]
    if draw.random() < 0.05:
        content = draw.randbytes(draw.randrange(400))
    file = inputs.write(f"a.{draw.choice((kind.lower(), 'png', 'jpg', 'txt'))}", spoiled_bytes(draw, content))
    act = draw.randrange(5)
    if act == 0:
        return ["masks", str(file), "--noun", "dog", "--model", NOWHERE]
    if act == 1:
        return ["learn", "lora", "--photos", str(inputs.spoiled), "--noun", "dog", "--model", NOWHERE]
    if act == 2:
        mask = ("--method", "masactrl-masked", "--mask", str(file), "--target-mask", str(file))
        return ["render", str(inputs.photo), "a dog", *mask, *_model(inputs, draw)]
    return ["render", str(file), "a dog", *_model(inputs, draw)]


def subject_list(inputs: Inputs, draw: Random) -> list[str]:
    """A list of subjects to learn, of any of the three kinds, or what lies beside photos."""
    act = draw.randrange(6)
    if act == 0:
        shutil.copy(inputs.photo, inputs.spoiled / "0.png")
        inputs.write("subject.json", spoiled_json(draw, {"class_noun": "dog", "world": "diorama", "subject": 65}))
        return ["learn", "lora", "--photos", str(inputs.spoiled), "--model", NOWHERE]
    if act == 1:
        inputs.write("images.txt", spoiled_text(draw, f"{inputs.photo}\n{inputs.photo}\n".encode()))
        inputs.write("caption.txt", spoiled_text(draw, b"a dog\nanother dog\n"))
        given = {"class_data_dir": "images.txt", "class_prompt": "caption.txt"} | draw.choice(
            ({}, {"class_prompt": "dog"})
        )
        file = inputs.write("list.json", json.dumps([inputs.list[0] | given]).encode())
    else:
        grouped = act == 2
        data: Any = [inputs.list, [inputs.list[0], {"prompt_filename_compose": "a.txt"}]] if grouped else inputs.list
        file = inputs.write("list.json", spoiled_json(draw, data))
    entry = ["--entry", str(draw.choice((0, 1, 2, 3)))] if act == 2 or draw.random() < 0.2 else []
    return ["learn", "custom-diffusion", "--list", str(file), *entry, "--model", NOWHERE]


def annotation(inputs: Inputs, draw: Random) -> list[str]:
    """Whom a study is about: an annotation, or a folder."""
    if draw.random() < 0.2:
        folder = inputs.spoiled / "dog"
        folder.mkdir()
        shutil.copy(inputs.photo, folder / "0.png")
        inputs.write("prompts.txt", spoiled_text(draw, b"a {noun} on the beach\n\na {noun} at night\n"))
        inputs.write("dog/class_noun.txt", spoiled_text(draw, b"dog\n"))
        return ["study", str(inputs.spoiled), "--dry-run", "--model", NOWHERE]
    file = inputs.write("annotation.json", spoiled_json(draw, inputs.annotation))
    return ["study", str(file), "--dry-run", "--photos", "together", "--model", NOWHERE]


def rules(inputs: Inputs, draw: Random) -> list[str]:
    """A file of rules."""
    name = draw.choice(list(METHODS))
    data = json.loads(json.dumps(rules_file(METHODS[name](), {"chosen": name})))
    if draw.random() < 0.3:
        data = {"rules": [{"sources": ["source"], "layers": "decoder", "steps": {"only": [0, 1]}}]}
    file = inputs.write("rules.json", spoiled_json(draw, data))
    masks = ["--mask", str(inputs.photo), "--target-mask", str(inputs.photo)] if draw.random() < 0.2 else []
    return ["render", str(inputs.photo), "a dog", "--noun", "dog", "--rules", str(file), *masks, *_model(inputs, draw)]


def record(inputs: Inputs, draw: Random) -> list[str]:
    """A record to repeat."""
    for file in inputs.record.iterdir():
        if file.name != "render.json":
            os.link(file, inputs.spoiled / file.name)
    data = json.loads((inputs.record / "render.json").read_text())
    inputs.write("render.json", spoiled_json(draw, data))
    return ["render", "--again", str(inputs.spoiled), "--model", NOWHERE]


def configuration(inputs: Inputs, draw: Random) -> list[str]:
    """Axes of a study as YAML, or as words."""
    if draw.random() < 0.3:
        text = draw.choice(("final=20:51:5", "layers=encoder,decoder,0-7+10-15", "threshold=0.1,otsu", "start=0:9"))
        spoiled = spoiled_text(draw, text.encode())[:1000].replace(b"\0", b"")
        return ["study", "--axis", os.fsdecode(spoiled), "--axis", "maps=mid", "--dry-run", "--model", NOWHERE]
    file = inputs.write("axes.yaml", spoiled_text(draw, draw.choice(_YAMLS)))
    return ["study", "--config", str(file), "--dry-run", "--model", NOWHERE]


def model(inputs: Inputs, draw: Random) -> list[str]:
    """A model's directory with one of its files spoiled."""
    for file in inputs.model.rglob("*"):
        if file.is_file():
            place = inputs.spoiled / "model" / file.relative_to(inputs.model)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, place)
    files = sorted(file for file in (inputs.spoiled / "model").rglob("*") if file.is_file())
    index = inputs.spoiled / "model" / "model_index.json"
    file = index if draw.random() < 0.4 else draw.choice(files)
    content = file.read_bytes()
    file.unlink()
    if file.suffix == ".json" and file.name != "vocab.json":
        file.write_bytes(spoiled_json(draw, json.loads(content)))
    else:
        file.write_bytes(spoiled_bytes(draw, content))
    return ["layers", "--model", str(inputs.spoiled / "model")]


def concept(inputs: Inputs, draw: Random) -> list[str]:
    """A file of a concept."""
    content = draw.choice((*inputs.concepts, (inputs.learning / "rex.safetensors").read_bytes()))
    if draw.random() < 0.3:
        file = inputs.write(f"a.{draw.choice(('bin', 'pt', 'ckpt'))}", spoiled_bytes(draw, draw.choice(inputs.pickles)))
    else:
        spoil = spoiled_tensors if draw.random() < 0.6 else spoiled_bytes
        file = inputs.write("a.safetensors", spoil(draw, content))
    act = draw.randrange(4)
    if act == 0 or file.suffix != ".safetensors":
        kinds = ("samecast", "kohya", "peft", "textual-inversion", "a1111", "official", "compvis", "diffusers")
        return ["concept", "convert", str(file), "--to", draw.choice(kinds)]
    if act == 1:
        return ["render", "--concept", str(file), "--method", "none", "--init", "noise", "a dog", "--model", NOWHERE]
    return ["concept", "show", str(file)]


def study(inputs: Inputs, draw: Random) -> list[str]:
    """A study's folder with one of its files spoiled."""
    shutil.copytree(inputs.study, inputs.spoiled / "study")
    files = sorted(file for file in (inputs.spoiled / "study").rglob("*.json") if file.is_file())
    named = [file for file in files if file.name in ("study.json", "subject.json")]
    file = draw.choice(named if draw.random() < 0.8 else files)
    file.write_bytes(spoiled_json(draw, json.loads(file.read_bytes())))
    return ["study", "report" if draw.random() < 0.2 else "status", str(inputs.spoiled / "study")]


def learning(inputs: Inputs, draw: Random) -> list[str]:
    """A learning's folder with the record or the state in it spoiled."""
    shutil.copytree(inputs.learning, inputs.spoiled / "rex")
    record, state = inputs.spoiled / "rex" / "learn.json", inputs.spoiled / "rex" / "state.safetensors"
    if draw.random() < 0.5:
        record.write_bytes(spoiled_json(draw, json.loads(record.read_bytes())))
    else:
        record.unlink()
        state.write_bytes(spoiled_bytes(draw, (inputs.spoiled / "rex" / "rex.safetensors").read_bytes()))
    return [*inputs.learn, "--out", str(inputs.spoiled / "rex")]


def captions(inputs: Inputs, draw: Random) -> list[str]:
    """A text of captions for merging, or a page to write findings into."""
    if draw.random() < 0.5:
        begin, end = b"<!-- findings: written by `samecast study report` -->", b"<!-- end of findings -->"
        page = inputs.write("page.md", spoiled_text(draw, b"# A page\n" + begin + b"\n" + end + b"\n"))
        return ["study", "report", str(inputs.study), "--write", str(page)]
    words = [str(inputs.write(f"{number}.safetensors", inputs.concepts[1])) for number in range(2)]
    text = inputs.write("captions.txt", spoiled_text(draw, b"a dog\na cat in the rain\n"))
    return ["concept", "merge", *words, "--captions", str(text), "--model", NOWHERE]


def options(inputs: Inputs, draw: Random) -> list[str]:
    """Words of a command line: some as they should be, others that are not."""
    command = draw.choice(list(_COMMANDS))
    words, given = _sound_words(inputs, draw, command), dict(_COMMANDS[command])
    if command.startswith("learn"):
        given |= {"--photos": str(inputs.subjects), "--noun": "dog"}
    for _ in range(draw.randrange(1, 5)):
        flag = draw.choice(flags_of(options_of(command)))
        given[flag] = draw.choice((odd_word(draw), odd_word(draw), str(inputs.photo), str(draw.randrange(20))))
    if draw.random() < 0.05:
        given[draw.choice(("--help", "--hlep", "--"))] = odd_word(draw)
    flat = [word for pair in given.items() for word in pair]
    if draw.random() < 0.1 and flat:
        del flat[draw.randrange(len(flat))]
    facts = command.split()
    if draw.random() < 0.03:
        facts[draw.randrange(len(facts))] = odd_word(draw)
    return [*facts, *words, *flat]


def _sound_words(inputs: Inputs, draw: Random, command: str) -> list[str]:
    """The words of a command that are no options, mostly as they should be."""
    if command in ("render", "tune"):
        return [draw.choice((str(inputs.photo), odd_word(draw))), draw.choice(("a dog", odd_word(draw)))]
    if command == "masks":
        return [draw.choice((str(inputs.photo), odd_word(draw)))]
    if command.startswith("concept"):
        files = [str(inputs.write(f"{number}.safetensors", inputs.concepts[1])) for number in range(2)]
        return files[: 2 if command.endswith("merge") else 1]
    return []


def _model(inputs: Inputs, draw: Random) -> list[str]:
    """Mostly one that is not there."""
    if draw.random() >= _TO_THE_END:
        return ["--model", NOWHERE]
    return ["--model", str(inputs.model), "--steps", "6"]


Make = Callable[[Inputs, Random], list[str]]
KINDS: dict[str, tuple[int, Make]] = {
    "photos": (23, photo),
    "lists": (12, subject_list),
    "annotations": (10, annotation),
    "rules": (14, rules),
    "records": (10, record),
    "configurations": (8, configuration),
    "models": (1, model),
    "concepts": (6, concept),
    "studies": (4, study),
    "learnings": (1, learning),
    "pages": (1, captions),
    "options": (10, options),
}
"""By name: how often it is tried, in hundredths, and the words that try it."""
