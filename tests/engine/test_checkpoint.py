"""What a checkpoint plans is read as Spark reads it, and held against what is there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from freshet.engine import sources
from freshet.engine.batch import CleanBatch, collect
from freshet.engine.checkpoint import Fingerprint, fingerprint, inspect, planned_files
from freshet.engine.clean import clean
from freshet.engine.file_names import plain
from freshet.errors import CheckpointRefused, SourceChanged
from freshet.settings import CleanSettings, SourceSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MTIME = 1_700_000_000

Seen = list[tuple[int, Fingerprint, CleanBatch]]
Run = Callable[..., Seen]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "in put ü"
    found.mkdir()
    return found


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path, folder: Path) -> Run:
    """run(fail_at=batch, **source): read what there is; every batch with its fingerprint; stops inside one batch."""

    def go(fail_at: int | None = None, limits: dict[str, Any] | None = None, **given: Any) -> Seen:
        source = SourceSettings.model_validate({"path": str(folder), **given})
        seen: Seen = []

        def learn(frame: DataFrame, batch_id: int) -> None:
            read = fingerprint(str(tmp_path / "check point"), batch_id, source.format)
            if batch_id == fail_at:
                raise RuntimeError("stop here")
            seen.append((batch_id, read, collect(frame, read)))

        cleaned = clean(sources.stream(spark, source), source, CleanSettings.model_validate(limits or {}))
        writer = cleaned.writeStream.foreachBatch(learn).option("checkpointLocation", str(tmp_path / "check point"))
        query = writer.trigger(availableNow=True).start()
        try:
            query.awaitTermination()
        except Exception as error:
            if fail_at is None:
                raise
            assert "stop here" in str(error)
        return seen

    return go


def rows(first: int, count: int) -> list[dict[str, Any]]:
    same = {"user_id": "u", "item_id": "i", "value": 1.0, "event_at": "2023-11-14"}
    return [{"event_id": f"e{n}", **same} for n in range(first, first + count)]


def put(folder: Path, name: str, records: list[dict[str, Any]], mtime: float) -> Path:
    path = folder / name
    if name.endswith("csv"):
        path.write_text("\n".join([",".join(records[0]), *(",".join(map(str, row.values())) for row in records)]))
    elif name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in records))
    os.utime(path, (mtime, mtime))
    return path


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    state = inspect(str(tmp_path / "none"))
    assert (state.exists, state.id, state.planned_batch, state.committed_batch) == (False, None, None, None)


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_every_batch_knows_its_files(run: Run, folder: Path, tmp_path: Path, form: str) -> None:
    paths = [put(folder, f"f {n}.{form}", rows(n * 2, 2), MTIME + n) for n in range(3)]
    seen = run(format=form, max_files_per_trigger=2)
    named = [[plain(uri) for uri in read.files] for _, read, _ in seen]
    assert named == [[str(paths[0]), str(paths[1])], [str(paths[2])]]
    told = json.loads(seen[0][1].sources[0])
    assert told == {"path": str(paths[0]), "size": paths[0].stat().st_size, "modified_ms": MTIME * 1000}
    assert [batch.read for _, _, batch in seen] == [4, 2]
    assert set(seen[0][2].accepted.column("source").to_pylist()) == {str(path) for path in paths[:2]}
    state = inspect(str(tmp_path / "check point"))
    assert (state.exists, state.planned_batch, state.committed_batch) == (True, 1, 1)
    assert state.id == json.loads((tmp_path / "check point" / "metadata").read_text())["id"]


def test_a_list_that_was_compacted_reads_the_same(run: Run, folder: Path, tmp_path: Path) -> None:
    paths = [put(folder, f"{n}.json", rows(n, 1), MTIME + n) for n in range(21)]
    seen = run(max_files_per_trigger=1)
    assert len(seen) == 21
    checkpoint = tmp_path / "check point"
    assert (checkpoint / "sources" / "0" / "9.compact").exists()
    for name in range(19):  # as Spark will have them deleted one day; 19.compact holds them
        (checkpoint / "sources" / "0" / str(name)).unlink(missing_ok=True)
    for batch_id, read, _ in seen:
        assert [plain(file.uri) for file in planned_files(str(checkpoint), batch_id)] == [str(paths[batch_id])]
        assert fingerprint(str(checkpoint), batch_id, "json") == read


def test_a_replayed_batch_has_the_same_fingerprint(run: Run, folder: Path) -> None:
    for n in range(3):
        put(folder, f"{n}.json", rows(n, 1), MTIME + n)
    assert [batch_id for batch_id, _, _ in run(fail_at=1)] == [0]
    seen = run()
    assert [batch_id for batch_id, _, _ in seen] == [1, 2]
    assert len({read.hash for _, read, _ in seen}) == 2


@pytest.mark.parametrize(("form", "change"), [
    ("json", "gone"), ("json", "shrunk"), ("json", "grown"), ("json", "rewritten"), ("parquet", "gone"), ("parquet", "rewritten"),
])  # fmt: skip
def test_a_file_that_changed_before_the_replay_is_named(run: Run, folder: Path, form: str, change: str) -> None:
    for n in range(3):
        path = put(folder, f"{n}.{form}", rows(n, 2), MTIME + n)
    path = folder / f"1.{form}"
    run(fail_at=1, format=form)
    before = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes({"shrunk": before[:-10], "grown": before + before, "rewritten": before}[change])
        os.utime(path, (MTIME + 60, MTIME + 60))
    with pytest.raises(Exception, match=path.name) as refused:
        run(format=form)
    assert "SourceChanged" in str(refused.value) or isinstance(refused.value, SourceChanged)


def test_source_changed_says_planned_and_found(run: Run, folder: Path, tmp_path: Path) -> None:
    path = put(folder, "0.json", rows(0, 1), MTIME)
    run(fail_at=0)
    os.utime(path, (MTIME + 1, MTIME + 1))
    with pytest.raises(SourceChanged) as refused:
        fingerprint(str(tmp_path / "check point"), 0, "json")
    facts = refused.value.facts
    assert facts["path"] == str(path)
    assert facts["planned"] == {"modified_ms": MTIME * 1000}
    assert facts["found"] == {"modified_ms": MTIME * 1000 + 1000, "size": path.stat().st_size}
    assert "--skip-batch 0" in refused.value.remedy


def test_delta_is_known_by_its_offsets(run: Run, spark: SparkSession, tmp_path: Path) -> None:
    table = str(tmp_path / "events")
    future = [{**rows(9, 1)[0], "event_at": "2099-01-01"}]
    for n in range(2):
        frame = spark.createDataFrame(pa.Table.from_pylist(rows(n * 2, 2) + (future if n else [])))
        frame.coalesce(1).write.format("delta").mode("append").save(table)
    seen = run(format="delta", path=table)
    assert sum(batch.read for _, _, batch in seen) == 5
    assert sum(batch.quarantined.column("reason").to_pylist() == ["future"] for _, _, batch in seen) == 1
    for batch_id, read, batch in seen:
        assert json.loads(read.sources[0])["end"]["reservoirId"]
        assert set(batch.accepted.column("source").to_pylist()) == {table}
        assert set(batch.accepted.column("arrived_at").cast("int64").to_pylist()) == {read.batch_time_us}
        assert fingerprint(str(tmp_path / "check point"), batch_id, "delta") == read
    assert len({read.hash for _, read, _ in seen}) == len(seen)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint as Spark writes it, at batch 1 of 2."""
    root = tmp_path / "made"
    for name in ("offsets", "commits", "sources/0"):
        (root / name).mkdir(parents=True)
    (root / "metadata").write_text('{"id":"abc"}')
    for n in range(2):
        (root / "offsets" / str(n)).write_text(f'v1\n{{"batchTimestampMs":{n + 1}}}\n{{"logOffset":{n}}}')
        (root / "sources/0" / str(n)).write_text(f'v1\n{{"path":"file:///gone{n}","timestamp":{n},"batchId":{n}}}')
    (root / "commits" / "0").write_text("v1\n{}")
    (root / "offsets" / ".1.crc").write_bytes(b"\x00")
    (root / "offsets" / ".2.abc.tmp").write_text("v1")
    return root


