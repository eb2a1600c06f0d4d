"""What storms are compared with."""

from __future__ import annotations

import polars as pl
import pytest

from .storm import Storm


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> pl.DataFrame:
    """What a run without a storm gives."""
    return Storm(tmp_path_factory.mktemp("calm"), 0, 0).calm()
