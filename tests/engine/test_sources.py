"""All formats give the same records; a source that is not what the settings say is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from freshet.engine import sources
from freshet.errors import SourceRefused, UnknownName
from freshet.settings import SourceSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from freshet.engine.batch import CleanBatch

Write = Callable[..., list[str]]
Read = Callable[..., "CleanBatch"]

ROWS = [
    {"event_id": f"e{n}", "user_id": f"u{n % 3}", "item_id": 7 + n, "event_type": "view", "value": n / 2,
     "event_at": f"2023-11-14 22:13:{n:02d}"}
    for n in range(6)
]  # fmt: skip
SAME = ("event_id", "user_id", "item_id", "event_type", "value", "event_at", "user_key", "item_key", "event_hash",
        "dedup_key", "position")  # fmt: skip


def put(folder: Path, form: str, spark: SparkSession) -> list[str]:
    path = folder / f"rows.{form}"
    table = pa.Table.from_pylist(ROWS)
    if form == "json":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif form == "csv":
        pyarrow.csv.write_csv(table, path)
    elif form == "parquet":
        pq.write_table(table, path)
    else:
        spark.createDataFrame(table).coalesce(1).write.format("delta").save(str(path))
    return [str(path)]


def test_every_format_gives_the_same_records(spark: SparkSession, read: Read, tmp_path: Path) -> None:
    found = {}
    for form in set(sources.FORMATS) - {"kafka"}:  # tests/pipelines/test_kafka.py
        paths = put(tmp_path, form, spark)
        batch = read(paths, {"format": form, "path": paths[0]})
        found[form] = batch.accepted.select(SAME).to_pydict()
        assert batch.quarantined.num_rows == 0
        assert batch.accepted.column("source").unique().to_pylist() == paths
    assert found["json"]["item_id"] == [str(row["item_id"]) for row in ROWS]
    for form in found:
        assert found[form] == found["json"], form


def test_typed_columns_keep_what_they_say(read: Read, tmp_path: Path) -> None:
    at = datetime(2023, 11, 14, 22, 13, 20, 5)
    table = pa.table({
        "event_id": [1, 2, 3], "user_id": [2**62, -1, None], "item_id": ["a", "b", "c"],
        "value": [1.0, float("nan"), 2.0], "event_at": pa.array([at] * 3, pa.timestamp("us")),
    })
    pq.write_table(table, tmp_path / "t.parquet")
    batch = read([str(tmp_path / "t.parquet")], {"format": "parquet", "path": str(tmp_path)})
    assert batch.accepted.column("user_id").to_pylist() == [str(2**62)]
    assert batch.accepted.column("event_at").cast("int64").to_pylist() == [1_700_000_000_000_005]
    assert batch.quarantined.column("reason").to_pylist() == ["value_not_finite", "required"]
    assert json.loads(batch.quarantined.column("raw").to_pylist()[1])["item_id"] == "c"


@pytest.mark.parametrize(
    ("column", "values", "unit"),
    [
        ("user_id", [1.0], "text"), ("value", [[1.0]], "text"), ("event_at", [1_700_000_000], "text"),
        ("event_at", [True], "s"),
    ],
)
def test_a_type_that_loses_something_is_refused(
    spark: SparkSession, tmp_path: Path, column: str, values: list[Any], unit: str
) -> None:
    row = {"event_id": ["e"], "user_id": ["u"], "item_id": ["i"], "event_at": ["2023-11-14"], column: values}
    pq.write_table(pa.table(row), tmp_path / "t.parquet")
    source = SourceSettings.model_validate({"format": "parquet", "path": str(tmp_path), "time_unit": unit})
    with pytest.raises(SourceRefused, match=column):
        sources.files(spark, source, [str(tmp_path)])


@pytest.mark.parametrize("missing", ["event_id", "user_id", "item_id", "event_at"])
def test_a_column_that_every_event_needs_is_asked_for(spark: SparkSession, tmp_path: Path, missing: str) -> None:
    row = {name: ["x"] for name in ("event_id", "user_id", "item_id", "event_at") if name != missing}
    pq.write_table(pa.table(row), tmp_path / "t.parquet")
    source = SourceSettings.model_validate({"format": "parquet", "path": str(tmp_path)})
    with pytest.raises(SourceRefused) as refused:
        sources.files(spark, source, [str(tmp_path)])
    assert refused.value.facts["wanted"] == [missing]


def test_a_column_missing_in_a_later_file_is_a_missing_value(spark: SparkSession, read: Read, tmp_path: Path) -> None:
    put(tmp_path, "parquet", spark)
    pq.write_table(pa.table({"event_id": ["x"], "item_id": [1], "event_at": ["2023-11-14"]}), tmp_path / "z.parquet")
    paths = [str(tmp_path / "rows.parquet"), str(tmp_path / "z.parquet")]
    batch = read(paths, {"format": "parquet", "path": str(tmp_path), "default_value": 1.0})
    assert batch.accepted.num_rows == len(ROWS)
    assert batch.quarantined.column("reason").to_pylist() == ["required"]


def test_a_column_retyped_in_a_later_file_is_a_named_stop(spark: SparkSession, read: Read, tmp_path: Path) -> None:
    put(tmp_path, "parquet", spark)
    pq.write_table(pa.table({**pa.Table.from_pylist(ROWS).to_pydict(), "item_id": ["a"] * 6}), tmp_path / "z.parquet")
    paths = [str(tmp_path / "rows.parquet"), str(tmp_path / "z.parquet")]
    with pytest.raises(SourceRefused, match="another type") as refused:
        read(paths, {"format": "parquet", "path": str(tmp_path)})
    assert str(refused.value.facts["path"]).endswith("z.parquet")


def test_damaged_pages_are_a_named_stop(spark: SparkSession, read: Read, tmp_path: Path) -> None:
    table = pa.table({name: [str(row[name]) for row in ROWS] * 50 for name in ROWS[0]})
    path = tmp_path / "d.parquet"
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    at = data.index(b"2023-11-14 22:13:03")
    data[at + 18] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceRefused, match=r"d\.parquet"):
        read([str(path)], {"format": "parquet", "path": str(path)})


def test_csv_with_other_header_is_a_named_stop(write: Write, read: Read) -> None:
    good = write("a.csv", ["event_id,user_id,item_id,event_at,value", "e1,u,i,2023-11-14,1"])
    source = {"format": "csv"}
    assert read(good, source).accepted.num_rows == 1
    other = write("b.csv", ["event_id,item_id,user_id,event_at,value", "e2,i,u,2023-11-14,1"])
    source["csv"] = {"columns": ["event_id", "user_id", "item_id", "event_at", "value"]}  # type: ignore[assignment]
    with pytest.raises(SourceRefused, match="header") as refused:
        read([*good, *other], source)
    assert str(refused.value.facts["path"]).endswith("b.csv")


def test_csv_lines_of_another_length_are_refused_and_empty_files_are_fine(write: Write, read: Read) -> None:
    head = "event_id,user_id,item_id,event_at,value"
    lines = ["e1,u,i,2023-11-14,1", "e2,u", "", 'e3,"a ""b"", c",i,2023-11-14,1', "e4,u,i,2023-11-14,1,9"]
    paths = write("a.csv", [head, *lines])
    paths += write("b.csv", "") + write("c.csv", [head])
    batch = read(paths, {"format": "csv", "csv": {"columns": head.split(",")}})
    assert batch.accepted.column("user_id").to_pylist() in (["u", 'a "b", c'], ['a "b", c', "u"])
    assert batch.quarantined.column("reason").to_pylist() == ["unreadable", "unreadable"]
    assert batch.quarantined.column("raw").to_pylist() == ["e2,u", "e4,u,i,2023-11-14,1,9"]
    assert batch.quarantined.column("position").to_pylist() == [1, 3]


def test_csv_without_header(write: Write, read: Read) -> None:
    shape = {"header": False, "separator": "|", "columns": ["user_id", "item_id", "value", "event_at"]}
    source = {"format": "csv", "csv": shape, "time_unit": "s", "columns": {"event_id": None}}
    batch = read(write("u.data", ["1|2|3|1700000000", "1|2|3|1700000000"]), source)
    assert batch.accepted.num_rows == 2
    assert len(set(batch.accepted.column("event_id").to_pylist())) == 2


@pytest.mark.parametrize("form", ["csv", "parquet", "delta"])
def test_a_source_without_data_is_refused(spark: SparkSession, tmp_path: Path, form: str) -> None:
    (tmp_path / "none").mkdir()
    source = SourceSettings.model_validate({"format": form, "path": str(tmp_path / "none")})
    with pytest.raises(SourceRefused, match="no " + form):
        sources.stream(spark, source)


def test_delta_has_no_order_of_files(spark: SparkSession, tmp_path: Path) -> None:
    source = SourceSettings.model_validate({"format": "delta", "path": str(tmp_path), "order": "file"})
    with pytest.raises(SourceRefused, match="order"):
        sources.stream(spark, source)


def test_an_unknown_format_lists_the_known_ones(spark: SparkSession) -> None:
    source = SourceSettings().model_copy(update={"format": "xml", "path": "/nowhere"})
    with pytest.raises(UnknownName) as refused:
        sources.stream(spark, source)
    assert refused.value.facts["known"] == ["json", "csv", "parquet", "delta", "kafka"]
