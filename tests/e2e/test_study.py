"""From words to a study: run, watched, resumed, reported; and rules tuned that render takes."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import psutil
import pytest
from PIL import Image

from samecast.cli import main
from samecast.cli.options.study import StudyOptions
from samecast.cli.study import grid_of
from samecast.photos import open_photo
from samecast.study.folder import StudyFolder
from samecast.study.presets import preset_grid
from samecast.study.table import load_table


@pytest.fixture(scope="module")
def done(tiny_pipeline_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The AIKU preset on two bundled subjects, also read from hidden photos, in ten steps of the tiny model."""
    folder = tmp_path_factory.mktemp("study") / "aiku"
    words = [
        "--model",
        str(tiny_pipeline_dir),
        "--clip",
        "diorama",
        "--steps",
        "10",
        "--height",
        "32",
        "--width",
        "32",
        "--out",
        str(folder),
    ]
    assert main(["study", "--preset", "aiku", "--subjects", "2", "--hidden", *words]) == 0
    return folder


class Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_a_study_leaves_tables_figures_and_a_page(done: Path) -> None:
    rows = load_table(done / "scores.parquet")
    variants = preset_grid("aiku", 10).variants
    assert len(rows) == 4 * len(variants)
    assert all(isinstance(row["identity"], bool) and -1 <= row["text_alignment"] <= 1 for row in rows)
    assert {row["hidden"] for row in rows} == {True, False}
    figures = {path.name for path in (done / "figures").iterdir()}
    for axis in ("final", "start", "skip", "handover", "layers"):
        assert {f"scatter-{axis}.svg", f"scatter-{axis}.png", f"strip-{axis}-00-dog.png"} <= figures
    assert {"front.svg", "encoder-decoder.svg", "strip-final-00-dog-hidden.png"} <= figures
    strip = open_photo(done / "figures" / "strip-final-00-dog.png")
    assert strip.width > 7 * 160
    assert strip.height > 3 * 160


def test_the_page_needs_nothing_but_itself(done: Path) -> None:
    page = (done / "index.html").read_text(encoding="utf-8")
    sources = Sources()
    sources.feed(page)
    assert {"svg", "table", "dialog", "script"} <= sources.tags
    assert all(found.startswith(("data:", "#")) for found in sources.found)
    assert not re.search(r"@import|url\((?!#|\"?data:|'?data:)", page)
    assert "Recommended" in page
    for claim in (
        "Decoder layers keep the subject",
        "a later final step",
        "start step hardly",
        "On photos that hide a part, encoder layers keep the subject better",
    ):
        assert claim in page


def test_status_and_resume(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_mtime_ns for file in done.glob("runs/*/*.png")}
    assert len(before) == len(load_table(done / "scores.parquet"))
    assert main(["study", "status", str(done)]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["study", "--resume", str(done)]) == 0
    assert "0 pictures made" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in done.glob("runs/*/*.png")} == before


def test_the_write_up_is_put_in_place_of_the_earlier_one(done: Path, tmp_path: Path) -> None:
    file = tmp_path / "docs" / "study.md"
    file.parent.mkdir()
    file.write_text("# Mine\n\nBefore.\n")
    assert main(["study", "report", str(done), "--write", str(file)]) == 0
    first = file.read_text()
    assert first.startswith("# Mine\n\nBefore.\n")
    assert "| claim |" in first
    file.write_text(first + "After.\n")
    assert main(["study", "report", str(done), "--write", str(file)]) == 0
    assert file.read_text() == first + "After.\n"
    for link in re.findall(r"\]\(([^)]+)\)", first):
        assert (file.parent / link).is_file()


def test_a_dry_run_tells_and_writes_nothing(
    tiny_pipeline_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(tiny_pipeline_dir), "--clip", "diorama", "--subjects", "1", "--out", str(tmp_path / "none")]
    assert main(["study", "--preset", "full", "--dry-run", *words]) == 0
    data = capsys.readouterr().out
    for figure in ("840", "567", "10,582", "21,214", "85,050"):
        assert figure in data
    assert not (tmp_path / "none").exists()


