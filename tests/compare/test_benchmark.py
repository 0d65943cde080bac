"""The benchmark run: a row for each picture, units kept and never done twice, settings that do not mix."""

import csv
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import samecast as sc
from samecast.attention.methods import masactrl
from samecast.cli import main
from samecast.compare.benchmark import COSTS, Benchmark, Judgement
from samecast.compare.job import Contest, ContestUnit, run_contest
from samecast.compare.methods import Method, placements
from samecast.compare.results import summary, write_results
from samecast.core.settings import RenderSettings
from samecast.core.steps import Steps
from samecast.diorama.benchmark import Case, cases
from samecast.disk import locked
from samecast.errors import SamecastError
from samecast.experiments.store import Store
from samecast.experiments.work import Outcome
from samecast.metrics import BENCHMARK, make_metrics

TWO = (Method("prompt", "prompt alone", ()), Method("decoder", "decoder", masactrl(1)))


@pytest.fixture(scope="module")
def benchmark(tiny_pipeline_dir: Path) -> Benchmark:
    settings = RenderSettings(num_inference_steps=2)
    return Benchmark(sc.load(tiny_pipeline_dir), make_metrics(BENCHMARK), settings, prompts=2)


CONTEST = Contest("the model is loaded already", RenderSettings(), 1)


def judged(benchmark: Benchmark, folder: Path, cases: list[Case], methods: Sequence[Method]) -> list[Judgement]:
    found = run_contest(folder, CONTEST, benchmark, cases, methods)
    assert not found.failures
    return found.judgements


def test_every_subject_is_judged_under_every_method_once(benchmark: Benchmark, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def finished(outcome: Outcome[ContestUnit, str], count: int, total: int) -> None:
        seen.append((outcome.unit.name, count, total))

    first = run_contest(tmp_path, CONTEST, benchmark, cases(2), TWO, finished=finished).judgements
    names = [f"{subject}, {method}" for subject in ("00-dog", "01-cat") for method in ("decoder", "prompt")]
    assert sorted(name for name, _, _ in seen) == names
    assert [data for _, *data in seen] == [[1, 4], [2, 4], [3, 4], [4, 4]]
    assert len(first) == 2 * 2 * 2
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("unit.json")}
    assert judged(benchmark, tmp_path, cases(2), TWO) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("unit.json")} == stamps
    for judgement in first:
        assert (tmp_path / "units" / judgement.picture).is_file()
        assert judgement.scores["both"] == (judgement.scores["identity"] and judgement.scores["scene"])


def test_a_run_that_was_stopped_makes_only_what_is_missing(benchmark: Benchmark, tmp_path: Path) -> None:
    whole = judged(benchmark, tmp_path, cases(1), TWO)
    units = sorted(tmp_path.glob("units/*/*"))
    shutil.rmtree(units[0])
    before = (units[1] / "unit.json").stat().st_mtime_ns
    assert judged(benchmark, tmp_path, cases(1), TWO) == whole
    assert sorted(tmp_path.glob("units/*/*")) == units
    assert (units[1] / "unit.json").stat().st_mtime_ns == before


def test_all_that_changes_pictures_changes_the_key(benchmark: Benchmark) -> None:
    case, other = cases(2)
    method = TWO[1]
    keys = {
        benchmark.key(case, method),
        benchmark.key(other, method),
        benchmark.key(case, replace(method, rules=masactrl(0))),
        benchmark.key(case, replace(method, shuffled=True), other),
        benchmark.key(case, replace(method, shuffled=True), cases(3)[2]),
        benchmark.key(case, replace(method, init="noise")),
        replace(benchmark, hidden=True).key(case, method),
        replace(benchmark, prompts=1).key(case, method),
        replace(benchmark, settings=RenderSettings(num_inference_steps=3)).key(case, method),
    }
    assert len(keys) == 9


def test_results_are_a_row_for_each_picture_and_their_means(benchmark: Benchmark, tmp_path: Path) -> None:
    found = judged(benchmark, tmp_path, cases(2), TWO)
    means = write_results(tmp_path, benchmark, found, TWO)
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found)
    data = json.loads((tmp_path / "summary.json").read_text())
    for method in TWO:
        of = [float(row["text_alignment"]) for row in rows if row["method"] == method.name]
        assert means[method.name]["text_alignment"] == pytest.approx(sum(of) / len(of))
        assert data["methods"][method.name]["pictures"] == 4
        assert {*found[0].scores, *COSTS} <= set(data["methods"][method.name])
    assert summary(found, TWO) == means
    assert (tmp_path / "grid.png").is_file()


