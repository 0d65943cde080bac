"""The benchmark: held-out subjects, four photos of each, twenty scenes per subject, and a judge.

A method is given a subject's photos and prompts with its class noun alone ("a dog sitting in the snow, seen from the
left"), so that colours and pattern can come from the photos only. The probe judges for every picture whether it shows
the same subject (`identity`), the requested scene (`scene`), and both. A second set of photos has 30-60% of the subject
hidden, cut off by the frame or behind a board, to test how a method completes hidden parts. Pairs of subjects test
whether a method can show two subjects correctly in one picture.

All data follow from the version and a subject's number; nothing is downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from samecast.diorama import probe
from samecast.diorama.album import SCENES as ALBUM_SCENES
from samecast.diorama.album import STRIPED_DOG
from samecast.diorama.captions import duo_phrase, phrase
from samecast.diorama.probe import Reading, Verdict
from samecast.diorama.renderer import Picture, render
from samecast.diorama.scenes import HELD_OUT, Identity, Scene, Spec, sample_identity, sample_scene, sample_spec

BENCHMARK_VERSION = 1
SUBJECTS, PHOTOS, PROMPTS = 32, 4, 20
HIDDEN = (0.3, 0.6)
"""The smallest and largest hidden share of the subject in a hidden photo."""


@dataclass(frozen=True)
class Task:
    """One picture to generate: its prompt, the correct scene, and the seed for methods that use one."""

    prompt: str
    scene: Scene
    seed: int


@dataclass(frozen=True)
class Case:
    """One subject: its name in the benchmark, its identity, the scenes of its photos, and its tasks."""

    name: str
    identity: Identity
    photo_scenes: tuple[Scene, ...]
    tasks: tuple[Task, ...]
    seed: int

    @property
    def noun(self) -> str:
        """The class noun, the only description of the subject in prompts."""
        return self.identity.kind

    def photos(self, size: int = 128) -> list[Picture]:
        """Draw the photos, with exact masks."""
        return [render(Spec(self.identity, scene), size) for scene in self.photo_scenes]

    def hidden_photos(self, size: int = 128) -> list[Picture]:
        """Draw the photos with 30-60% of the subject hidden; the masks hold the visible part."""
        rng = np.random.default_rng((BENCHMARK_VERSION, self.seed, 1))
        specs = [Spec(self.identity, scene) for scene in self.photo_scenes]
        return [
            cut_off(spec, size, rng) if index % 2 else put_behind(render(spec, size), rng)
            for index, spec in enumerate(specs)
        ]


def case(number: int) -> Case:
    """Return subject `number` (0, 1, ...): identities are drawn from held-out seeds, classes in turn."""
    return _case(number, HELD_OUT + 5_000_000 + number)


def practice_case(number: int) -> Case:
    """Return practice subject `number` (0, 1, ...), drawn like the benchmark's but distinct, for tuning settings."""
    return _case(number, HELD_OUT + 6_000_000 + number)


DEMO = "demo"
"""The name of the demo's subject and tasks among cases."""
_DEMO_SCENES = (
    Scene("standing", "right", "beach"),
    Scene("running", "right", "snow"),
    Scene("sitting", "right", "desert"),
    Scene("standing", "left", "night"),
    Scene("lying", "right", "room"),
    Scene("sitting", "front", "forest"),
)


def demo_case() -> Case:
    """Return the demo's case: a dog with blue and yellow stripes, its album, and six scenes for it."""
    seed = HELD_OUT + STRIPED_DOG
    identity = sample_spec(seed).identity
    tasks = tuple(Task(_prompt(identity.kind, scene), scene, number) for number, scene in enumerate(_DEMO_SCENES))
    return Case(f"{identity.kind}-{STRIPED_DOG}", identity, ALBUM_SCENES, tasks, seed)


def find_case(name: int | str) -> Case:
    """Return a subject of the benchmark by its number, or the demo's by `DEMO`."""
    return demo_case() if isinstance(name, str) else case(name)


def _prompt(kind: str, scene: Scene) -> str:
    """The scene in words, with only the class of the subject."""
    words = {"kind": kind, "pose": scene.pose, "background": scene.background, "view": scene.view}
    return phrase({name: word for name, word in words.items() if word})


def _case(number: int, seed: int) -> Case:
    rng = np.random.default_rng((BENCHMARK_VERSION, seed))
    kind = ("dog", "cat", "bear", "duck", "chair", "mug")[number % 6]
    identity = sample_identity(rng, kind)
    scenes = tuple(sample_scene(rng, kind) for _ in range(PHOTOS))
    tasks: list[Task] = []
    while len(tasks) < PROMPTS:
        scene = sample_scene(rng, kind)
        prompt = _prompt(kind, scene)
        if prompt not in {task.prompt for task in tasks}:
            tasks.append(Task(prompt, scene, seed=len(tasks)))
    return Case(f"{number:02d}-{kind}", identity, scenes, tuple(tasks), seed)


