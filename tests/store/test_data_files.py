"""An append's file is what Spark's own writer would have made of the rows, for every engine that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from freshet.roots import local_folder
from freshet.store import data_files, tables
from freshet.store.columns import arrow_schema, conform, spark_schema
from freshet.store.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

AT = [datetime(2025, 1, 2, 3, 4, 5, 678901, UTC), datetime(1969, 12, 31, 23, 59, 59, 1, UTC), None]


def requests(version: int = 3) -> pa.Table:
    """Rows with a text, a time and a null in them."""
    schema = arrow_schema("requests")
    rows: dict[str, Any] = {
        field.name: pa.array([f"{field.name} ü", "", None][:3] if field.nullable else [f"{field.name}{n}" for n in range(3)])
        for field in schema if pa.types.is_string(field.type)
    }  # fmt: skip
    for field in schema:
        if pa.types.is_timestamp(field.type):
            rows[field.name] = pa.array(AT if field.nullable else [AT[0], AT[1], AT[0]], field.type)
        elif field.name not in rows:
            rows[field.name] = pa.array([version] * 3).cast(field.type) if pa.types.is_integer(field.type) else pa.nulls(3, field.type)
    return pa.table(rows).select(schema.names)


def parameters(count: int = 5) -> pa.Table:
    """Vectors, links and nulls."""
    schema = arrow_schema("parameters")
    record: dict[str, Any] = {
        "block": "user", "vector": [1.5, float("-inf")], "links": [1, -(2**63)], "count": 7, "last_event_at": AT[0], "branch": "main",
        "snapshot_version": 4, "commit_id": "00000001-ab",
    }  # fmt: skip
    records = [{**record, "key": key, "slots": None if key % 2 else [0.1]} for key in range(count)]
    return pa.Table.from_pylist(records, schema=schema)


@pytest.fixture
def model(spark: SparkSession, tmp_path: Path) -> Tables:
    made = Tables(spark, str(tmp_path / "a model"))
    made.create()
    return made


def by_spark(model: Tables, name: str, rows: pa.Table) -> None:
    """The same append as Spark does it."""
    frame = model.spark.createDataFrame(conform(name, rows), spark_schema(name)).coalesce(1)
    frame.write.format("delta").mode("append").save(model.path(name))


def folder(model: Tables, name: str) -> Path:
    found = local_folder(model.path(name))
    assert found is not None
    return found


def actions(model: Tables, name: str, kind: str) -> list[dict[str, Any]]:
    """The actions of one kind in the log, oldest first."""
    lines = [line for log in sorted((folder(model, name) / "_delta_log").glob("*.json")) for line in log.read_text().splitlines()]
    return [json.loads(line)[kind] for line in lines if kind in json.loads(line)]


@pytest.mark.spark
@pytest.mark.parametrize(("name", "made"), [("requests", requests), ("parameters", parameters)])
def test_rows_and_statistics_are_those_of_a_spark_write(model: Tables, name: str, made: Callable[[], pa.Table]) -> None:
    import deltalake

    rows = made()
    model.append(name, rows, note="ours")
    by_spark(model, name, rows)
    ours, theirs = (json.loads(add["stats"]) for add in actions(model, name, "add"))
    assert ours["numRecords"] == theirs["numRecords"] == rows.num_rows
    for column, low in ours["minValues"].items():
        assert (low, ours["nullCount"][column]) == (theirs["minValues"][column], theirs["nullCount"][column])
        # The largest time is told rounded up to the millisecond: never below what Delta says.
        assert ours["maxValues"][column] >= theirs["maxValues"][column]
    assert set(ours["minValues"]) == set(theirs["minValues"])
    assert [info["isBlindAppend"] for info in actions(model, name, "commitInfo")] == [True, True]
    expected = sorted(map(str, rows.to_pylist() * 2))
    assert sorted(map(str, model.collect(name, model.read(name)).cast(rows.schema).to_pylist())) == expected
    assert sorted(map(str, deltalake.DeltaTable(str(folder(model, name))).to_pyarrow_table().cast(rows.schema).to_pylist())) == expected
    files = [str(folder(model, name) / add["path"]) for add in actions(model, name, "add")]
    [count] = duckdb.execute("select count(*) from (select distinct * from read_parquet(?))", [files]).fetchone() or [0]
    assert count == len(set(expected))


@pytest.mark.spark
def test_files_are_passed_by_where_statistics_say_so(model: Tables) -> None:
    for version in (1, 2, 3):
        model.append("parameters", parameters().set_column(9, "snapshot_version", pa.array([version] * 5)))
    assert len(model.read("parameters").inputFiles()) == 3
    read = model.read("parameters").where("snapshot_version = 2")
    assert (len(read.inputFiles()), read.count()) == (1, 5)


@pytest.mark.spark
def test_a_root_elsewhere_gets_the_same_file_through_the_jvm(model: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "_PIECE", 700)
    monkeypatch.setattr(tables, "local_folder", lambda root: None)
    rows = parameters(300)
    done = model.append("parameters", rows, note="far")
    [add] = actions(model, "parameters", "add")
    file = folder(model, "parameters") / add["path"]
    assert done.bytes == add["size"] == file.stat().st_size
    assert pq.read_table(file).cast(rows.schema).equals(rows)
    entry = model.find_commit("parameters", "far")
    assert entry is not None
    assert (entry.version, entry.bytes) == (done.version, done.bytes)


@pytest.mark.spark
def test_a_log_checkpoint_is_written_when_it_is_due(spark: SparkSession, tmp_path: Path) -> None:
    model = Tables(spark, str(tmp_path / "m"), log_checkpoint_interval=3)
    model.create()
    for _ in range(4):
        model.append("requests", requests())
    assert [file.name for file in (folder(model, "requests") / "_delta_log").glob("*.checkpoint.parquet")] == [f"{3:020d}.checkpoint.parquet"]
    assert model.read("requests").count() == 12


def test_every_page_has_a_checksum(tmp_path: Path) -> None:
    """A flipped bit in a page is an error for a reader that looks, not another number."""
    rows = pa.table({"x": pa.array(range(1000), pa.int64())})
    data_files.write(rows, tmp_path / "f")
    data = bytearray((tmp_path / "f").read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(OSError, match=r"CRC|checksum|[Cc]orrupt"):
        pq.read_table(tmp_path / "f", page_checksum_verification=True)
