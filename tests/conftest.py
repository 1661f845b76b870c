"""One lazy Spark session for the whole run; everything it writes lies under the test's own temporary folders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    from freshet.engine.session import test_session

    session = test_session(str(tmp_path_factory.mktemp("spark")))
    yield session
    session.stop()
