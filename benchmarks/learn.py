"""What learning costs: Custom Diffusion here against diffusers' own training loop, written straight.

The straight loop does at each step what diffusers' `train_custom_diffusion.py` does: encodes photos and captions anew,
attends through `CustomDiffusionAttnProcessor2_0`, and takes gradients and AdamW moments of the whole embedding matrix,
of which it then keeps one row. Both run the same batch on the same weights, each in a process of its own, in turns, and
the best of each counts. CPU seconds are the process's own, which others on the machine disturb less. Memory is the
highest resident size above that of the loaded model.

    python -m benchmarks.learn                                  the embedded model
    python -m benchmarks.learn --model sd15 --size 256          random weights of Stable Diffusion 1.5's size
"""

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from samecast.learn.devices import Devices
from samecast.learn.lists import ToLearn, from_folder
from samecast.learn.loop import Loop
from samecast.learn.material import Material
from samecast.learn.objective import Objective
from samecast.learn.settings import LearnSettings
from samecast.learn.trained import training
from samecast.models.base import ModelIdentity
from samecast.models.loading import adapt, load_backbone

WARM_UP = 6
"""Steps after which every picture and caption has most likely been drawn."""


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    model: Literal["diorama", "sd15"] = "diorama"
    """The embedded model, or random weights of Stable Diffusion 1.5's size."""

    size: int = 128
    """Side of the photos in pixels."""

    batch: int = 2
    """Photos of a step, with as many class pictures."""

    steps: int = 12
    """Steps that are timed, after as many again, and six at least, that fill the caches; 2 are plenty for sd15."""

    augment: Literal["scale", "none"] = "none"
    """As in `samecast learn`; the straight loop encodes every picture anew in either case."""

    repeats: int = 2
    """Runs of each, of which the best counts."""

    only: Literal["", "samecast", "straight"] = ""
    """Measure one in this process and print it as JSON: how the benchmark calls itself."""


