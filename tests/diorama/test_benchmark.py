"""What the benchmark promises: held-out subjects, prompts that give nothing away, photos hidden as much as stated."""

import json
from dataclasses import asdict, replace
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from samecast.diorama import benchmark
from samecast.diorama.colours import COLOUR_WORDS
from samecast.diorama.probe import Reading, Verdict
from samecast.diorama.renderer import render
from samecast.diorama.scenes import ACCESSORIES, CLASSES, PATTERNS, Spec


def reading_of(subject, task, **changes):
    identity, scene = subject.identity, task.scene
    seen = Reading(
        kind=identity.kind,
        pose=scene.pose,
        view=scene.view,
        background=scene.background,
        pattern=identity.pattern,
        accessory=identity.accessory,
        base=identity.base,
        second=identity.second,
        confidence={},
        mask=np.zeros((8, 8), dtype=bool),
    )
    return replace(seen, **changes)


def test_the_benchmark_is_the_same_every_time_and_its_subjects_differ():
    assert benchmark.cases(3) == benchmark.cases(3)
    subjects = benchmark.cases()
    assert len(subjects) == 32
    assert len({repr(subject.identity) for subject in subjects}) == 32
    assert {subject.noun for subject in subjects} == set(CLASSES)


PINNED = {1: "9d5164dc9634d2df"}
"""What each version of the benchmark is: hashes of its first subjects and pair."""


FIRST = ("00-dog", "dog", "plain", "collar")
FIRST_PROMPTS = ["a dog running in the snow, seen from the right", "a dog running in the desert, seen from the front"]
FIRST_PHOTO = [228, 208, 173, 221, 198, 165, 186, 142, 113, 174, 129, 111]
"""Its mean colours, quarter by quarter."""


def pinned() -> str:
    """A hash of who the first subjects are, what is to be made of them, and the first pair; of six digits of each
    number, so that no rounding is in it."""

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(of) for name, of in value.items()}
        if isinstance(value, list | tuple):
            return [plain(of) for of in value]
        return f"{value:.6g}" if isinstance(value, float) else value

    data = [asdict(benchmark.case(number)) for number in range(6)] + [asdict(benchmark.duo_case(0))]
    return sha256(json.dumps(plain(data), sort_keys=True).encode()).hexdigest()[:16]


def test_a_version_of_the_benchmark_stays_what_it_is():
    """Whoever changes what is asked raises the version: published figures carry it."""
    assert pinned() == PINNED[benchmark.BENCHMARK_VERSION]


def test_the_first_subject_is_the_first_versions():
    first = benchmark.case(0)
    assert (first.name, first.noun, first.identity.pattern, first.identity.accessory) == FIRST
    assert [task.prompt for task in first.tasks[:2]] == FIRST_PROMPTS
    photo = Image.fromarray(first.photos(64)[0].image).resize((2, 2), Image.Resampling.BOX)
    assert np.abs(np.asarray(photo, dtype=int).ravel() - FIRST_PHOTO).max() <= 3  # other processors round otherwise


def test_prompts_name_the_class_and_give_nothing_of_the_identity_away():
    for subject in benchmark.cases():
        prompts = [task.prompt for task in subject.tasks]
        assert len(set(prompts)) == 20
        for prompt in prompts:
            words = set(prompt.replace(",", "").split())
            assert subject.noun in words
            assert not words & {*COLOUR_WORDS, *PATTERNS, *ACCESSORIES}


def test_hidden_photos_lack_a_third_to_two_thirds_of_the_subject():
    for subject in benchmark.cases(6):
        for index, (scene, hidden) in enumerate(zip(subject.photo_scenes, subject.hidden_photos(64), strict=True)):
            scene = replace(scene, shift=0.0) if index % 2 else scene
            whole = render(Spec(subject.identity, scene), 64).mask.sum()
            assert 0.27 <= 1 - hidden.mask.sum() / whole <= 0.63


def test_a_true_picture_is_right_and_each_fault_is_found():
    subject = benchmark.case(0)
    task = subject.tasks[0]
    other = {"cat": "dog", "dog": "cat"}.get(subject.noun, "dog")
    assert benchmark.judge(reading_of(subject, task), subject, task).both
    faults = {"kind": {"kind": other}, "base": {"base": (50.0, 80.0, -80.0)}, "second": {"second": (1.0, 60.0, 60.0)}}
    for name, fault in faults.items():
        verdict = benchmark.judge(reading_of(subject, task, **fault), subject, task)
        assert not verdict.identity
        assert verdict.scene
        wrong = {"kind": not verdict.kind, "base": verdict.base_error > 10, "second": verdict.second_error > 10}
        assert [item for item, is_wrong in wrong.items() if is_wrong] == [name]
        assert verdict.pattern
        assert verdict.accessory
    fault = {"background": "room" if task.scene.background != "room" else "lake"}
    verdict = benchmark.judge(reading_of(subject, task, **fault), subject, task)
    assert verdict.identity
    assert not verdict.scene
    assert (verdict.background, verdict.pose, verdict.view) == (False, True, True)


def test_shares_are_means_and_need_pictures():
    right = Verdict(True, True, True, 1.0, 9.9, True, True, True)
    verdicts = [right, replace(right, view=False), replace(right, second_error=10.1)]
    assert benchmark.shares(verdicts) == pytest.approx({"identity": 2 / 3, "scene": 2 / 3, "both": 1 / 3})
    with pytest.raises(ValueError, match="no verdicts"):
        benchmark.shares([])
