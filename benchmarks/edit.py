"""What edits cost: time and peak memory of 1, 4 and 16 targets of one photo, against what people would run instead.

`reference` is MasaCtrl as its authors' code works (`benchmarks/reference.py`), with all targets in the one call that it
takes; `one by one` is the same for each target anew, of which one is timed and the rest multiplied. `stock` is
diffusers' own pipeline, which makes as many pictures in one batch without any control. On the embedded model, and on a
U-Net of Stable Diffusion 1.5's size with random weights and a small autoencoder, so that it is the denoiser that is
measured.

Contestants take turns and the median counts. On a CPU their CPU seconds are compared, which other programs on the
machine hardly disturb; memory is the peak of a process of its own, less what the libraries take.

    python -m benchmarks.edit [--models diorama sd15] [--out edit.md]
"""

import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

import samecast as sc
from benchmarks.reference import GUIDANCE, Control, decode, edit
from samecast.core.settings import RenderSettings
from samecast.models.base import ModelIdentity
from samecast.models.clip_tokenizer import write_tokenizer
from samecast.models.loading import adapt, load_backbone

Contestant = Literal["samecast", "reference", "one by one", "stock"]
CONTESTANTS: tuple[Contestant, ...] = ("samecast", "reference", "one by one", "stock")
SCENES = ("on the beach", "in the snow", "asleep in a room", "at night", "from the front", "running", "sitting", "far")
PROMPTS = tuple(f"a {colour} dog {scene}" for colour in ("red", "blue") for scene in SCENES)
GIB = 2**30
RANDOM = "sd15"


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    models: tuple[str, ...] = ("diorama", RANDOM)
    """The embedded model, a random one of Stable Diffusion 1.5's size, or any that `samecast render` takes."""

    counts: tuple[int, ...] = (1, 4, 16)
    """Targets, at most 16."""

    steps: int = 10
    """Denoising steps; of the random model `sd15_steps`."""

    sd15_steps: int = 3
    """Denoising steps on the large one."""

    sd15_size: int = 256
    """Side of its pictures in pixels; at 512 a CPU takes an hour."""

    rounds: int = 3
    """Turns that each contestant takes."""

    memory: bool = True
    """Measure memory too, in processes of their own."""

    out: Path | None = None
    """Where to write the tables as Markdown."""

    only: str = ""
    """Internal: `contestant:count` to run once, in this process, telling its peak memory."""


@dataclass
class Arena:
    """A model, and the ways to use it.

    Args:
        kind: which model.
        benchmark: how to use it.
    """

    kind: str
    benchmark: Benchmark

    def __post_init__(self) -> None:
        random = self.kind == RANDOM
        self.steps = self.benchmark.sd15_steps if random else self.benchmark.steps
        self.start = max(1, 4 * self.steps // 50)
        backbone = adapt(make_sd15(), ModelIdentity(RANDOM, "")) if random else load_backbone(self.kind)
        self.model, self.pipeline = sc.Model(backbone), as_ddim(backbone.pipeline)
        self.size = self.benchmark.sd15_size if random else backbone.default_size
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        self.photo = Image.fromarray(noise).resize((self.size,) * 2, Image.Resampling.BICUBIC)
        self.cuda = backbone.device.type == "cuda"

    def run(self, contestant: Contestant, count: int) -> float:
        """Seconds that one contestant takes for so many targets."""
        jobs: dict[Contestant, Callable[[], object]] = {
            "samecast": lambda: self.model.render(
                sc.Subject((self.photo,)),
                PROMPTS[:count],
                rules=sc.masactrl(self.start),
                settings=RenderSettings(
                    num_inference_steps=self.steps, guidance_scale=GUIDANCE, height=self.size, width=self.size
                ),
            ),
            "reference": lambda: self._edit(PROMPTS[:count]),
            "one by one": lambda: self._edit(PROMPTS[:1]),
            "stock": lambda: self.pipeline(
                list(PROMPTS[:count]),
                num_inference_steps=self.steps,
                guidance_scale=GUIDANCE,
                height=self.size,
                width=self.size,
            ),
        }
        clock = time.perf_counter if self.cuda else time.process_time
        gc.collect()
        began = clock()
        jobs[contestant]()
        if self.cuda:
            torch.cuda.synchronize()
        return clock() - began

    def _edit(self, prompts: Sequence[str]) -> list[Image.Image]:
        control = Control(steps=lambda step: step >= self.start)
        return decode(self.pipeline, edit(self.pipeline, self.photo, prompts, steps=self.steps, control=control))

    def times(self, console: Console) -> dict[tuple[Contestant, int], float]:
        """The median of each contestant at each count, after one run each of a single target to warm up."""
        turns = [(name, count) for count in self.benchmark.counts for name in CONTESTANTS]
        turns = [turn for turn in turns if turn[0] != "one by one" or turn[1] == self.benchmark.counts[0]]
        for contestant in CONTESTANTS:
            self.run(contestant, 1)
        found: dict[tuple[Contestant, int], list[float]] = {turn: [] for turn in turns}
        schedule = turns * self.benchmark.rounds
        for contestant, count in track(schedule, f"timing {self.kind}", console=console, transient=True):
            found[contestant, count].append(self.run(contestant, count))
        medians = {turn: statistics.median(seconds) for turn, seconds in found.items()}
        one = medians["one by one", self.benchmark.counts[0]]
        return medians | {("one by one", count): count * one for count in self.benchmark.counts}


def as_ddim(pipeline: Any) -> Any:
    """The same weights in a stock pipeline with the sampler that samecast uses."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    stock = StableDiffusionPipeline(**pipeline.components | {"scheduler": scheduler}, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    return stock


def make_sd15() -> Any:
    """A pipeline whose U-Net is Stable Diffusion 1.5's with random weights; all else is small."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    unet.to_empty(device="cpu")
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if weight.ndim > 1:  # as torch initialises its layers, but in one cheap pass
                bound = weight[0].numel() ** -0.5
                weight.uniform_(-bound, bound)
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), pad_token="<|endoftext|>")
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    text = CLIPTextModel(CLIPTextConfig(hidden_size=768, num_hidden_layers=1, vocab_size=len(tokenizer)))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (unet, vae, text):
        part.eval().requires_grad_(False)
    return pipeline.to("cuda") if torch.cuda.is_available() else pipeline