def main(benchmark: Benchmark) -> None:
    """Measures both in turns and prints the table, or one of them as JSON."""
    if benchmark.only:
        print(json.dumps(measure(benchmark)))
        return
    found: dict[str, list[tuple[float, ...]]] = {"straight": [], "samecast": []}
    for _ in range(benchmark.repeats):
        for name, results in found.items():
            words = [f"--{key}={value}" for key, value in vars(replace(benchmark, only=name)).items()]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.learn", *words], check=True, capture_output=True, text=True
            )
            results.append(tuple(json.loads(done.stdout.splitlines()[-1])))
    table = Table(title=f"{benchmark.model}, {benchmark.size} px, batch {benchmark.batch} + {benchmark.batch}")
    for heading in ("", "seconds per step", "CPU seconds per step", "peak MB above the model"):
        table.add_column(heading, justify="right")
    best = {name: [min(values) for values in zip(*results, strict=True)] for name, results in found.items()}
    for name, (seconds, processing, megabytes) in best.items():
        table.add_row(name, f"{seconds:.3f}", f"{processing:.3f}", f"{megabytes:.0f}")
    ratios = [straight / ours for straight, ours in zip(best["straight"], best["samecast"], strict=True)]
    table.add_row("ratio", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


def measure(benchmark: Benchmark) -> tuple[float, float, float]:
    """Seconds and CPU seconds of a step, medians of the timed ones, and MB at most above the loaded model's."""
    pipeline = load_backbone(device="cpu").pipeline if benchmark.model == "diorama" else random_sd15()
    with tempfile.TemporaryDirectory() as place:
        subject = photos_in(Path(place), benchmark.size)
        step_of = samecast_steps if benchmark.only == "samecast" else straight_steps
        with Peak() as peak:
            seconds: list[tuple[float, float]] = []
            with step_of(pipeline, subject, benchmark) as step:
                for _ in range(max(WARM_UP, benchmark.steps) + benchmark.steps):
                    began = time.perf_counter(), time.process_time()
                    step()
                    seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    wall, processing = np.median(seconds[-benchmark.steps :], axis=0)
    return float(wall), float(processing), peak.megabytes


class Peak:
    """The highest resident size of this process within a block, above that at its beginning, in MB."""

    def __enter__(self) -> "Peak":
        self._first, self._highest, self._done = resident(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def megabytes(self) -> float:
        """How much more there was."""
        return max(0.0, self._highest - self._first)

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._highest = max(self._highest, resident())


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@contextmanager
def samecast_steps(pipeline: Any, subject: ToLearn, benchmark: Benchmark) -> Generator[Callable[[], object]]:
    """Steps of our loop."""
    backbone = adapt(pipeline, ModelIdentity("benchmark", ""))
    settings = LearnSettings(batch=benchmark.batch, size=benchmark.size, augment=benchmark.augment)
    material = Material(backbone, settings, [subject])
    with training(backbone, settings, [subject]) as trained:
        objective = Objective(backbone, material, settings)
        loop = Loop(trained, objective, material.draws(1000), settings, Devices(), Path("unused"), "benchmark")
        yield loop.advance


@contextmanager
def straight_steps(pipeline: Any, subject: ToLearn, benchmark: Benchmark) -> Generator[Callable[[], object]]:
    """Steps of diffusers' loop: no cache, Custom Diffusion's processors, the whole embedding matrix trained."""
    size, batch = benchmark.size, benchmark.batch
    tokenizer, encoder, unet, vae = pipeline.tokenizer, pipeline.text_encoder, pipeline.unet, pipeline.vae
    tokenizer.add_tokens("<new1>")
    rows = encoder.get_input_embeddings().num_embeddings + 1
    encoder.resize_token_embeddings(rows, mean_resizing=False)
    new = tokenizer.convert_tokens_to_ids("<new1>")
    others = [row for row in range(rows) if row != new]
    embedding = encoder.get_input_embeddings().weight.requires_grad_(True)
    processors = custom_processors(unet)
    layers = torch.nn.ModuleList(processors.values()).requires_grad_(True)
    unet.set_attn_processor(processors)
    optimizer = torch.optim.AdamW([embedding, *layers.parameters()], lr=1e-5, weight_decay=1e-2)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)

    def step() -> None:
        photos = [subject.photos[int(at)] for at in rng.integers(len(subject.photos), size=batch)]
        classes = [subject.class_photos[int(at)] for at in rng.integers(len(subject.class_photos), size=batch)]
        images = [Image.open(path).resize((size, size)) for path in (*photos, *(path for path, _ in classes))]
        captions = [subject.caption] * batch + [caption for _, caption in classes]
        pixels = torch.stack([torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1) for image in images])
        with torch.no_grad():
            latents = vae.encode(pixels.permute(0, 3, 1, 2).contiguous()).latent_dist.sample(generator)
        latents = latents * vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(0, 1000, (len(latents),), generator=generator)
        noisy = pipeline.scheduler.add_noise(latents, noise, timesteps)
        ids = tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
        found, prior_found = unet(noisy, timesteps, encoder(ids)[0]).sample.chunk(2)
        sought, prior_sought = noise.chunk(2)
        mse = torch.nn.functional.mse_loss
        (mse(found, sought) + mse(prior_found, prior_sought)).backward()
        embedding.grad[others] = 0
        torch.nn.utils.clip_grad_norm_([embedding, *layers.parameters()], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    yield step


def custom_processors(unet: Any) -> dict[str, Any]:
    """diffusers' own processors, which hold keys and values of cross-attention and train them."""
    from diffusers.models.attention_processor import CustomDiffusionAttnProcessor2_0

    state, made = unet.state_dict(), {}
    for name in unet.attn_processors:
        module = name.removesuffix(".processor")
        if "attn1" in name:
            made[name] = CustomDiffusionAttnProcessor2_0(train_kv=False, train_q_out=False)
            continue
        key, value = state[f"{module}.to_k.weight"], state[f"{module}.to_v.weight"]
        made[name] = CustomDiffusionAttnProcessor2_0(
            train_kv=True, train_q_out=False, hidden_size=key.shape[0], cross_attention_dim=key.shape[1]
        )
        made[name].load_state_dict(
            {"to_k_custom_diffusion.weight": key, "to_v_custom_diffusion.weight": value}, strict=False
        )
    return made


def photos_in(place: Path, size: int) -> ToLearn:
    """Four photos and two class pictures, of noise."""
    rng = np.random.default_rng(0)
    for folder, count in (("photos", 4), ("class", 2)):
        (place / folder).mkdir()
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((size, size), Image.Resampling.BICUBIC).save(place / folder / f"{number}.png")
    return from_folder(place / "photos", "dog", class_folder=place / "class")


def random_sd15() -> Any:
    """Random weights of Stable Diffusion 1.5's shapes, with the embedded model's tokenizer."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = load_backbone().pipeline.tokenizer
    torch.manual_seed(0)
    with torch.device("cpu"):
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
            "vae": AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
                latent_channels=4,
                sample_size=512,
            ),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=49408,
                    hidden_size=768,
                    intermediate_size=3072,
                    num_hidden_layers=12,
                    num_attention_heads=12,
                    eos_token_id=tokenizer.eos_token_id,
                )
            ),
        }
    for part in parts.values():
        part.eval().requires_grad_(False)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    return StableDiffusionPipeline(
        **parts,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
