"""A study scored by other metrics: only what is new is scored, and less can be better."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from samecast.cli import main
from samecast.errors import SamecastError
from samecast.metrics import METRICS, Metric, metric_types
from samecast.models.unet import UNetBackbone
from samecast.study.axes import parse_axis
from samecast.study.claims import HOLDS
from samecast.study.findings import findings, recommended
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid, factorial
from samecast.study.job import rescore, run_study
from samecast.study.measures import gather
from samecast.study.presets import aiku
from samecast.study.publish import publish
from samecast.study.scoring import metrics_of
from samecast.study.table import PARQUET, Rows, load_table, write_table
from samecast.study.unit import ExecutionConfig
from tests.study.conftest import STEPS, Counted, Create
from tests.study.test_findings import rows_of, seeds_law

ASKED: list[tuple[str, int]] = []


@dataclass(frozen=True)
class Grey(Metric):
    """The difference of mean grey levels: nobody but this test knows of it."""

    name = "grey"
    column = "grey_distance"
    title = "grey"
    words = "grey distance"
    description = "difference of mean grey levels"
    bounds = (0.0, 255.0)
    kind = "distance"
    about = "subject"
    higher_is_better = False
    needs = frozenset({"photos"})

    def score(self, images: Any, prompts: Any = (), photos: Any = (), truths: Any = ()) -> list[float]:
        ASKED.append((self.name, len(images)))
        (grey,) = {float(np.mean([np.asarray(photo.convert("L")).mean() for photo in photos]))}
        return [abs(float(np.asarray(image.convert("L")).mean()) - grey) for image in images]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, Grey.name, Grey)
    ASKED.clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes what each metric is asked, and asks it."""
    for metric in METRICS.values():
        if metric is not Grey:

            def score(self: Metric, images: Any, *data: Any, of: Any = metric.score) -> Any:
                ASKED.append((self.name, len(images)))
                return of(self, images, *data)

            monkeypatch.setattr(metric, "score", score)


@pytest.fixture
def small() -> Grid:
    return factorial([parse_axis("final=4,10"), parse_axis("layers=encoder,decoder")], {"start": 1}, STEPS)


def tabulate(folder: StudyFolder) -> None:
    """The table alone: figures take their time."""
    write_table(Rows(folder, metrics_of(folder.recipe())), lambda row: None)


def stamps(folder: Path, kind: str) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.glob(f"{kind}/*/*")}


@pytest.mark.usefixtures("counted")
def test_another_metric_for_a_finished_study_computes_only_that_one(
    create: Create, small: Grid, backbone: UNetBackbone
) -> None:
    folder = create(small, metrics=("clip-text", "clip-image"))
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    assert set(ASKED) == {("clip-text", 4), ("clip-image", 4)}  # of each of two prompts
    tabulate(folder)
    first = load_table(folder.path / PARQUET)
    runs, scores = stamps(folder.path, "runs"), stamps(folder.path, "scores")
    ASKED.clear()
    rescore(folder, ("grey", "clip-text", "clip-image"))
    with Counted(backbone) as evaluations:
        run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    assert evaluations.total == 0
    assert ASKED == [("grey", 4)] * 2
    assert stamps(folder.path, "runs") == runs
    assert stamps(folder.path, "scores").keys() == scores.keys()
    tabulate(folder)
    second = load_table(folder.path / PARQUET)
    assert [{name: row[name] for name in first[0]} for row in second] == list(first)
    assert all(row["grey_distance"] >= 0 for row in second)
    data = json.loads(pq.read_metadata(folder.path / PARQUET).metadata[b"metrics"])
    assert data["grey"]["bounds"] == [0.0, 255.0]
    assert data["grey"]["higher_is_better"] is False
    # And one that is left out is kept, so that it can come back for nothing.
    ASKED.clear()
    rescore(folder, ("clip-text", "clip-image"))
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    tabulate(folder)
    assert load_table(folder.path / PARQUET) == first
    assert ASKED == []


