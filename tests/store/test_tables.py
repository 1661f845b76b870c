"""Tables as every engine sees them, and what an append refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from delta.tables import DeltaTable

from freshet.errors import FreshetError, StateDamaged, StoreFailed, UnknownName
from freshet.roots import local_folder
from freshet.schema import TABLES
from freshet.store.files import all_rows, arrow_reads, count_where
from freshet.store.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

ITEMS = pa.table({
    "item_id": ["a", "b"], "title": ["Å\n\u202e", None], "category": [None, "x"],
    "attributes": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())),
})  # fmt: skip


@pytest.fixture
def tables(spark: SparkSession, tmp_path: Path) -> Tables:
    made = Tables(spark, str(tmp_path / "a model, 100% ok #2?"), log_checkpoint_interval=7, log_retention=3600)
    made.create()
    return made


def folder(tables: Tables, name: str) -> Path:
    found = local_folder(tables.path(name))
    assert found is not None
    return found


def entry(path: Path, kind: str) -> dict[str, Any]:
    lines = (path / "_delta_log" / f"{0:020d}.json").read_text().splitlines()
    return dict(next(json.loads(line)[kind] for line in lines if kind in json.loads(line)))


def test_a_table_is_what_delta_itself_would_have_created(spark: SparkSession, tables: Tables, tmp_path: Path) -> None:
    builder = DeltaTable.createIfNotExists(spark).location(str(tmp_path / "reference")).comment(TABLES["snapshots"].row)
    for column in TABLES["snapshots"].columns:
        builder = builder.addColumn(column.name, column.type, nullable=not column.required, comment=column.comment)
    builder.execute()
    ours, theirs = folder(tables, "snapshots"), tmp_path / "reference"
    assert entry(ours, "protocol") == entry(theirs, "protocol")
    for what in ("description", "format", "partitionColumns"):
        assert entry(ours, "metaData")[what] == entry(theirs, "metaData")[what]
    assert json.loads(entry(ours, "metaData")["schemaString"]) == json.loads(entry(theirs, "metaData")["schemaString"])
    mine, reference = (json.loads((path / "_delta_log" / f"{0:020d}.crc").read_text()) for path in (ours, theirs))
    assert mine.pop("metadata") == entry(ours, "metaData")
    assert mine == {name: reference[name] for name in mine}
    assert set(reference) - set(mine) == {"txnId", "metadata", "fileSizeHistogram"}  # the format leaves these to the writer


def test_every_table_is_plain_and_says_what_its_columns_are(tables: Tables) -> None:
    import deltalake

    for name, table in TABLES.items():
        found = deltalake.DeltaTable(str(folder(tables, name)))
        assert (found.protocol().min_reader_version, found.protocol().min_writer_version) == (1, 2)
        assert found.metadata().description == table.row
        assert found.metadata().configuration["delta.checkpointInterval"] == "7"
        assert [field.name for field in found.schema().fields] == table.names
        assert [field.metadata["comment"] for field in found.schema().fields] == [c.comment for c in table.columns]
        assert [not field.nullable for field in found.schema().fields] == [column.required for column in table.columns]


def test_creating_again_changes_nothing(tables: Tables) -> None:
    before = entry(folder(tables, "items"), "metaData")["id"]
    tables.create()
    assert entry(folder(tables, "items"), "metaData")["id"] == before


def test_a_table_whose_making_was_killed_is_made_by_the_next(tables: Tables, spark: SparkSession) -> None:
    """Delta writes an entry aside and renames it; what is left of a kill in between is no entry."""
    log = folder(tables, "items") / "_delta_log"
    for file in log.iterdir():
        file.unlink()
    (log / f".{0:020d}.json.0a1b.tmp").write_text("half", encoding="utf-8")
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]  # as a new process finds it
    assert not tables.exists("items")
    tables.create()
    tables.append("items", ITEMS)
    assert tables.read("items").count() == 2


def test_rows_come_back_and_the_cost_is_told(tables: Tables) -> None:
    import deltalake

    assert tables.log("items").is_new()
    done = tables.append("items", ITEMS, note="mine")
    assert not tables.log("items").is_new()
    assert (done.rows, done.version) == (2, 1)
    assert done.bytes == sum(file.stat().st_size for file in folder(tables, "items").glob("*.parquet"))
    assert tables.version("items") == 1
    assert tables.collect("items", tables.read("items").orderBy("item_id")).to_pylist() == ITEMS.to_pylist()
    assert deltalake.DeltaTable(str(folder(tables, "items"))).to_pyarrow_table().num_rows == 2


@pytest.mark.parametrize("broken", [
    ITEMS.drop_columns(["title"]),
    ITEMS.append_column("colour", pa.array(["red", "red"])),
    ITEMS.set_column(0, "item_id", pa.array([None, "b"])),
    ITEMS.set_column(2, "category", pa.array([[1], [2]])),
], ids=["missing", "unexpected", "null", "type"])  # fmt: skip
def test_rows_that_do_not_fit_are_refused_before_anything_is_written(tables: Tables, broken: pa.Table) -> None:
    with pytest.raises(FreshetError) as caught:
        tables.append("items", broken)
    assert caught.value.facts["table"] == "items"
    assert list(folder(tables, "items").glob("*.parquet")) == []


@pytest.mark.parametrize("name", ["../items", "/etc", "items/../../x", "", "Items", "s3://x"])
def test_no_name_leads_out_of_the_root(tables: Tables, name: str) -> None:
    with pytest.raises(UnknownName):
        tables.path(name)


def test_an_error_of_the_engine_is_told_with_the_table_and_the_way_out(tables: Tables) -> None:
    shutil.rmtree(folder(tables, "items"))
    folder(tables, "items").write_text("in the way")
    with pytest.raises(StoreFailed) as failed:
        tables.append("items", ITEMS)
    assert failed.value.facts["table"] == "items"
    assert failed.value.remedy
    shutil.rmtree(folder(tables, "ids"))
    with pytest.raises(StateDamaged) as damaged:
        tables.collect("ids", tables.read("ids"))
    assert damaged.value.facts["table"] == "ids"


def test_an_append_goes_after_what_another_process_has_committed(tables: Tables) -> None:
    """This process does not look at the log before it commits: it finds the number taken."""
    assert tables.append("items", ITEMS).version == 1
    log = folder(tables, "items") / "_delta_log"
    lines = [json.loads(line) for line in (log / f"{1:020d}.json").read_text().splitlines()]
    [added] = [line["add"] for line in lines if "add" in line]
    shutil.copy(log.parent / added["path"], log.parent / "another.parquet")
    other = [line if "add" not in line else {"add": {**added, "path": "another.parquet"}} for line in lines]
    (log / f"{2:020d}.json").write_text("".join(f"{json.dumps(line)}\n" for line in other))
    assert [tables.append("items", ITEMS).version, tables.append("items", ITEMS).version] == [3, 4]
    assert tables.read("items").count() == 4 * ITEMS.num_rows


def test_an_append_to_a_table_that_was_made_anew_begins_at_its_beginning(tables: Tables) -> None:
    assert [tables.append("items", ITEMS).version for _ in range(3)] == [1, 2, 3]
    shutil.rmtree(folder(tables, "items"))
    tables.create()
    assert tables.append("items", ITEMS).version == 1
    assert tables.read("items").count() == ITEMS.num_rows


def test_a_plain_path_is_local_and_absolute() -> None:
    assert local_folder("data/m") == Path("data/m").resolve()
    assert local_folder("file:///data/m") == Path("/data/m")
    assert local_folder("file:/data/a#b?c") == local_folder("/data/a#b?c") == Path("/data/a#b?c").resolve()
    assert local_folder("file://host/data") == Path("/data")
    assert local_folder("hdfs://host/data") is None


def test_a_table_made_before_a_column_came_is_read_as_it_is_and_given_it_when_it_is_opened_to_write(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a look at what is there, reading would end in an error and what is appended would not be seen."""
    from freshet import schema
    from freshet.store import columns

    now = schema.TABLES["events"]
    before = schema.Table(now.name, now.row, tuple(one for one in now.columns if one.name != "corrects"))
    row = {
        "event_id": "e", "revision": 0, "user_id": "u", "item_id": "i", "value": 1.0, "weight": 1.0, "event_at": 1, "arrived_at": 1,
        "branch": "main", "snapshot_version": 1, "commit_id": "c",
    }  # fmt: skip

    def rows(**more: int) -> pa.Table:
        names = columns.arrow_schema("events").names
        return pa.table({name: pa.array([(row | more).get(name)], columns.arrow_schema("events").field(name).type) for name in names})

    tables = Tables(spark, str(tmp_path / "older"))
    monkeypatch.setitem(schema.TABLES, "events", before)
    for cached in (columns.spark_schema, columns.arrow_schema):
        cached.cache_clear()
    tables.create()
    tables.append("events", rows())
    monkeypatch.setitem(schema.TABLES, "events", now)
    for cached in (columns.spark_schema, columns.arrow_schema):
        cached.cache_clear()
    assert tables.read("events").select("event_id", "corrects").collect() == [("e", None)]
    tables.create()
    tables.append("events", rows(corrects=0))
    assert {row["corrects"] for row in tables.read("events").select("corrects").collect()} == {0, None}
    versions = tables.version("events")
    tables.create()
    assert tables.version("events") == versions  # once
    assert entry(folder(tables, "events"), "protocol")["minReaderVersion"] == 1