def cases(count: int = SUBJECTS) -> list[Case]:
    """Return the benchmark's first `count` subjects; the whole benchmark is the default."""
    return [case(number) for number in range(count)]


@dataclass(frozen=True)
class DuoTask:
    """One picture of two subjects, twice as wide as high: its prompt, the correct content of each half, and its
    seed."""

    prompt: str
    scenes: tuple[Scene, Scene]
    seed: int


@dataclass(frozen=True)
class DuoCase:
    """Two of the benchmark's subjects, of different classes, and scenes for both, the first on the left."""

    name: str
    subjects: tuple[Case, Case]
    tasks: tuple[DuoTask, ...]


def duo_case(number: int) -> DuoCase:
    """Return pair `number` (0, 1, ...): subjects 2 number and 2 number + 3, at least one of which has poses, in scenes
    with poses and a place."""
    subjects = case(2 * number), case(2 * number + 3)
    rng = np.random.default_rng((BENCHMARK_VERSION, subjects[0].seed, 2))
    tasks: list[DuoTask] = []
    while len(tasks) < PROMPTS:
        left, right = (sample_scene(rng, subject.noun) for subject in subjects)
        scenes = replace(left, view=""), replace(left, pose=right.pose, view="")
        words = [
            {"kind": subject.noun, "background": scene.background} | ({"pose": scene.pose} if scene.pose else {})
            for subject, scene in zip(subjects, scenes, strict=True)
        ]
        prompt = duo_phrase(words[0], words[1])
        if prompt not in {task.prompt for task in tasks}:
            tasks.append(DuoTask(prompt, scenes, seed=len(tasks)))
    return DuoCase("+".join(subject.name for subject in subjects), subjects, tuple(tasks))


def judge(reading: Reading, subject: Case, task: Task) -> Verdict:
    """Turn the probe's reading of a picture into a verdict."""
    return probe.judge(reading, subject.identity, task.scene)


def shares(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Return the share of correct pictures by each criterion, 0..1.

    Raises:
        ValueError: there are no verdicts.
    """
    if not verdicts:
        raise ValueError("no verdicts to take shares of")
    kinds = ("identity", "scene", "both")
    return {kind: float(np.mean([getattr(verdict, kind) for verdict in verdicts])) for kind in kinds}


def put_behind(photo: Picture, rng: np.random.Generator) -> Picture:
    """Put a wooden board in front of one side of the subject, wide enough to hide a share drawn from `HIDDEN`."""
    size = photo.mask.shape[0]
    share = rng.uniform(HIDDEN[0] + 0.05, HIDDEN[1] - 0.05)
    columns = np.cumsum(photo.mask.sum(axis=0)) / max(int(photo.mask.sum()), 1)
    from_left = bool(rng.uniform() < 0.5)
    edge = int(np.searchsorted(columns, share if from_left else 1.0 - share))
    inside = np.nonzero(photo.mask.any(axis=0))[0]
    reach = (
        slice(max(int(inside[0]) - size // 24, 0), edge + 1) if from_left else slice(edge, int(inside[-1]) + size // 24)
    )
    top = max(int(np.nonzero(photo.mask.any(axis=1))[0][0]) - size // 16, 0)
    image, mask, parts = photo.image.copy(), photo.mask.copy(), photo.parts.copy()
    height, width = size - top, image[:, reach].shape[1]
    grain = 0.06 * np.sin(
        np.arange(height)[:, None] * 0.9 * 128 / size + 3 * np.sin(np.arange(width)[None] * 0.12 * 128 / size)
    )
    plank = 1.0 - 0.25 * (np.arange(width)[None] % max(size // 10, 2) == 0)
    wood = np.array([150.0, 106.0, 66.0]) * ((1.0 + grain) * plank)[..., None]
    image[top:, reach] = np.clip(wood, 0, 255).astype(np.uint8)
    mask[top:, reach], parts[top:, reach] = False, 0
    return Picture(image, mask, parts)


def cut_off(spec: Spec, size: int, rng: np.random.Generator) -> Picture:
    """Shift the view until the frame cuts off a share of the subject drawn from `HIDDEN`."""
    share = rng.uniform(HIDDEN[0] + 0.05, HIDDEN[1] - 0.05)
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    whole = render(_shifted(spec, 0.0), size, 1).mask.sum()
    near, far = 0.0, 2.5 * side
    for _ in range(9):
        middle = (near + far) / 2
        seen = render(_shifted(spec, middle), size, 1).mask.sum() / whole
        near, far = (middle, far) if seen > 1.0 - share else (near, middle)
    return render(_shifted(spec, (near + far) / 2), size)


def _shifted(spec: Spec, shift: float) -> Spec:
    return replace(spec, scene=replace(spec.scene, shift=shift))
