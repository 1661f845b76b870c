"""One lazy Spark session for the whole run; everything it writes lies under the test's own temporary folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from freshet.demo.broker import Broker

KAFKA = Path(__file__).parent.parent / ".venv" / "kafka"
CONNECTOR = KAFKA / "connector"


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of Kafka for the tests of one process, where Maven has brought its jars."""
    from freshet.demo.broker import Broker

    if not (KAFKA / "ready").exists():
        if os.environ.get("CI"):
            pytest.fail("There are no jars of Kafka in .venv/kafka: `make .venv/kafka/ready` needs Maven (mvn).")
        pytest.skip("no jars of Kafka in .venv/kafka: `make .venv/kafka/ready` brings them, with Maven (mvn)")
    with Broker(KAFKA / "broker", tmp_path_factory.mktemp("kafka")) as started:
        yield started


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    from freshet.engine.session import test_session

    session = test_session(str(tmp_path_factory.mktemp("spark")), [str(path) for path in sorted(CONNECTOR.glob("*.jar"))] if (KAFKA / "ready").exists() else [])
    yield session
    session.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with what takes long come first, so that no process is left alone with one of them at the end."""
    heavy: dict[Path, int] = {}
    for item in items:
        weight = 0 if item.get_closest_marker("slow") else 1 if item.get_closest_marker("spark") else 2
        heavy[item.path] = min(heavy.get(item.path, 2), weight)
    items.sort(key=lambda item: heavy[item.path])
