"""A batch is the same, to the bit, however its files were cut, spread over tasks and ordered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from freshet.engine import content_ids, hashing
from freshet.engine.batch import ACCEPTED_COLUMNS, QUARANTINE_COLUMNS, as_text, canonical, complete, positions
from freshet.engine.file_names import by_key, encoded, key, plain
from freshet.errors import SourceChanged
from freshet.schema import EVENTS, QUARANTINE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from freshet.engine.batch import CleanBatch

Write = Callable[..., list[str]]
Read = Callable[..., "CleanBatch"]

MTIME = 1_700_000_000


def lines(n: int) -> list[str]:
    draw = np.random.default_rng(3)
    return [
        json.dumps({"event_id": f"e{draw.integers(n)}", "user_id": f"u{draw.integers(9)}",
                    "item_id": f"i{draw.integers(9)}", "value": int(draw.integers(5)),
                    "event_at": f"2023-11-14T22:13:{draw.integers(20):02d}Z"})
        if draw.random() > 0.1 else "{dirt"
        for _ in range(n)
    ]  # fmt: skip


def split(read: Read, spark: SparkSession, paths: list[str], bytes_per_task: int, **chosen: Any) -> CleanBatch:
    """The batch read in tasks of so many bytes."""
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(bytes_per_task))
    spark.conf.set("spark.sql.files.openCostInBytes", "1")
    try:
        return read(paths, **chosen)
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")
        spark.conf.unset("spark.sql.files.openCostInBytes")


def test_tasks_do_not_matter(write: Write, read: Read, spark: SparkSession) -> None:
    paths = write("a.json", lines(100))
    whole, cut = split(read, spark, paths, 1 << 27), split(read, spark, paths, 2500)
    assert whole.accepted.equals(cut.accepted)
    assert whole.quarantined.equals(cut.quarantined)
    dirt = [at for at, text in enumerate(lines(100)) if text == "{dirt"]
    assert whole.quarantined.column("position").to_pylist() == dirt
    assert whole.read == 100


def test_files_do_not_matter_but_for_where_a_record_stood(write: Write, read: Read) -> None:
    text = lines(300)
    whole = read(write("a.json", text))
    parts = read([*write("c.json", text[:50]), *write("d.json", text[50:200], MTIME), *write("b.json", text[200:])])
    said = [name for name in ACCEPTED_COLUMNS if name not in ("source", "position")]
    assert whole.accepted.select(said).equals(parts.accepted.select(said))
    assert whole.read == parts.read == 300


def test_columns_are_those_of_the_tables(write: Write, read: Read) -> None:
    batch = read(write("a.json", lines(30)))
    commit = ["branch", "snapshot_version", "commit_id"]
    keys = ["user_key", "item_key", "event_hash", "dedup_key", "user_check", "item_check"]
    assert batch.accepted.column_names == [*(name for name in EVENTS.names if name not in (*commit, "corrects")), *keys]
    assert [*batch.quarantined.column_names, *commit] == QUARANTINE.names
    assert QUARANTINE.names[:-3] == QUARANTINE_COLUMNS
    for name in ("event_at", "arrived_at"):
        assert batch.accepted.schema.field(name).type == pa.timestamp("us", tz="UTC")


def test_an_empty_batch_is_empty(write: Write, read: Read) -> None:
    batch = read(write("a.json", "\n \n"))
    assert (batch.read, batch.accepted.num_rows, batch.quarantined.num_rows) == (0, 0, 0)
    assert batch.accepted.column_names == ACCEPTED_COLUMNS


def test_order_of_the_file_is_the_time_where_there_is_none(write: Write, read: Read, spark: SparkSession) -> None:
    text = [json.dumps({"event_id": n, "user_id": "u", "item_id": "i", "value": 1}) for n in range(100)]
    paths = write("a.json", text)
    batch = split(read, spark, paths, 1500, source={"order": "file"})
    assert batch.accepted.column("event_id").to_pylist() == [str(n) for n in range(100)]
    assert batch.accepted.column("event_at").cast("int64").to_pylist() == [MTIME * 1_000_000 + n for n in range(100)]


def test_equal_records_without_ids_are_events_of_their_own(write: Write, read: Read, spark: SparkSession) -> None:
    buy = json.dumps({"user_id": "u", "item_id": "i", "value": 1, "event_at": "2023-11-14"})
    other = buy.replace('"i"', '"j"')
    paths = write("a.json", [buy, other] * 10)
    source = {"columns": {"event_id": None}}
    batch, cut = read(paths, source), split(read, spark, paths, 500, source=source)
    assert len(set(batch.accepted.column("event_id").to_pylist())) == 20
    assert batch.accepted.equals(cut.accepted)
    event_id = batch.accepted.column("event_id").to_pylist()
    assert batch.accepted.column("event_hash").to_pylist() == [key(name) for name in event_id]
    pairs = spark.createDataFrame([(name, 0) for name in event_id], "e string, r bigint")
    hashed = pairs.selectExpr("xxhash64(e, r) AS k")
    assert batch.accepted.column("dedup_key").to_pylist() == [row.k for row in hashed.collect()]
    dropped = read(paths, source, {"repeats": "drop"})
    assert len(set(dropped.accepted.column("dedup_key").to_pylist())) == 2


def test_names_of_files(write: Write, read: Read) -> None:
    names = ("a b.json", "50%.json", "ü-ж.json", "[x]{y}^`.json", "a#b?c.json", "a+b&c=d,e;f.json")
    paths = [path for name in names for path in write(name, lines(5))]
    assert set(read(paths).accepted.column("source").to_pylist()) == set(paths)


def test_a_path_comes_back_from_its_uri() -> None:
    path = "/a b/50%/ü#?.json"
    assert plain("file://" + encoded(path)) == plain("file:" + encoded(path)) == plain(path) == path
    assert by_key([f"file://{encoded(path)}"])[key(f"file:{encoded(path)}")] == path
    assert plain("s3a://bucket/a%20b") == "s3a://bucket/a b"


def test_a_file_that_was_not_planned_is_refused(write: Write, read: Read, tmp_path: Path) -> None:
    write("a.json", lines(5))
    planned = SimpleNamespace(files=["/elsewhere.json"], batch_time_us=0)
    frame = pa.table({"file_key": [1], "block_start": [0], "ordinal": [0]})
    from freshet.engine.batch import _sources

    with pytest.raises(SourceChanged):
        _sources(frame.column("file_key").to_numpy(), planned, None)


def cleaned(**columns: Any) -> pa.Table:
    """One cleaned record of a Delta table."""
    record: dict[str, Any] = {
        "reason": None, "raw": None, "event_id": "e", "revision": 0, "user_id": 'u"\\', "item_id": "i",
        "event_type": None, "value": 1.5, "weight": 1.0, "propensity": None, "event_at": MTIME * 1_000_000,
        "arrived_at": None, "context": None,
        "file_key": 1, "block_start": 0, "ordinal": 0, "user_key": 1, "item_key": 2, "event_hash": 3,
        "dedup_key": 4, "user_check": 5, "item_check": 6, "content_hash": None, "content_check": None, **columns,
    }  # fmt: skip
    table = pa.Table.from_pylist([record])
    at = [table.schema.get_field_index(name) for name in ("reason", "raw", "event_type", "event_at", "arrived_at")]
    for index, kind in zip(at, [pa.string()] * 3 + [pa.timestamp("us", tz="UTC")] * 2, strict=True):
        table = table.set_column(index, table.column_names[index], table.column(index).cast(kind))
    return table


@pytest.mark.parametrize(
    ("offset_us", "window", "reason"),
    [
        (0, {"future_us": 10}, None), (10, {"future_us": 10}, None), (11, {"future_us": 10}, "future"),
        (-100, {"future_us": 10}, None), (-100, {"future_us": 10, "age_us": 100}, None),
        (-101, {"future_us": 10, "age_us": 100}, "too_old"), (11, {}, None),
    ],
)  # fmt: skip
def test_time_rules_where_arrival_is_the_time_of_the_batch(
    offset_us: int, window: dict[str, int], reason: str | None
) -> None:
    planned = SimpleNamespace(files=[], batch_time_us=MTIME * 1_000_000)
    batch = complete(cleaned(event_at=MTIME * 1_000_000 + offset_us), planned, window, "/table")
    found = batch.quarantined if reason else batch.accepted
    assert found.num_rows == 1
    assert found.column("arrived_at").cast("int64").to_pylist() == [MTIME * 1_000_000]
    if reason:
        assert found.column("reason").to_pylist() == [reason]
        assert json.loads(found.column("raw").to_pylist()[0])["user_id"] == 'u"\\'


def test_text_of_an_event_is_json() -> None:
    text = json.loads(as_text(cleaned()).to_pylist()[0])
    assert text == {"event_id": "e", "user_id": 'u"\\', "item_id": "i", "event_type": "", "value": 1.5,
                    "event_at": "2023-11-14T22:13:20.000000Z"}  # fmt: skip


def test_positions_count_inside_each_file() -> None:
    found = positions(np.array([5, 5, 4, 5, 4]), np.array([9, 0, 0, 9, 0]), np.array([3, 7, 2, 1, 1]))
    assert found.tolist() == [2, 0, 1, 1, 0]


def test_hashes_are_those_of_xxhash() -> None:
    texts = np.frombuffer(np.random.default_rng(1).bytes(32 * 50), np.uint8).reshape(50, 32)
    signed = [xxhash.xxh64_intdigest(text.tobytes(), 42) for text in texts]
    assert hashing.text32(texts.copy().view("<u8")).view(np.uint64).tolist() == signed
    numbers = np.array([0, 1, -1, 2**63 - 1], np.int64)
    words = [xxhash.xxh64_intdigest(number.tobytes(), 7) for number in numbers]
    assert hashing.long(numbers, np.full(4, 7, np.int64)).view(np.uint64).tolist() == words


def test_of_repeats_of_an_event_what_they_say_decides_and_not_where_they_stood() -> None:
    """A producer that sends an event again with another device: how the files were read must not choose."""
    said = [("click", {"device": "tv"}), ("click", {"device": "phone"}), ("click", {"device": "tv", "page": "2"}), ("view", {"device": "tv"}),
            ("click", {}), ("click", {"device": "tv"})]
    same = dict.fromkeys(("revision", "position", "user_key", "item_key", "event_hash", "dedup_key", "user_check", "item_check"), 1)
    same |= {"event_id": "e", "user_id": "u", "item_id": "i", "value": 1.0, "weight": 1.0, "propensity": None, "source": "s"}
    time = pa.timestamp("us", tz="UTC")
    kinds = {"event_at": time, "arrived_at": time, "context": pa.map_(pa.string(), pa.string()), "propensity": pa.float64()}
    rows = [same | {"event_type": kind, "context": list(context.items()), "event_at": 5, "arrived_at": 9} for kind, context in said]
    columns = {name: pa.array([row[name] for row in rows], kinds.get(name)) for name in ACCEPTED_COLUMNS}
    table = pa.table(columns)
    orders = [np.random.default_rng(seed).permutation(len(rows)) for seed in range(8)]
    found = [canonical(table.take(pa.array(order))) for order in orders]
    assert all(one.equals(found[0]) for one in found)
    assert len({str(one) for one in found[0].column("context").to_pylist()}) == 4


def test_ids_of_content_read_as_their_bytes() -> None:
    one = np.array([1, 1], np.int64)
    ids = content_ids.content_ids(one, one, one, np.array([1, 0]))
    texts = content_ids.as_texts(ids).to_pylist()
    again = content_ids.as_texts(content_ids.content_ids(one[:1], one[:1], one[:1], np.array([0]))).to_pylist()
    assert texts[1] == again[0] != texts[0]
    assert all(len(text) == 32 and int(text, 16) >= 0 for text in texts)