def test_photos_that_are_not_read_are_told(
    tiny_pipeline_dir: Path, photo: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        photo.save(tmp_path / f"{name}.png")
    entry = {"name": "rex", "description": "a dog", "image_path": ["one.png", "two.png"]}
    (tmp_path / "annotation.json").write_text(json.dumps([entry]))
    words = ["study", str(tmp_path / "annotation.json"), "--model", str(tiny_pipeline_dir), "--clip", "diorama"]
    words += ["--axis", "final=5,6", "--steps", "6", "--dry-run", "--out", str(tmp_path / "none")]
    assert main(words) == 0
    assert "of the photos of rex only the first is read: --photos each or together" in capsys.readouterr().err
    assert main([*words, "--photos", "together"]) == 0
    assert "only the first" not in capsys.readouterr().err


def test_a_picture_that_failed_leaves_the_table_the_figures_and_the_page(done: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(done, study)
    folder = StudyFolder(study)
    for gone in ("decoder, steps 1-10", "no control"):
        lost = [run for run in study.glob("runs/*/*.png") if folder.run_facts(run.stem)["variant"] == gone]
        assert lost
        lost[0].unlink()
    (study / "index.html").unlink()
    assert main(("study", "report", str(study))) == 0
    assert "Recommended" in (study / "index.html").read_text()


def test_hidden_photos_alone_are_shown_too(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    for run in folder.path.glob("runs/*/*.png"):
        if "-hidden" not in folder.run_facts(run.stem)["subject"]:
            run.unlink()
    file = tmp_path / "study.md"
    assert main(("study", "report", str(tmp_path / "study"), "--write", str(file))) == 0
    assert "Recommended" in file.read_text()


@pytest.mark.parametrize(
    "words", [("--dry-run",), ("--guidance", "3"), ("--dtype", "bfloat16"), ("--hidden",), ("--out", "x")]
)
def test_a_study_that_goes_on_takes_nothing_that_it_was_told(
    done: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main(("study", "--resume", str(done), *words)) == 2
    assert f"takes the settings from the folder: leave out {words[0]}" in " ".join(capsys.readouterr().err.split())


def test_a_relative_model_is_found_from_another_folder(
    tiny_pipeline_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_pipeline_dir.parent)
    words = ("--axis", "final=4,6", "--steps", "6", "--subjects", "1", "--device", "cpu", "--clip", "diorama")
    study = str(tmp_path / "study")
    assert main(("study", "--model", tiny_pipeline_dir.name, *words, "--out", study)) == 0
    monkeypatch.chdir(tmp_path)
    assert main(("study", "--resume", study, "--device", "cpu")) == 0


def test_axes_come_from_words_and_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("axes:\n  final: 20:51:5\n  layers: [encoder, decoder]\nbase: {start: 6}\n")
    from_file = grid_of(StudyOptions(config=tmp_path / "grid.yaml"))
    from_words = grid_of(StudyOptions(axis=("final=20:51:5", "layers=encoder,decoder", "start=6")))
    assert [v.rules for v in from_file.variants] == [v.rules for v in from_words.variants]
    assert len(from_file.variants) == 14


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (("--axis", "finale=1"), "choose from start"),
        (("--preset", "aiku", "--axis", "final=1"), "exclude each other"),
        (("--resume", "nowhere"), "holds no study"),
        (("--resume", "x", "--preset", "aiku"), "leave out --preset"),
        (("--repeats", "2"), "only the first photo is read otherwise"),
        (("--workers", "2"), "go with --executor ray"),
        (("--wait", "2"), "go with --executor ray"),
        (("--executor", "ray", "--wait", "0"), "must be above 0"),
        (("--executor", "ray", "--address", "127.0.0.1:1"), "no cluster answers at 127.0.0.1:1"),
        (("--preset", "masks", "--only-seed"), "only the preset aiku has additions"),
        (("--only-seed", "--axis", "final=1"), "leave out --only-seed or the axes"),
        (("gone.json",), "'gone.json' does not exist"),
        (("--subjects", "99"), "--subjects must be a whole number from 1 to 32; got 99"),
        (("--seeds", "2"), "need random initial latents"),
        (("--axis", "layers=up.77"), "match nothing"),
        (("--axis", "final=60"), "beyond the last step"),
        (("--axis", "mode=subject"), "needs masks: give maps too"),
        (("--axis", "threshold=0.1,otsu"), "give maps too"),
        (("--clip", "nowhere-at-all"), "does not exist"),
        (("status", "nowhere"), "holds no study"),
    ],
)
def test_mistakes_are_one_line(
    tiny_pipeline_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    data: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    more = () if words[0] == "status" else ("--model", str(tiny_pipeline_dir))
    given = ("--clip", "diorama") if more and not {"--clip", "--resume"} & set(words) else ()
    assert main(["study", *words, *more, *given]) == 2
    err = capsys.readouterr().err
    assert re.search(rf"(?<![\w-]){re.escape(data)}", " ".join(err.split()))
    assert err.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_tune_writes_rules_that_render_takes(
    tiny_pipeline_dir: Path,
    photo: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    photo.save("rex.png")
    model = ["--model", str(tiny_pipeline_dir), "--steps", "6"]
    prompts = ["a dog on the beach", "a red cat", "a dog at night"]
    axes = ["--axis", "final=1:7:1", "--axis", "layers=encoder,decoder", "--axis", "start=1"]
    words = ["tune", "rex.png", *prompts, *axes, "--clip", "diorama", "--out", "tuned", *model]
    assert main(words) == 0
    assert "chosen" in capsys.readouterr().out
    data = json.loads(Path("tuned/rules.json").read_text())
    assert data["why"]["prompts"] == 3
    assert data["why"]["chosen"] in data["why"]["front"]
    assert Path("tuned/front.png").is_file()
    rounds = sorted(int(place.name.split("-")[0]) for place in Path("tuned").glob("*-candidates-*"))
    assert rounds == [3, 6, 12]
    made = {file: file.stat().st_mtime_ns for file in Path("tuned/runs").glob("*/*.png")}
    assert len(made) == 12 + 6 + 3  # a prompt for all, one more for half, one more for the last three
    assert main([*words, "--favour", "1"]) == 0  # another search: what it shares with the first is made already
    more = {file: file.stat().st_mtime_ns for file in Path("tuned/runs").glob("*/*.png")}
    assert made.items() <= more.items()
    made = more
    assert main(words) == 0  # goes on: nothing is left to do
    assert {file: file.stat().st_mtime_ns for file in Path("tuned/runs").glob("*/*.png")} == made
    assert main(["render", "rex.png", prompts[0], "--rules", "tuned/rules.json", "--out", "r", *model]) == 0
    record = json.loads(Path("r/render.json").read_text())
    assert record["provenance"]["rules"] == data["rules"]
    capsys.readouterr()
    assert main(["render", "rex.png", "a dog", "--rules", "tuned/rules.json", "--final", "3", *model]) == 2
    assert "leave out one or the other" in capsys.readouterr().err
    Path("bad.json").write_text("[]")
    assert main(["render", "rex.png", "a dog", "--rules", "bad.json", *model]) == 2
    assert "must be an object of rules" in capsys.readouterr().err


def test_tune_halves_over_prompts_photos_and_seeds(
    tiny_pipeline_dir: Path, photo: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(photos):
        photo.rotate(90 * number).save(file)
    words = ["--axis", "final=1:9:1", "--axis", "start=0,1", "--clip", "diorama", "--out", str(tmp_path / "tuned")]
    words += ["--init", "0.5", "--seeds", "2", "--model", str(tiny_pipeline_dir), "--steps", "9"]
    assert main(["tune", *map(str, photos), "a dog on the beach", *words]) == 0
    assert "16 candidates tried on 1 prompt, 1 photo, 1 seed" in capsys.readouterr().err
    rounds = sorted(
        tuple(int(part) for part in place.name.rpartition("-")[0].split("-") if part.isdigit())
        for place in (tmp_path / "tuned").glob("*-candidates-*")
    )
    assert rounds == [(3, 1, 3, 2), (4, 1, 2, 2), (8, 1, 2, 1), (16, 1, 1, 1)]
    why = json.loads((tmp_path / "tuned" / "rules.json").read_text())["why"]
    assert (why["prompts"], why["photos"], why["seeds"]) == (1, 3, 2)


def test_a_cluster_is_started_for_a_study_and_a_search_and_stopped_after_them(
    tiny_pipeline_dir: Path, photo: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    photo.save(tmp_path / "rex.png")
    words = ["--model", str(tiny_pipeline_dir), "--clip", "diorama", "--device", "cpu", "--axis", "final=5,6"]
    words += ["--steps", "6", "--executor", "ray"]
    study = ["study", *words, "--workers", "2", "--subjects", "2", "--out", str(tmp_path / "study")]
    search = ["tune", str(tmp_path / "rex.png"), "a dog", *words, "--out", str(tmp_path / "tuned")]
    assert main(study) == 0
    assert len(list((tmp_path / "study" / "runs").glob("*/*.png"))) == 4
    assert len(load_table(tmp_path / "study" / "scores.parquet")) == 4
    assert json.loads((tmp_path / "study" / "study.json").read_text())["dtype"] == "float32"
    assert main(search) == 0
    assert json.loads((tmp_path / "tuned" / "rules.json").read_text())["why"]["candidates"] == 2
    assert "waiting for a cluster on this machine" in capsys.readouterr().err
    assert not psutil.Process().children(recursive=True)


def test_a_dry_run_of_a_search_tells_its_rounds(
    tiny_pipeline_dir: Path, photo: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo.save(tmp_path / "rex.png")
    words = ["tune", str(tmp_path / "rex.png"), "a dog", "a cat", "a bird", "--model", str(tiny_pipeline_dir)]
    assert main([*words, "--dry-run", "--out", str(tmp_path / "tuned")]) == 0
    rows = [re.findall(r"\d+", line) for line in capsys.readouterr().out.splitlines() if "prompt" in line]
    # 54 candidates: three starts, six final steps and three sets of layers; prompts double, and candidates halve.
    assert [(row[0], row[1], row[-1]) for row in rows] == [("54", "1", "54"), ("27", "2", "54"), ("13", "3", "39")]
    assert not (tmp_path / "tuned").exists()
