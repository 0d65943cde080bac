"""Mangled inputs: a bounded share of the whole run, and that the run would notice what it looks for."""

import json
import sys
import time
from random import Random

import pytest

from benchmarks.fuzz import BAD, Fuzz, fuzz, judge
from benchmarks.fuzz_inputs import KINDS, NOWHERE
from benchmarks.mangling import spoiled_bytes, spoiled_data, spoiled_json, spoiled_text
from samecast.cli import main as samecast

COUNT = 200


def test_mangled_inputs_of_every_kind_are_refused_in_one_line_or_accepted() -> None:
    report = fuzz(Fuzz(count=COUNT, seed=1, limit=120))
    assert not report.wrong, report.wrong[0]
    assert sum(counter.total() for counter in report.counts.values()) == COUNT
    assert report.total("refused") > COUNT / 3
    assert report.total("accepted") > COUNT / 20
    assert set(report.counts) >= {"photos", "lists", "rules", "records", "options"}
    assert set(report.counts) <= set(KINDS)


def say(*lines: str, code: int = 2) -> int:
    for line in lines:
        sys.stderr.write(f"{line}\n")
    return code


def fail() -> int:
    raise ValueError("a bug")


def wait() -> int:
    try:
        time.sleep(60)
    except Exception:
        return 0
    return 0


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: say("samecast: so it is"), "refused"),
        (lambda: say("note: by the way", "samecast: so it is"), "refused"),
        (lambda: say(f"samecast: model {NOWHERE} does not exist"), "accepted"),
        (lambda: say(code=0), "accepted"),
        (lambda: sys.exit(0), "accepted"),
        (lambda: say("samecast: so", "it is"), "other"),
        (lambda: say("so it is"), "other"),
        (lambda: say(), "other"),
        (lambda: say("a warning", code=0), "other"),
        (lambda: say("samecast: so it is", code=1), "other"),
        (lambda: sys.exit(3), "other"),
        (fail, "traceback"),
        (wait, "hang"),
    ],
)
def test_what_is_no_sound_answer_is_noticed(call: object, answer: str) -> None:
    assert judge(call, 0.2 if answer == "hang" else 60)[0] == answer  # type: ignore[arg-type]
    assert (answer in BAD) == (answer not in ("refused", "accepted"))


def test_the_commands_own_answers_are_judged() -> None:
    assert judge(lambda: samecast(["render", "gone.png", "a dog"]), 60)[0] == "refused"
    assert judge(lambda: samecast(["--help"]), 60)[0] == "accepted"


@pytest.mark.parametrize("spoil", [spoiled_bytes, spoiled_text])
def test_what_is_spoiled_is_not_what_it_was_and_the_same_for_one_seed(spoil: object) -> None:
    sound = json.dumps({"a": [1, 2, {"b": "c"}]}).encode()
    changed = [spoil(Random(seed), sound) for seed in range(200)]  # type: ignore[operator]
    assert changed == [spoil(Random(seed), sound) for seed in range(200)]  # type: ignore[operator]
    assert sum(one != sound for one in changed) > 150
    assert len(set(changed)) > 100


def test_data_is_spoiled_in_a_copy() -> None:
    sound = {"a": [1, 2, {"b": "c"}]}
    changed = [spoiled_data(Random(seed), sound) for seed in range(100)]
    assert sound == {"a": [1, 2, {"b": "c"}]}
    assert sum(one != sound for one in changed) > 80
    assert any(b"Infinity" in spoiled_json(Random(seed), sound) for seed in range(500))