@pytest.mark.parametrize("name", ["a%20b", "a\\b", "50% #?"])
def test_a_root_of_any_name_is_read_by_whoever_can(spark: SparkSession, tmp_path: Path, name: str) -> None:
    """delta-rs decodes %20 a second time: then Spark reads."""
    made = Tables(spark, str(tmp_path / name))
    made.create()
    made.append("items", ITEMS)
    assert arrow_reads(made) == (name == "50% #?")
    assert sorted(all_rows(made, "items", ("item_id",)).column("item_id").to_pylist()) == ["a", "b"]
    assert count_where(made, "items", ("item_id", "=", "a")) == count_where(made, "items", ("category", "is", None)) == 1


def test_a_table_that_only_spark_can_read_is_read_by_spark(spark: SparkSession, tmp_path: Path) -> None:
    """Anybody may write `items`, with features of Delta that delta-rs does not know."""
    made = Tables(spark, str(tmp_path))
    made.create()
    made.append("items", ITEMS)
    spark.sql(f"alter table delta.`{made.path('items')}` set tblproperties ('delta.enableDeletionVectors' = 'true')")
    spark.sql(f"delete from delta.`{made.path('items')}` where item_id = 'a'")
    assert all_rows(made, "items", ("item_id",)).column("item_id").to_pylist() == ["b"]
