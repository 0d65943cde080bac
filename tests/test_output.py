"""What is printed: as it is, whatever it holds; and where it cannot be printed, one line and another exit code."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from rich.table import Table

from samecast.cli import console, main
from samecast.cli.console import CONSOLE, RESULTS, notify, printable, report_error, stages, working

MARKUP = ["x[/red]", "my [new] photos", "[bold]", ":dog:", "[link=http://a.b]c[/link]", "\\[x]", "[/]"]


@pytest.mark.parametrize("text", MARKUP)
def test_nothing_that_is_printed_is_markup(capsys: pytest.CaptureFixture[str], text: str) -> None:
    RESULTS.print(f"written: {text}")
    report_error(text)
    notify(text)
    table = Table(text, title=text)
    table.add_row(text)
    RESULTS.print(table)
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == f"written: {text}"
    assert captured.out.count(text) == 4
    assert captured.err == f"samecast: {text}\nnote: {text}\n"


@pytest.mark.parametrize("folder", ["x[/red]", "my [new] renders", ":dog:", "a\x1b[2Jb", "a\nb", "caf\udce9"])
def test_a_folder_of_any_name_is_written_and_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Image.Image, tiny_pipeline_dir: Path, folder: str
) -> None:
    photo.save(tmp_path / "rex.png")
    out = tmp_path / folder
    words = ["--model", str(tiny_pipeline_dir), "--steps", "2", "--start", "1", "--out", str(out)]
    assert main(["render", str(tmp_path / "rex.png"), "a [red]dog[/red]", *words]) == 0
    assert (out / "render.json").is_file()
    data = capsys.readouterr().out
    assert printable(folder).encode("utf-8", "backslashreplace").decode() in data
    assert data.count("\n") == 1
    assert "\x1b" not in data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog", "a dog"),
        ("해변의 강아지 🐕‍🦺 \u3000\xa0é", "해변의 강아지 🐕‍🦺 \u3000\xa0é"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\x9bb\u2028c", "a\\x9bb\\u2028c"),
        ("\udce9", "\\udce9"),
    ],
)
def test_what_would_command_a_terminal_is_written_out(text: str, expected: str) -> None:
    assert printable(text) == expected


def run(
    words: Sequence[str], folder: Path, *, script: str = 'exec "$@"', **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line under a shell, which may bend its streams."""
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "samecast", *words]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('"$@" | head -0; exit "${PIPESTATUS[0]}"', 2),
        ('exec "$@" > /dev/full', 2),
        ('exec "$@" >&-', 0),
        ('exec "$@" > /dev/full 2>&-', 2),
        ('exec "$@" <&- >&- 2>&-', 0),
    ],
)
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["concept", "--help"]])
def test_output_that_goes_nowhere_is_one_line_or_works(
    tmp_path: Path, words: list[str], script: str, code: int
) -> None:
    done = run(words, tmp_path, script=script)
    if "head" in script and done.returncode == 0:  # all was written before the reader closed
        code = 0
    assert done.returncode == code
    assert done.stderr.count("\n") <= 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if code and "2>&-" not in script:
        assert done.stderr.startswith("samecast: the output cannot be printed: ")


def test_a_mistake_is_told_by_its_code_where_it_cannot_be_printed(tmp_path: Path) -> None:
    assert run(["rendr"], tmp_path, script='exec "$@" 2> /dev/full').returncode == 2
    assert run(["rendr"], tmp_path, script='exec "$@" 2>&-').returncode == 2


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_an_ascii_terminal_shows_what_it_can(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run(["render", "강아지.png", "a dog"], tmp_path, **environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "does not exist" in done.stderr
    assert run(["render", "--help"], tmp_path, **environment).returncode == 0


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "rex.png")
    (tmp_path / "gone").mkdir()
    script = f'rmdir {tmp_path / "gone"}; exec "$@"'
    data = run(["render", str(tmp_path / "rex.png"), "a dog"], tmp_path / "gone", script=script)
    assert data.returncode == 2
    assert data.stderr.count("\n") == 1
    assert "working folder that no longer exists" in data.stderr
    (tmp_path / "gone").mkdir()
    assert run(["--help"], tmp_path / "gone", script=script).returncode == 0
    (tmp_path / "gone").mkdir()
    sheet = ["diorama", "sheet", "--rows", "1", "--columns", "1", "--size", "16", "--out", str(tmp_path / "sheet.png")]
    assert run(sheet, tmp_path / "gone", script=script).returncode == 0
    assert (tmp_path / "sheet.png").is_file()


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What libraries print would go into it."""
    code = (
        "import os, sys\nfrom samecast.cli.console import sound_streams\nsound_streams()\n"
        "print(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), file=open(sys.argv[2], 'w'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file"), str(tmp_path / "told")]
    subprocess.run(["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", *command], check=True)
    assert int((tmp_path / "told").read_text()) >= 3


def test_work_that_lasts_is_told_where_no_bar_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.02)

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + 30
        data = ""
        while text not in data:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            data += capsys.readouterr().err

    assert not CONSOLE.is_terminal
    with working("loading the model"):
        wait_for("loading the model (0 s)")
    with stages() as report:
        report("denoise", 3, 50)
        wait_for("rendering 3/50")
        report("learn", 7, 9, 0.25)
        wait_for("learning 7/9 loss 0.2500")
    with stages(shown=False) as report:
        report("denoise", 3, 50)
        time.sleep(0.1)
    assert "3/50" not in capsys.readouterr().err


def test_short_work_says_nothing_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    with stages() as report:
        report("denoise", 3, 50)
    assert capsys.readouterr().err == ""