def peak_memory(kind: str, contestant: Contestant, count: int, benchmark: Benchmark) -> int:
    """Bytes, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.edit", "--models", kind, "--only", f"{contestant}:{count}"]
    words += ["--steps", str(benchmark.steps), "--sd15-steps", str(benchmark.sd15_steps)]
    words += ["--sd15-size", str(benchmark.sd15_size)]
    here = Path(__file__).parents[1]
    data = subprocess.run(words, check=True, capture_output=True, text=True, cwd=here).stdout
    return int(json.loads(data.splitlines()[-1]))


def print_peak(benchmark: Benchmark) -> None:
    """Runs one contestant and prints its peak: of the GPU, or of the process beyond its libraries."""
    contestant, count = benchmark.only.split(":")
    libraries = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    arena = Arena(benchmark.models[0], benchmark)
    arena.run(contestant, int(count))  # pyright: ignore[reportArgumentType]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - libraries
    print(json.dumps(torch.cuda.max_memory_allocated() if arena.cuda else peak))


def measure(kind: str, benchmark: Benchmark, console: Console) -> tuple[str, list[list[str]]]:
    """A title, and the rows of the table."""
    peaks: dict[tuple[Contestant, int], int] = {}
    if benchmark.memory:
        turns = [(name, count) for count in benchmark.counts for name in CONTESTANTS if name != "one by one"]
        for contestant, count in track(turns, f"memory of {kind}", console=console, transient=True):
            peaks[contestant, count] = peak_memory(kind, contestant, count, benchmark)
    arena = Arena(kind, benchmark)
    seconds = arena.times(console)
    rows: list[list[str]] = []
    for count in benchmark.counts:
        ours, batched, single, stock = (seconds[name, count] for name in CONTESTANTS)
        row = [str(count), *(f"{each:.2f}" for each in (ours, batched, single, stock))]
        row += [f"{batched / ours:.2f}", f"{single / ours:.2f}", f"{ours / stock:.2f}"]
        if peaks:
            mine, reference, theirs = (peaks[name, count] for name in ("samecast", "reference", "stock"))
            row += [*(f"{each / GIB:.2f}" for each in (mine, reference, theirs)), f"{mine / theirs:.2f}"]
        rows.append(row)
    where = torch.cuda.get_device_name() if arena.cuda else f"{torch.get_num_threads()} CPU threads"
    return f"{kind}, {arena.size} px, {arena.steps} steps, control from step {arena.start}, {where}", rows


HEADINGS = ["targets", "samecast s", "reference s", "one by one s", "stock s"]
HEADINGS += ["reference / samecast", "one by one / samecast", "samecast / stock"]
MEMORY = ["samecast GiB", "reference GiB", "stock GiB", "samecast / stock"]


def main(benchmark: Benchmark) -> None:
    """Measures, prints the tables, and writes them if asked to."""
    if benchmark.only:
        print_peak(benchmark)
        return
    console = Console()
    headings = [*HEADINGS, *(MEMORY if benchmark.memory else ())]
    lines: list[str] = []
    for kind in benchmark.models:
        title, rows = measure(kind, benchmark, console)
        table = Table(title=title)
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        lines += [
            f"{title}:",
            "",
            *(f"| {' | '.join(row)} |" for row in [headings, ["--:"] * len(headings), *rows]),
            "",
        ]
    if benchmark.out is not None:
        benchmark.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