@pytest.mark.usefixtures("counted")
def test_a_new_version_of_a_metric_scores_anew(
    create: Create, small: Grid, backbone: UNetBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(small, metrics=("clip-text", "grey"))
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    ASKED.clear()
    monkeypatch.setattr(Grey, "version", 2)
    monkeypatch.setattr("samecast.study.scoring._made", metrics_made_anew)
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    assert ASKED == [("grey", 4)] * 2


def metrics_made_anew(names: tuple[str, ...], clip: str, dino: str, device: str) -> tuple[Metric, ...]:
    return tuple(metric() for metric in metric_types(names))


def test_the_same_study_asked_for_with_other_metrics_goes_on(create: Create, small: Grid) -> None:
    one = create(small, metrics=("clip-text", "clip-image"))
    two = create(small, metrics=("clip-text", "grey"))
    assert one.recipe() == two.recipe()
    assert [metric.name for metric in metrics_of(two.recipe())] == ["clip-text", "grey"]
    with pytest.raises(SamecastError, match="holds another study"):
        create(small, metrics=("clip-text", "grey"), seeds=2, init="noise")


def test_a_study_of_before_metrics_were_chosen_has_the_default_ones(create: Create, small: Grid) -> None:
    folder = create(small)
    data = json.loads((folder.path / "study.json").read_text())
    (folder.path / "study.json").write_text(json.dumps({k: v for k, v in data.items() if k != "metrics"}))
    assert [metric.name for metric in metrics_of(folder.recipe())] == data["metrics"]


def test_where_less_is_better_figures_claims_and_the_choice_turn_round(
    create: Create, small: Grid, backbone: UNetBackbone
) -> None:
    grid = aiku()
    names = [variant.name for variant in grid.variants]
    rows = rows_of(grid, seeds_law(grid), hidden=False)
    turned = [row | {"grey_distance": -row["image_alignment"]} for row in rows]
    more, less = (
        gather(rows, names, metric_types(("clip-text", "clip-image", "identity", "scene", "both"))),
        gather(turned, names, metric_types(("clip-text", "grey", "identity", "scene", "both"))),
    )
    assert recommended(more) == recommended(less)
    for name, (text, image) in more.points.items():
        assert less.points[name] == pytest.approx((text, -image))
        assert less.merits[name] == pytest.approx((text, image))
    pairs = list(zip(findings(more, grid), findings(less, grid), strict=True))
    assert [one.verdict for one, _ in pairs] == [two.verdict for _, two in pairs]
    assert {one.verdict for one, _ in pairs} > {HOLDS}
    claims = [two.claim for _, two in pairs]
    assert "decoder: a later final step lowers grey distance" in claims
    assert "Grey distance ranks the 54 settings as 'identity right' does" in claims
    assert not any("image alignment" in claim for claim in claims)
    folder = create(small, metrics=("grey", "clip-text"))
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    assert publish(folder).count == 8
    page = (folder.path / "index.html").read_text()
    assert "grey distance (difference of mean grey levels; lower is better)" in page
    assert "image alignment" not in page


def test_what_has_no_truth_is_not_asked_for_it(create: Create, small: Grid) -> None:
    folder = create(small, metrics=("clip-text", "clip-image"))
    for call in (
        lambda: create(small, name="other", metrics=("clip-text", "clip-image", "identity", "pose")),
        lambda: rescore(folder, ("clip-text", "clip-image", "identity", "pose")),
    ):
        with pytest.raises(SamecastError, match="identity, pose need the truth, which is known only for the bundled"):
            call()
    assert metrics_of(folder.recipe()) == metrics_of(replace(folder.recipe(), metrics=("clip-text", "clip-image")))


def test_a_table_has_the_columns_of_its_metrics_and_no_others(
    create: Create, small: Grid, backbone: UNetBackbone
) -> None:
    folder = create(small, metrics=("clip-text", "ssim"))
    run_study(folder, ExecutionConfig(folder.path), backbone=backbone)
    tabulate(folder)
    columns = set(load_table(folder.path / PARQUET)[0])
    assert {"text_alignment", "ssim", "clip", "clip_revision"} <= columns
    assert not columns & {"image_alignment", "dino", "probe_revision", "identity"}
    assert sum(1 for _ in Rows(folder, metrics_of(folder.recipe()))) == 8


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (("study", "--metrics", "clip-txt"), "no metric is called 'clip-txt'; choose from clip-text"),
        (("study", "--metrics", "clip-text"), "add clip-image or dino"),
        (("study", "--metrics", "clip-text", "ssim", "--dino", "x"), "--dino is not used by clip-text, ssim"),
        (("tune", "rex.png", "a dog", "--metrics", "ssim", "psnr"), "a metric of the prompt: add clip-text"),
        (("tune", "rex.png", "a dog", "--metrics", "fid"), "no metric is called 'fid'"),
        (("compare", "--metrics", "fid"), "no metric is called 'fid'"),
        (("diorama", "benchmark", "--metrics", "both", "fid"), "no metric is called 'fid'"),
    ],
)
def test_mistakes_are_one_line_before_any_work(
    words: tuple[str, ...],
    data: str,
    photo: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    photo.save("rex.png")
    assert main([*words, "--model", "no/such/model"]) == 2
    err = capsys.readouterr().err
    assert data in err
    assert err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["rex.png"]
