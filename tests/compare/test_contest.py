"""Training, attention and both on the benchmark: learnt once, kept, judged like any method, and told in a page."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import samecast as sc
from samecast.cli import main
from samecast.compare.benchmark import Benchmark
from samecast.compare.figures import headline
from samecast.compare.job import Contest, run_contest
from samecast.compare.learnt import naming
from samecast.compare.methods import Method, contest
from samecast.compare.page import table_of, write_page
from samecast.compare.results import write_results
from samecast.core.settings import RenderSettings
from samecast.diorama.benchmark import cases
from samecast.diorama.renderer import render
from samecast.diorama.scenes import Spec
from samecast.learn.settings import LearnSettings
from samecast.metrics import BENCHMARK, make_metrics
from samecast.photos import open_photo

CONTEST = Contest("the model is loaded already", RenderSettings(), 1)


@pytest.fixture(scope="module")
def benchmark(tiny_pipeline_dir: Path) -> Benchmark:
    return Benchmark(
        sc.load(tiny_pipeline_dir), make_metrics(BENCHMARK), RenderSettings(num_inference_steps=2), prompts=1
    )


def short_contest() -> tuple[Method, ...]:
    """The contest without class pictures, and with rates that a single step of training shows at."""

    def shortened(learning: LearnSettings) -> LearnSettings:
        rates = (learning.learning_rate and 1e-2, learning.token_rate and 1.0)
        return replace(learning, prior_weight=0.0, learning_rate=rates[0], token_rate=rates[1])

    methods = contest(embedded=True, steps=2, learn_steps=1)
    return tuple(
        replace(method, learning=None if method.learning is None else shortened(method.learning)) for method in methods
    )


def test_all_methods_are_judged_and_trainings_shared(benchmark: Benchmark, tmp_path: Path) -> None:
    methods = short_contest()
    before = {name: value.clone() for name, value in benchmark.model.backbone.denoiser.state_dict().items()}
    ran = run_contest(tmp_path / "run", CONTEST, benchmark, cases(1), methods)
    assert not ran.failures
    found = ran.judgements
    after = benchmark.model.backbone.denoiser.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [judgement.method for judgement in found] == [method.name for method in methods]
    for judgement, method in zip(found, methods, strict=True):
        assert (judgement.training_seconds > 0) == (judgement.file_megabytes > 0) == (method.learning is not None)
    drawn = open_photo(tmp_path / "run" / "units" / found[-1].picture)
    (case,) = cases(1)
    assert np.array_equal(np.asarray(drawn), render(Spec(case.identity, case.tasks[0].scene), drawn.width).image)
    pictures = {open_photo(tmp_path / "run" / "units" / judgement.picture).tobytes() for judgement in found}
    assert len(pictures) == len(methods)
    # Custom Diffusion with attention takes what Custom Diffusion learnt.
    assert len(list((tmp_path / "run" / "concepts").iterdir())) == 4
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    assert run_contest(tmp_path / "run", CONTEST, benchmark, cases(1), methods).judgements == found
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")} == stamps
    write_results(tmp_path / "run", benchmark, found, methods)
    table, data = table_of(found, methods, prompts=1), headline(found, methods)
    page = write_page(tmp_path / "docs", [tmp_path / "run" / "grid.png"], [table], benchmark, 1, summing_up=data)
    text = page.read_text()
    for method in methods:
        assert f"| {method.title} | " in text
    assert " ".join(text.split()).count(data) == 1
    assert "samecast compare --subjects 1 --pairs 0 --prompts 1 --steps 2 --learn-steps 1" in text
    assert (tmp_path / "docs" / "pictures" / "compare.png").is_file()


def test_what_is_learnt_is_part_of_the_key(benchmark: Benchmark) -> None:
    case = cases(1)[0]
    custom = next(method for method in contest(embedded=True) if method.name == "custom-diffusion")
    assert custom.learning is not None
    keys = {
        benchmark.key(case, custom),
        benchmark.key(case, replace(custom, learning=None)),
        benchmark.key(case, replace(custom, photos=4)),
        benchmark.key(case, replace(custom, strength=0.5)),
        benchmark.key(case, replace(custom, learning=replace(custom.learning, seed=1))),
    }
    assert len(keys) == 5


def test_prompts_name_the_subject_once() -> None:
    assert naming("a dog on a dogsled with a dog", "dog") == "a <new1> dog on a dogsled with a dog"


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (("--methods", "freecustom"), "choose from prompt"),
        (("--subjects", "33"), "--subjects must be a whole number from 1 to 32; got 33"),
        (("--pairs", "17"), "--pairs must be a whole number from 0 to 16"),
        (("--learn-steps", "0"), "--learn-steps must be a whole number from 1"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], data: str) -> None:
    assert main(("compare", *words)) == 2
    err = capsys.readouterr().err
    assert re.search(rf"(?<!\S){re.escape(data)}", err)
    assert err.count("\n") == 1