def test_a_shuffled_method_reads_another_subject(benchmark: Benchmark, tmp_path: Path) -> None:
    shuffled = Method("shuffled", "another's photo", masactrl(1), shuffled=True)
    with pytest.raises(SamecastError, match="at least 2 subjects"):
        judged(benchmark, tmp_path, cases(1), (shuffled,))
    own = judged(benchmark, tmp_path, cases(2), (TWO[1],))
    other = judged(benchmark, tmp_path, cases(2), (shuffled,))
    references = [(tmp_path / "units" / j[0].picture).parent / "reference.png" for j in (own[2:], other)]
    assert references[0].read_bytes() == references[1].read_bytes()


def test_a_damaged_unit_is_named(benchmark: Benchmark, tmp_path: Path) -> None:
    judged(benchmark, tmp_path, cases(1), TWO[:1])
    unit = next(tmp_path.rglob("unit.json"))
    unit.write_text('{"judgements": [{}')
    with pytest.raises(SamecastError, match="damaged"):
        judged(benchmark, tmp_path, cases(1), TWO[:1])


def test_a_unit_that_fails_is_told_and_stops_no_other(benchmark: Benchmark, tmp_path: Path) -> None:
    impossible = Method("impossible", "layers that are not there", masactrl(1, layers="99"))
    found = run_contest(tmp_path, CONTEST, benchmark, cases(2), (impossible, *TWO))
    assert len(found.judgements) == 2 * 2 * 2
    assert sorted(failure["unit"] for failure in found.failures) == ["00-dog, impossible", "01-cat, impossible"]
    assert all("match nothing" in failure["reason"] for failure in found.failures)
    # Another contest in the same folder has failures of its own only.
    assert not run_contest(tmp_path, CONTEST, benchmark, cases(2), TWO).failures


def test_two_do_not_work_in_one_folder(benchmark: Benchmark, tmp_path: Path) -> None:
    with Store(tmp_path).locked(), pytest.raises(SamecastError, match="in use by another process"):
        run_contest(tmp_path, CONTEST, benchmark, cases(1), TWO)


def test_a_dry_run_tells_and_makes_nothing(
    tiny_pipeline_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", str(tiny_pipeline_dir), "--subjects", "2", "--prompts", "3", "--out", str(tmp_path / "b"))
    assert main(("diorama", "benchmark", *words, "--methods", "prompt", "decoder", "--dry-run")) == 0
    data = " ".join(capsys.readouterr().out.split())
    for name, value in (("units", 4), ("pictures to make", 12), ("trainings of a subject", 0)):
        assert re.search(rf"{name} \S* *{value}\b", data)
    words = (*words[:-2], "--learn-steps", "1", "--pairs", "1", "--out", str(tmp_path / "c"))
    assert main(("compare", *words, "--methods", "custom-diffusion", "custom-diffusion-masactrl", "--dry-run")) == 0
    data = " ".join(capsys.readouterr().out.split())
    # A training that two methods share is one; a pair is learnt jointly, each alone, and added up or merged.
    for name, value in (("units", 3), ("subjects and pairs, per method", 8), ("trainings of a subject", 2)):
        assert re.search(rf"{name} \S* *{value}\b", data)
    assert not list(tmp_path.iterdir())


def test_a_cluster_judges_as_this_process_does(tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    words = ["--model", str(tiny_pipeline_dir), "--subjects", "2", "--prompts", "1", "--steps", "2"]
    words += ["--methods", "prompt", "decoder", "--device", "cpu"]
    tables: list[list[dict[str, str]]] = []
    for name, more in (("here", []), ("there", ["--executor", "ray", "--workers", "1"])):
        assert main(["diorama", "benchmark", *words, *more, "--out", str(tmp_path / name)]) == 0
        with (tmp_path / name / "scores.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    for here, there in zip(*tables, strict=True):
        assert here["picture"] == there["picture"]
        assert float(here["image_alignment"]) == pytest.approx(float(there["image_alignment"]), abs=1e-3)


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (("--methods", "dreambooth"), "choose from prompt"),
        (("--subjects", "0"), "--subjects must be a whole number from 1 to 32; got 0"),
        (("--prompts", "21"), "--prompts must be a whole number from 1 to 20; got 21"),
        (("--steps", "-5"), "--num-inference-steps must be a whole number from 1 to 10,000; got -5"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], data: str) -> None:
    assert main(("diorama", "benchmark", *words)) == 2
    err = capsys.readouterr().err
    assert re.search(rf"(?<!\S){re.escape(data)}", err)
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [("diorama", "benchmark"), ("compare",)])
def test_two_processes_do_not_work_in_one_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_pipeline_dir: Path, command: tuple[str, ...]
) -> None:
    words = (*command, "--model", str(tiny_pipeline_dir), "--out", str(tmp_path / "out"), "--subjects", "2")
    with locked(tmp_path / "out"):
        assert main(words) == 2
    assert "is in use by another process" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("diorama", "benchmark"), ("compare",)])