def test_a_sound_checkpoint(checkpoint: Path) -> None:
    state = inspect(f"file://{checkpoint}")
    assert (state.id, state.planned_batch, state.committed_batch) == ("abc", 1, 0)
    assert planned_files(str(checkpoint), 1)[0].uri == "file:///gone1"
    shutil.rmtree(checkpoint / "commits")  # survivable: the last batch is replayed
    assert inspect(str(checkpoint)).committed_batch is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("offsets/1", b""), ("offsets/1", b"v2\n{}"), ("offsets/1", b"v1"), ("offsets/1", b"v1\n{}\n{}"),
        ("offsets/1", b"\xff\xfe\x00"), ("offsets/1", b'v1\n{"batchTimestampMs":1}\n{"logOf'), ("offsets/1", None),
        ("offsets/0", b""), ("metadata", None), ("metadata", b""), ("metadata", b"[]"), ("commits/7", b"v1\n{}"),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_refused_with_the_way_out(checkpoint: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (checkpoint / name).unlink()
        if name == "offsets/1":
            (checkpoint / "commits/1").write_text("v1\n{}")
    else:
        (checkpoint / name).write_bytes(content)
    with pytest.raises(CheckpointRefused) as refused:
        inspect(str(checkpoint))
    assert refused.value.facts["reason"] == "damaged"
    assert refused.value.facts["file"] == (name if name != "commits/7" else "offsets/7")
    assert "--adopt-checkpoint" in refused.value.remedy


@pytest.mark.parametrize("content", [b"", b"v1\n{", b'v1\n{"path":1}', None])
def test_a_damaged_list_of_files_is_refused(checkpoint: Path, content: bytes | None) -> None:
    file = checkpoint / "sources/0/1"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(CheckpointRefused) as refused:
        planned_files(str(checkpoint), 1)
    assert refused.value.facts["file"] == "sources/0/1"
