"""Bodies: tables of signed-distance primitives for an identity and a pose, in the subject's own frame."""

import numpy as np
from numpy.typing import NDArray

from samecast.diorama.animals import duck, quadruped
from samecast.diorama.primitives import Body
from samecast.diorama.scenes import Identity
from samecast.diorama.things import chair, mug


def build(identity: Identity, pose: str) -> NDArray[np.float64]:
    """Return the table of a subject in a pose, shape (n, COLUMNS)."""
    body = Body()
    if identity.kind == "chair":
        chair(body, identity)
    elif identity.kind == "mug":
        mug(body, identity)
    elif identity.kind == "duck":
        duck(body, identity, pose)
    else:
        quadruped(body, identity, pose)
    return body.table()
