"""Two subjects in one scene: cases, ways of learning them, verdicts on each half, and the page's second table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.compare.benchmark import Benchmark
from samecast.compare.duos import WAYS, DuoJudgement, Duos, draw_duos, means_of
from samecast.compare.job import Contest, run_contest
from samecast.compare.page import duo_table, write_page
from samecast.compare.page import table_of as main_table
from samecast.core.settings import RenderSettings
from samecast.diorama.benchmark import duo_case
from samecast.diorama.probe import judge, load_probe
from samecast.diorama.renderer import render_duo
from samecast.diorama.scenes import Duo, Spec
from samecast.errors import SamecastError
from samecast.learn.settings import default_settings
from samecast.metrics import BENCHMARK, make_metrics


@pytest.fixture(scope="module")
def duos(tiny_pipeline_dir: Path) -> Duos:
    benchmark = Benchmark(
        sc.load(tiny_pipeline_dir), make_metrics(BENCHMARK), RenderSettings(num_inference_steps=2), prompts=2
    )
    learning = replace(default_settings("custom-diffusion", embedded=True), mode="kv", steps=1, prior_weight=0.0)
    return Duos(benchmark, learning)


def test_pairs_are_two_classes_and_prompts_say_who_is_where() -> None:
    case = duo_case(1)
    left, right = case.subjects
    assert left.noun != right.noun
    assert len({task.prompt for task in case.tasks}) == len(case.tasks)
    for task in case.tasks:
        assert task.prompt.index(left.noun) < task.prompt.index(" and ") < task.prompt.index(right.noun)
        assert task.scenes[0].background == task.scenes[1].background
        assert bool(task.scenes[1].pose) == (right.noun not in ("chair", "mug"))
        assert not any(word in task.prompt for word in ("striped", "spotted", "red", "blue", "hat"))
    assert duo_case(1) == case


def test_a_true_picture_of_two_is_right_in_both_halves() -> None:
    """The judge, on renders of what the prompts ask for."""
    probe, wrong = load_probe(), 0
    for number in range(4):
        case = duo_case(number)
        for task in case.tasks[:3]:
            specs = [
                Spec(subject.identity, replace(scene, view="left", shift=0.0))
                for subject, scene in zip(case.subjects, task.scenes, strict=True)
            ]
            image = render_duo(Duo(*specs)).image
            readings = probe.read([image[:, :128], image[:, 128:]])
            for reading, subject, scene in zip(readings, case.subjects, task.scenes, strict=True):
                wrong += not judge(reading, subject.identity, scene).both
    assert wrong <= 3


def judged(duos: Duos, folder: Path) -> list[DuoJudgement]:
    contest = Contest("the model is loaded already", RenderSettings(), 2, duos=duos.learning)
    found = run_contest(folder, contest, duos.benchmark, (), (), [duo_case(0)])
    assert not found.failures
    return found.pairs


def test_every_way_is_judged_kept_and_told(duos: Duos, tmp_path: Path) -> None:
    model = duos.benchmark.model
    before = {name: value.clone() for name, value in model.backbone.denoiser.state_dict().items()}
    found = judged(duos, tmp_path / "run")
    after = model.backbone.denoiser.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [judgement.way for judgement in found] == [way for way in WAYS for _ in range(2)]
    pictures = {way: _bytes(tmp_path, found, way) for way in WAYS}
    assert len(set(pictures.values())) == len(WAYS)
    side = model.backbone.default_size
    with Image.open(tmp_path / "run" / "units" / found[0].picture) as picture:
        assert picture.size == (2 * side, side)
    # Joint training, and one for each subject that merging and adding share.
    assert len(list((tmp_path / "run" / "concepts").iterdir())) == 3
    assert all((judgement.seconds > 0) == (judgement.way != "prompt") for judgement in found)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    assert judged(duos, tmp_path / "run") == found
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")} == stamps
    assert means_of(found, "joint")["one"] >= means_of(found, "joint")["identity"]
    grid = draw_duos(tmp_path / "run", found)
    table = duo_table(found, prompts=2)
    first = main_table((), (), prompts=2)
    text = write_page(tmp_path / "docs", [grid, grid], [first, table], duos.benchmark, 1).read_text()
    assert all(f"| {title} | " in text for title in WAYS.values())
    assert "--pairs 1 --prompts 2" in text
    assert (tmp_path / "docs" / "pictures" / "duos.png").is_file()


def test_a_damaged_unit_is_named(duos: Duos, tmp_path: Path) -> None:
    duos.finish(tmp_path, duo_case(0), "prompt")
    found = duos.judgements(tmp_path, [duo_case(0)], ("prompt",))
    unit = (tmp_path / "units" / found[0].picture).parent
    (unit / "unit.json").write_text(json.dumps([{"duo": 1}]))
    with pytest.raises(SamecastError, match="is damaged"):
        duos.judgements(tmp_path, [duo_case(0)], ("prompt",))


def _bytes(folder: Path, found: list, way: str) -> bytes:
    return b"".join(
        (folder / "run" / "units" / judgement.picture).read_bytes() for judgement in found if judgement.way == way
    )
