"""Settings are tried on other subjects than the benchmark's, and the better half goes on."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.settings import Settings, best_first, candidates, groups, main, rounds
from samecast.compare.methods import FULL_RUN, contest
from samecast.diorama.benchmark import Case, cases, practice_case
from samecast.errors import SamecastError
from tests.compare.makers import RIGHT, judged


def test_practice_subjects_are_none_of_the_benchmarks() -> None:
    practice: list[Case] = [practice_case(number) for number in range(12)]
    assert not {case.identity for case in practice} & {case.identity for case in cases()}
    assert [case.noun for case in practice] == [case.noun for case in cases(12)]


def test_every_method_that_learns_or_reads_has_candidates_of_its_own() -> None:
    assert set(groups()) == {method.name for method in contest(embedded=True)} - {"prompt", "masactrl-photos", "drawn"}
    for group in groups():
        tried = candidates(group)
        assert len({method.name for method in tried}) == len(tried) > 2
        assert len(
            {(method.rules, method.init, method.learning, method.strength, method.photos) for method in tried}
        ) == len(tried)
        assert all(rule.steps.select(FULL_RUN) for method in tried for rule in method.rules)
    found = candidates("custom-diffusion")[-1].learning
    assert {method.learning for method in candidates("custom-diffusion-masactrl", found)} == {found}
    with pytest.raises(SamecastError, match="choose from textual-inversion, lora"):
        candidates("paint")


def test_rounds_double_up_to_all_subjects() -> None:
    assert rounds(8) == [2, 4, 8]
    assert rounds(5) == [2, 4, 5]
    assert rounds(1) == [1]


def test_the_best_come_first_by_what_is_right_of_the_subject_and_then_by_both() -> None:
    methods = candidates("masactrl")[:3]
    verdicts = [replace(RIGHT, background=False), RIGHT, replace(RIGHT, kind=False)]
    found = [judged(method.name, "a", verdict) for method, verdict in zip(methods, verdicts, strict=True)]
    assert [method for method, _ in best_first(found, methods)] == [methods[1], methods[2], methods[0]]
    # Nearly right in both pictures is better than right in one and in no scene in the other.
    once = [judged(methods[0].name, "a"), judged(methods[0].name, "a", replace(RIGHT, background=False))]
    nearly = [judged(methods[1].name, "a", replace(RIGHT, kind=False))] * 2
    assert [method for method, _ in best_first([*once, *nearly], methods[:2])] == [methods[1], methods[0]]


def test_a_dry_run_tells_the_rounds_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(Settings(methods=("masactrl", "lora"), subjects=4, prompts=5, work=tmp_path / "work", dry_run=True))
    data = [re.findall(r"[a-z-]+|\d+", line) for line in capsys.readouterr().out.splitlines() if "lora" in line]
    first = len(candidates("lora"))
    assert data == [
        ["lora", str(first), "2", str(first * 10), str(first * 2)],
        ["lora", str(-(-first // 2)), "4", str(-(-first // 2) * 20), str(-(-first // 2) * 4)],
    ]
    assert not (tmp_path / "work").exists()
