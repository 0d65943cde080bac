"""Captions: descriptions of a picture as a person gives them, coarse about identity, with phrases dropped at random.

`facts` is the ground truth in words; `caption` states part of it. The model learns to leave omitted attributes open, so
prompts with the class noun alone stay in distribution.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samecast.diorama.colours import colour_word
from samecast.diorama.scenes import Duo, Spec

BACKGROUND_PHRASES = {
    "grass": ("on the grass", "in a green meadow"),
    "beach": ("on the beach", "by the sea"),
    "snow": ("in the snow", "on a snowy field"),
    "night": ("at night", "under the stars"),
    "desert": ("in the desert", "among sand dunes"),
    "forest": ("in the forest", "among the trees"),
    "lake": ("on a lake", "in the water"),
    "room": ("in a room", "indoors"),
}
VIEW_PHRASES = {
    "left": ("seen from the left", "facing left"),
    "front": ("seen from the front", "facing the camera"),
    "right": ("seen from the right", "facing right"),
}
ACCESSORY_PHRASES = {
    "collar": ("with a collar",),
    "hat": ("wearing a hat", "with a hat"),
    "scarf": ("wearing a scarf", "with a scarf"),
}
LOOKS = ("colour", "pattern", "accessory")
SCENE_WORDS = {"pose": 0.8, "view": 0.7, "background": 0.9}
"""The attributes of a scene in a caption, and their frequencies."""
OPENINGS = ("", "", "a photo of ", "a picture of ", "a rendering of ")


@dataclass(frozen=True)
class Caption:
    """A caption and the attributes it states: a subset of kind, colour, pattern, accessory, pose, view, background."""

    text: str
    states: dict[str, str]


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def facts(spec: Spec) -> dict[str, str]:
    """Return every attribute of a picture that a caption can state."""
    identity, scene = spec.identity, spec.scene
    data = {
        "kind": identity.kind,
        "colour": colour_word(identity.base),
        "pattern": identity.pattern,
        "accessory": identity.accessory,
        "pose": scene.pose,
        "view": scene.view,
        "background": scene.background,
    }
    return {name: value for name, value in data.items() if value not in ("", "none")}


def caption(spec: Spec, rng: np.random.Generator, bare: float = 0.12) -> Caption:
    """Describe a picture, dropping phrases at random: the class is always named, other attributes mostly.

    A share `bare` of captions names the class without its appearance, like prompts about a personal subject; all others
    state at least one attribute of it. So a bare noun implies nothing about an accessory: if attributes were dropped
    independently, bare nouns would be more frequent for subjects without an accessory, and a guidance scale of 7.5
    would amplify that.
    """
    data, looks = facts(spec), dict[str, str]()
    wordless = rng.uniform() < bare
    while not wordless and not looks:
        looks = {name: data[name] for name in LOOKS if name in data and rng.uniform() < 0.65}
    kept = {name for name, share in SCENE_WORDS.items() if rng.uniform() < share}
    states = {name: value for name, value in data.items() if name == "kind" or name in looks or name in kept}
    return Caption(phrase(states, spec.scene.distance, rng), states)


def duo_caption(duo: Duo, rng: np.random.Generator, bare: float = 0.12) -> str:
    """Describe a picture of two: the left subject, the right subject and the place; by class alone in a share `bare` of
    captions."""
    each = [caption(spec, rng, bare).states for spec in (duo.left, duo.right)]
    return duo_phrase(each[0], each[1], rng)


def duo_phrase(left: dict[str, str], right: dict[str, str], rng: np.random.Generator | None = None) -> str:
    """Put the stated attributes of two subjects, and the left one's background, into a caption; without a generator
    always in the first wording."""

    choose = _chooser(rng)
    words = f"{choose(OPENINGS)}{_subject(left, choose)} and {_subject(right, choose)}"
    return words + (" " + choose(BACKGROUND_PHRASES[left["background"]]) if "background" in left else "")


def _chooser(rng: np.random.Generator | None) -> Callable[[tuple[str, ...]], str]:
    return lambda options: options[0] if rng is None else str(rng.choice(options))


def _subject(states: dict[str, str], choose: Callable[[tuple[str, ...]], str]) -> str:
    adjectives = [states[name] for name in ("colour", "pattern") if name in states]
    words = _article(" ".join([*adjectives, states["kind"]]))
    if "accessory" in states:
        words += " " + choose(ACCESSORY_PHRASES[states["accessory"]])
    return words + (" " + states["pose"] if "pose" in states else "")


def phrase(states: dict[str, str], distance: float = 0.5, rng: np.random.Generator | None = None) -> str:
    """Put stated attributes into a caption; without a generator always in the first wording of each."""

    choose = _chooser(rng)
    words = choose(OPENINGS) + _subject(states, choose)
    if "background" in states:
        words += " " + choose(BACKGROUND_PHRASES[states["background"]])
    if "view" in states:
        words += ", " + choose(VIEW_PHRASES[states["view"]])
    if rng is not None and rng.uniform() < 0.5:
        words += ", close up" if distance < 0.2 else ", far away" if distance > 0.8 else ""
    return words
