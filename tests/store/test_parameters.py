"""State by path from base and log, its digest by three hands, and damage that must not pass for a number."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from freshet.errors import StateDamaged
from freshet.kernels.digest import as_hex, block_seed, fold, row_digests
from freshet.schema import PARAMETERS
from freshet.store.files import committed
from freshet.store.maintain import compact
from freshet.store.parameters import digest, load_arrow, state
from freshet.store.snapshots import History

pytestmark = pytest.mark.spark


def digest_by_hand(rows: Iterable[dict[str, Any]]) -> str:
    """The documented recipe, a row and a value at a time."""
    total = 0
    for row in rows:
        h = xxhash.xxh64_intdigest(row["block"].encode(), 42)
        h = xxhash.xxh64_intdigest(struct.pack("<q", row["key"]), h)
        for value in [*(row["vector"] or []), *(row["slots"] or [])]:
            h = xxhash.xxh64_intdigest(struct.pack("<f", value + 0.0), h)
        moment = row["last_event_at"]
        micros = None if moment is None else int(moment.timestamp()) * 1_000_000 + moment.microsecond
        for value in [*(row["links"] or []), row["count"], micros]:
            if value is not None:
                h = xxhash.xxh64_intdigest(struct.pack("<q", value), h)
        total ^= h
    return f"{total:016x}"


def digest_by_kernel(rows: list[dict[str, Any]]) -> str:
    width = max((len(row["links"] or []) for row in rows), default=0)
    links = np.zeros((len(rows), width), np.int64)
    filled = np.array([len(row["links"] or []) for row in rows], np.int32)
    for at, row in enumerate(rows):
        links[at, : filled[at]] = row["links"] or []
    micros = [int(row["last_event_at"].timestamp()) * 1_000_000 + row["last_event_at"].microsecond for row in rows]
    found = row_digests(
        block_seed("user"), np.array([row["key"] for row in rows]), np.array([row["vector"] for row in rows], np.float32),
        np.array([row["slots"] for row in rows], np.float32), links, filled,
        np.array([row["count"] for row in rows]), np.array(micros),
    )  # fmt: skip
    return as_hex(fold(found))


@pytest.fixture
def learned(model: Any) -> Any:
    model.learn({1: 1.0, 2: -0.0, 3: 3.0, 4: 1e-40})
    model.learn({2: 2.5, 5: 5.0, 3: None})
    return model


def test_one_digest_by_spark_by_kernel_and_by_hand_on_what_delta_rs_reads(learned: Any) -> None:
    import deltalake

    frame = state(learned.tables, learned.history, 2)
    rows = frame.toArrow().to_pylist()
    assert {row["key"]: row["vector"][1] for row in rows} == {1: 1.0, 2: 2.5, 4: np.float32(1e-40), 5: 5.0}
    raw = deltalake.DeltaTable(str(learned.root / "parameters")).to_pyarrow_table().to_pylist()
    newest = {row["key"]: row for row in sorted(raw, key=lambda row: row["snapshot_version"])}
    kept = [row for row in newest.values() if row["deleted"] is None]
    assert digest(frame) == digest_by_hand(rows) == digest_by_hand(kept) == digest_by_kernel(rows)
    assert digest(frame.where("false")) == "0" * 16
    assert digest_by_hand([{**rows[0], "count": 2}, *rows[1:]]) != digest_by_hand(rows)


def test_a_base_and_the_log_above_it_are_the_log_alone(learned: Any) -> None:
    tables, history = learned.tables, learned.history
    expected = digest(state(tables, history, 2))
    learned.learn({}, digest=expected)
    base = compact(learned.writer, 3)
    assert (base.kind, base.base_version, base.version) == ("base", 3, 4)
    learned.learn({1: None, 6: 6.0})
    for version, wanted in ((3, {1: 1.0, 2: 2.5, 4: 1e-40, 5: 5.0}), (5, {2: 2.5, 4: 1e-40, 5: 5.0, 6: 6.0})):
        frame = state(tables, history, version)
        loaded = load_arrow(tables, history, version)
        values = {key: pytest.approx(value) for key, value in wanted.items()}
        assert learned.values(frame.toArrow()) == values
        assert learned.values(loaded["user"]) == values
        assert digest_by_hand(loaded["user"].to_pylist()) == digest(frame)
    assert learned.values(load_arrow(tables, history, 1)["user"]).keys() == {1, 2, 3, 4}
    assert state(tables, history, 5, blocks=["user"], keys=[5, 6, 7]).count() == 2
    assert state(tables, history, 5, blocks=["item"]).count() == 0
    assert committed(tables, PARAMETERS.name, history.commits(5)).count() == 9


def test_other_engines_read_the_same_rows(learned: Any) -> None:
    import deltalake
    import duckdb
    import polars

    path = str(learned.root / "parameters")
    ours = sorted(learned.tables.read("parameters").toArrow().to_pylist(), key=repr)
    rust = deltalake.DeltaTable(path).to_pyarrow_dataset()
    duck = duckdb.connect().from_arrow(rust).to_arrow_table()
    bear = polars.scan_delta(path).collect().to_arrow()
    for theirs in (rust.to_table(), duck, bear):
        assert sorted(theirs.cast(learned.tables.arrow_schema("parameters")).to_pylist(), key=repr) == ours


def test_no_flipped_byte_gives_a_wrong_state_unnoticed(learned: Any) -> None:
    tables, history = learned.tables, learned.history
    rows = sorted(load_arrow(tables, history, 2)["user"].to_pylist(), key=repr)
    sound = digest_by_hand(rows)
    noticed = 0
    for file in sorted(Path(learned.root / "parameters").glob("*.parquet")):
        whole = file.read_bytes()
        for at in range(4, len(whole), max(len(whole) // 16, 1)):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
            try:
                found = load_arrow(tables, history, 2)["user"].to_pylist()
            except StateDamaged as error:
                assert error.facts["table"] == "parameters"
                noticed += 1
            else:
                noticed += digest_by_hand(found) != sound
                assert digest_by_hand(found) != sound or sorted(found, key=repr) == rows
        file.write_bytes(whole)
    assert noticed > 10


def test_a_lost_file_is_a_damaged_state_not_a_smaller_one(learned: Any) -> None:
    import deltalake

    # Gone from the log as well, as after a restored backup: no engine would say a word.
    deltalake.DeltaTable(str(learned.root / "parameters")).delete("key = 5")
    fresh = History.load(learned.tables)
    for read in (state, load_arrow):
        with pytest.raises(StateDamaged) as caught:
            read(learned.tables, fresh, 2)
        assert caught.value.facts["version"] == 2
    assert learned.values(load_arrow(learned.tables, fresh, 1)["user"]).keys() == {1, 2, 3, 4}


def test_no_rows_are_no_blocks(model: Any) -> None:
    assert load_arrow(model.tables, model.history, 0) == {}
    assert digest(state(model.tables, model.history, 0)) == "0" * 16
    assert isinstance(state(model.tables, model.history, 0).toArrow(), pa.Table)
