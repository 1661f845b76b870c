"""Models for the tests of the pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sites import Site

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def site(spark: SparkSession, tmp_path: Path) -> Site:
    return Site(spark, tmp_path)


@pytest.fixture
def new_site(spark: SparkSession, tmp_path: Path) -> Callable[[str], Site]:
    """Further models beside `site`, each in a folder of its own."""

    def make(name: str, sets: Sequence[str] = ()) -> Site:
        return Site(spark, tmp_path / name, list(sets))

    return make
