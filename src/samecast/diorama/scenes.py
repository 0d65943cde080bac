"""The content of a picture: the identity, which must stay the same, and the scene that a prompt describes.

Everything is a frozen dataclass of plain numbers drawn from one seeded generator, so a `Spec` fully describes a
picture: the same spec gives the same pixels (`WORLD_VERSION` changes whenever pixels change).
"""

from dataclasses import dataclass, replace

import numpy as np

from samecast.diorama.colours import PROTOTYPE_LABS, ciede2000, lab_from_linear, linear_from_lab

WORLD_VERSION = 2

ANIMALS = ("dog", "cat", "bear", "duck")
THINGS = ("chair", "mug")
CLASSES = ANIMALS + THINGS
PATTERNS = ("plain", "spotted", "striped")
ACCESSORIES = ("none", "collar", "hat", "scarf")
POSES = ("standing", "sitting", "running", "lying")
VIEWS = ("left", "front", "right")
BACKGROUNDS = ("grass", "beach", "snow", "night", "desert", "forest", "lake", "room")

Lab = tuple[float, float, float]


@dataclass(frozen=True)
class Identity:
    """The identity of a subject, which stays the same from picture to picture.

    Proportions are in 0..1 around the class average; colours are CIE Lab; `pattern_scale` is the period of spots
    or stripes in world units (the subject is about one unit tall), `pattern_phase` in 0..1. Things wear no accessory.
    """

    kind: str
    legs: float
    girth: float
    head: float
    ears: float
    tail: float
    base: Lab
    second: Lab
    pattern: str
    pattern_scale: float
    pattern_phase: float
    accessory: str
    accessory_colour: Lab


@dataclass(frozen=True)
class Scene:
    """The scene that a prompt describes. `pose` is empty for things.

    `turn` is the jitter around the view in degrees, `distance` in 0..1 (close to far), `sun` in -1..1 the side of the
    light, `variation` in 0..1 shifts hills, clouds and trees, `shift` moves the subject sideways, in units.
    """

    pose: str
    view: str
    background: str
    turn: float = 0.0
    distance: float = 0.5
    sun: float = -0.6
    variation: float = 0.5
    shift: float = 0.0


@dataclass(frozen=True)
class Spec:
    """One picture: an identity and a scene."""

    identity: Identity
    scene: Scene

    def mirrored(self) -> "Spec":
        """Return the spec of the picture's mirror image (up to the phases of pattern and backdrop)."""
        scene = self.scene
        view = {"left": "right", "right": "left", "front": "front"}[scene.view]
        return replace(self, scene=replace(scene, view=view, turn=-scene.turn, sun=-scene.sun, shift=-scene.shift))


@dataclass(frozen=True)
class Duo:
    """Two subjects side by side in one scene, left and right as seen by the viewer.

    Raises:
        ValueError: the scenes differ in background, distance, sun or variation.
    """

    left: Spec
    right: Spec

    def __post_init__(self) -> None:
        for name in ("background", "distance", "sun", "variation"):
            ours, theirs = getattr(self.left.scene, name), getattr(self.right.scene, name)
            if ours != theirs:
                raise ValueError(f"both subjects of a duo need the same scene, but {name} is {ours} and {theirs}")

    def mirrored(self) -> "Duo":
        """Return the spec of the picture's mirror image (up to the phases of pattern and backdrop)."""
        return Duo(self.right.mirrored(), self.left.mirrored())


def sample_colour(rng: np.random.Generator) -> Lab:
    """Draw a colour: a basic colour word, then a random colour near it inside the sRGB gamut."""
    centre = PROTOTYPE_LABS[rng.integers(len(PROTOTYPE_LABS))]
    lab = centre + rng.normal(size=3) * (5.0, 8.0, 8.0)
    inside = lab_from_linear(np.clip(linear_from_lab(lab), 0.012, 0.9))
    return (float(inside[0]), float(inside[1]), float(inside[2]))


def _unlike(rng: np.random.Generator, others: list[Lab], least: float) -> Lab:
    while True:
        colour = sample_colour(rng)
        if all(float(ciede2000(colour, other)) >= least for other in others):
            return colour


def sample_identity(rng: np.random.Generator, kind: str | None = None) -> Identity:
    """Draw a subject of a given or random class; base and second colour differ by at least 30 (CIEDE2000)."""
    kind = kind or str(rng.choice(CLASSES))
    legs, girth, head, ears, tail = (float(value) for value in rng.uniform(size=5))
    base = sample_colour(rng)
    second = _unlike(rng, [base], 30.0)
    pattern = str(rng.choice(PATTERNS))
    accessory = str(rng.choice(ACCESSORIES, p=(0.4, 0.2, 0.2, 0.2))) if kind in ANIMALS else "none"
    return Identity(
        kind=kind,
        legs=legs,
        girth=girth,
        head=head,
        ears=ears,
        tail=tail,
        base=base,
        second=second,
        pattern=pattern,
        pattern_scale=float(rng.uniform(0.17, 0.25)),
        pattern_phase=float(rng.uniform()),
        accessory=accessory,
        accessory_colour=_unlike(rng, [base, second], 25.0),
    )


def sample_scene(rng: np.random.Generator, kind: str) -> Scene:
    """Draw a scene for a class: pose, view and background are uniform and independent of each other."""
    pose = str(rng.choice(POSES)) if kind in ANIMALS else ""
    view = str(rng.choice(VIEWS))
    return Scene(
        pose=pose,
        view=view,
        background=str(rng.choice(BACKGROUNDS)),
        turn=float(rng.uniform(-16, 16)),
        distance=float(rng.uniform()),
        sun=float(rng.choice((-1.0, 1.0)) * rng.uniform(0.35, 1.0)),
        variation=float(rng.uniform()),
        shift=float(rng.uniform(-0.12, 0.12)),
    )


def sample_spec(seed: int) -> Spec:
    """Draw the spec of a picture from a seed. Seeds below 10,000,000 are for training, all others are held out."""
    rng = np.random.default_rng((WORLD_VERSION, seed))
    identity = sample_identity(rng)
    return Spec(identity, sample_scene(rng, identity.kind))


def sample_duo(seed: int) -> Duo:
    """Draw two subjects of different classes in one scene from a seed; the left one is that of `sample_spec(seed)`."""
    left = sample_spec(seed)
    rng = np.random.default_rng((WORLD_VERSION, seed, 2))
    kind = str(rng.choice([kind for kind in CLASSES if kind != left.identity.kind]))
    own = sample_scene(rng, kind)
    scene = replace(left.scene, pose=own.pose, view=own.view, turn=own.turn, shift=own.shift)
    return Duo(left, Spec(sample_identity(rng, kind), scene))


HELD_OUT = 10_000_000
"""The first seed that no recipe in `training/` draws from."""
