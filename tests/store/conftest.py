"""A small model on disk and rows for it; one Delta root per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from freshet.store.commit import Writer
from freshet.store.snapshots import History, Snapshot
from freshet.store.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TIME = pa.timestamp("us", tz="UTC")
PARAMETERS = pa.schema([
    ("block", pa.string()), ("key", pa.int64()), ("vector", pa.list_(pa.float32())), ("slots", pa.list_(pa.float32())),
    ("links", pa.list_(pa.int64())), ("count", pa.int64()), ("last_event_at", TIME), ("deleted", pa.string()),
])  # fmt: skip


class SmallModel:
    """Tables and a writer; every committed row is one number per key, so that a dict is the oracle."""

    def __init__(self, spark: SparkSession, root: Path) -> None:
        self.root = root
        self.tables = Tables(spark, str(root))
        self.tables.create()
        self.history = History.load(self.tables)
        self.writer = Writer.start(self.tables, self.history, run="first", settings="{}")

    def rows(self, values: Mapping[int, float | None]) -> pa.Table:
        """Rows of block `user`; a value of None deletes the key."""
        records = [
            {
                "block": "user", "key": key, "vector": [0.5, value or 0.0], "slots": [value or 0.0], "links": [key, 7] if key % 2 else None,
                "count": 1, "last_event_at": key, "deleted": None if value is not None else "forgotten",
            }
            for key, value in values.items()
        ]  # fmt: skip
        return pa.Table.from_pylist(records, schema=PARAMETERS)

    def learn(self, values: Mapping[int, float | None], writer: Writer | None = None, **fields: object) -> Snapshot:
        """Commit one version that sets the keys to the values."""
        chosen = writer or self.writer
        return chosen.commit(chosen.begin(), {"parameters": self.rows(values)}, {"row_counts": {"user": 1}, **fields})

    @staticmethod
    def values(table: pa.Table) -> dict[int, float]:
        """What the rows of a state say, by key."""
        return {row["key"]: row["vector"][1] for row in table.to_pylist()}


@pytest.fixture
def model(spark: SparkSession, tmp_path: Path) -> SmallModel:
    return SmallModel(spark, tmp_path / "model")


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Arm one failpoint to raise at its next pass; any call disarms the one before."""
    from freshet import failpoint

    def armed(name: str) -> None:
        failpoint._passed.clear()
        monkeypatch.setenv("FRESHET_FAILPOINTS", f"{name}:raise:1" if name else "")

    yield armed
    failpoint._passed.clear()
