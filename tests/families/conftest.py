"""Tiny pipelines of every family, one of each for the whole test session."""

from functools import cache
from typing import Any

import pytest

import samecast as sc
from samecast.models.base import ModelIdentity
from samecast.models.loading import adapt
from tests.families.tiny import make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Given a family's name, its pipeline."""

    @cache
    def pipeline(family: str) -> Any:
        return make(family, tmp_path_factory.mktemp(family))

    return pipeline


KINDS = ("flux", "sd35", "z_image", "qwen", "klein", "pixart")
"""One of each kind; the rest differ in guidance and schedule, which is `test_stock_equality`'s business."""


@pytest.fixture(params=KINDS)
def family(request: pytest.FixtureRequest) -> str:
    """Each kind's name."""
    return request.param


@pytest.fixture
def model(family: str, tiny: Any) -> sc.Model:
    """Each family's model."""
    return sc.Model(adapt(tiny(family), ModelIdentity(family, "")))