@pytest.mark.parametrize("kind", ["file", "dangling", "x" * 256, "file/below"])
def test_an_out_that_cannot_be_is_refused_before_the_model_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...], kind: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert main((*command, "--model", "no/such/model", "--out", str(tmp_path / kind))) == 2
    err = capsys.readouterr().err
    assert err.startswith("samecast: cannot write")
    assert err.count("\n") == 1


def test_a_unit_that_was_changed_by_hand_is_held_to_its_types(benchmark: Benchmark, tmp_path: Path) -> None:
    judged(benchmark, tmp_path, cases(1), TWO[:1])
    unit = next(tmp_path.rglob("unit.json"))
    data = json.loads(unit.read_text())
    for change in ({"seeds": "0"}, {"seeds": [0.5]}, {"seeds": []}, {"more": 1}, {"training_seconds": None}):
        unit.write_text(json.dumps(data | change))
        with pytest.raises(SamecastError, match="is damaged: it") as caught:
            run_contest(tmp_path, CONTEST, benchmark, cases(1), TWO[:1])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["", "[]", '{"pictures": 3}', '{"pictures": [{}]}', '{"pictures": [{"a": null}]}'])
def test_scores_that_cannot_be_read_are_scored_anew(benchmark: Benchmark, tmp_path: Path, damage: str) -> None:
    before = judged(benchmark, tmp_path, cases(1), TWO[:1])
    (scores,) = (tmp_path / "scores").glob("*/*.json")
    scores.write_text(damage)
    assert judged(benchmark, tmp_path, cases(1), TWO[:1]) == before


def test_another_metric_makes_no_picture_again_and_scores_nothing_twice(benchmark: Benchmark, tmp_path: Path) -> None:
    few = replace(benchmark, metrics=make_metrics(("both", "clip-text", "dino")))
    before = judged(few, tmp_path, cases(1), TWO)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "units").rglob("*.*")}
    asked: list[tuple[str, int]] = []

    class Counted(type(make_metrics(("ssim",))[0])):
        def score(self, images: Any, *data: Any) -> Any:
            asked.append((self.name, len(images)))
            return super().score(images, *data)

    more = replace(few, metrics=(*few.metrics, Counted()))
    after = judged(more, tmp_path, cases(1), TWO)
    assert asked == [("ssim", 2)] * 2
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "units").rglob("*.*")} == stamps
    assert [judgement.scores | {"ssim": of.scores["ssim"]} for judgement, of in zip(before, after, strict=True)] == [
        of.scores for of in after
    ]
    # And what is not asked for any more stays, and is not told.
    assert judged(few, tmp_path, cases(1), TWO) == before


def test_the_methods_have_names_of_their_own() -> None:
    assert len({method.name for method in placements()}) == len(placements())


@pytest.mark.parametrize("steps", [8, 25, 50])
def test_spans_keep_their_share_of_a_shorter_run(steps: int) -> None:
    for method in placements(steps):
        acts = [
            (rule.steps.start, steps - 1 if rule.steps.final is None else rule.steps.final) for rule in method.rules
        ]
        assert all(first < last < steps for first, last in acts)
    assert placements(25)[2].rules[0].steps == Steps(2, 12)
    assert placements(50)[1].rules == masactrl(4)
