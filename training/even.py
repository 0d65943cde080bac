"""Evening out: a linear map that makes all directions of a set of vectors equally long, so that what differs little is
learned as fast as what differs much."""

import torch
from torch import Tensor


def evening(rows: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Return the inverse root of the vectors' second moment, and the root: both symmetric, (width, width).

    Args:
        rows: vectors (count, width).
        floor: what is added to the squared lengths of all directions, as a share of their mean: shorter ones than that
            stay short.
    """
    rows = rows.double()
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    root = (values + floor * values.mean()).sqrt()
    return (vectors / root @ vectors.T).float(), (vectors * root @ vectors.T).float()
