"""Stock pipelines at tiny widths, one of each family; every test leaves them as they were."""

from pathlib import Path
from typing import Any

import pytest


def load(directory: Path) -> Any:
    from diffusers import DiffusionPipeline

    from samecast.models.quiet import quiet_libraries

    with quiet_libraries():
        pipeline = DiffusionPipeline.from_pretrained(directory, local_files_only=True, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def sd(tiny_pipeline_dir: Path) -> Any:
    return load(tiny_pipeline_dir)


@pytest.fixture(scope="module")
def xl(tiny_xl_dir: Path) -> Any:
    return load(tiny_xl_dir)


@pytest.fixture(params=["sd", "xl"])
def pipeline(request: pytest.FixtureRequest) -> Any:
    """A stock pipeline of either family."""
    return request.getfixturevalue(request.param)
