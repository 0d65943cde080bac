"""Photos of one held-out subject, like snapshots of a pet: a few scenes with different pose, view and place."""

from dataclasses import replace

from samecast.diorama.renderer import Picture, render
from samecast.diorama.scenes import ANIMALS, HELD_OUT, Identity, Scene, Spec, sample_spec

SCENES = (
    Scene("standing", "right", "grass"),
    Scene("sitting", "front", "room"),
    Scene("running", "left", "snow"),
    Scene("lying", "right", "beach"),
)
STRIPED_DOG = 65
"""The number of a dog with blue and yellow stripes, unlike any typical dog."""


def held_out_identity(number: int) -> Identity:
    """Held-out subject number 0, 1, ..., which no recipe in `training/` draws."""
    return sample_spec(HELD_OUT + number).identity


def album(identity: Identity, size: int = 128) -> list[Picture]:
    """Draw the photos with exact masks; things have no pose."""
    posed = identity.kind in ANIMALS
    scenes = [scene if posed else replace(scene, pose="") for scene in SCENES]
    return [render(Spec(identity, scene), size) for scene in scenes]
