"""What analysts' engines read: the same rows and the same digest without Spark."""

from __future__ import annotations

import logging
import math
import re
import struct
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xxhash
from deltalake import DeltaTable
from sites import Site

from freshet import failpoint
from freshet.errors import FreshetError
from freshet.head import companions, digests
from freshet.kernels.digest import as_hex, fold
from freshet.models import make_model
from freshet.pipelines.assembly import half_lives
from freshet.pipelines.rows import from_arrow
from freshet.schema import TABLES
from freshet.store.parameters import state
from freshet.store.snapshots import History
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark

DOC = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
ROW = ["block", "key", "vector", "slots", "links", "count", "last_event_at"]
MASK = 2**64 - 1


@pytest.fixture(scope="module")
def site(spark, tmp_path_factory) -> Site:
    """A model of four micro-batches; one attempt died after its rows were written."""
    one = Site(spark, tmp_path_factory.mktemp("readers"))
    one.write(240, 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoint, "_passed", {})
        patch.setenv("FRESHET_FAILPOINTS", "before_snapshot_row:raise:4")
        with pytest.raises(failpoint.Injected):
            one.train()
    one.train()
    return one


def delta(site: Site, name: str) -> DeltaTable:
    return DeltaTable(str(site.folder / "model" / name))


def as_of_query() -> str:
    """The query of docs/tables.md, with DuckDB's way of writing a parameter."""
    [query] = [text for text in re.findall(r"```sql\n(.*?)```", DOC, re.S) if "qualify" in text and ":v" in text]
    return query.replace(":v", "$v")


def in_duckdb(site: Site, query: str, **parameters: Any) -> pa.Table:
    """The answer of DuckDB over the tables' files, opened by delta-rs."""
    with duckdb.connect() as engine:
        for name in ("parameters", "snapshots", "events", "parameters_base"):
            engine.register(name, delta(site, name).to_pyarrow_dataset())
        return engine.sql(query, params=parameters or None).to_arrow_table()


def plain(table: pa.Table) -> list[tuple[Any, ...]]:
    """Rows as Python values, by block and key; floats by their bits, times as microseconds."""
    rows = []
    for row in table.select(ROW).to_pylist():
        at = row["last_event_at"]
        floats = [None if row[name] is None else struct.pack(f"<{len(row[name])}f", *row[name]) for name in ("vector", "slots")]
        rows.append((row["block"], row["key"], *floats, row["links"], row["count"], at and at.timestamp()))
    return sorted(rows, key=lambda row: row[:2])


def learned(site: Site) -> list[Any]:
    return [s for s in site.snapshots() if s.kind == "learn"]


def test_the_query_of_the_documentation_gives_the_state_of_every_version(site) -> None:
    tables = Tables(site.spark, site.settings().store.root)
    history = History.load(tables)
    sizes = []
    for snapshot in learned(site):
        found = plain(in_duckdb(site, as_of_query(), v=snapshot.version))
        assert found == plain(state(tables, history, snapshot.version).toArrow())
        sizes.append(len(found))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def xxhash64(row: dict[str, Any]) -> int:
    """Spark's xxhash64 of a row, by the words of docs/tables.md and the xxhash package alone."""
    seed = xxhash.xxh64_intdigest(row["block"].encode(), seed=42)
    cells = [("<q", row["key"])]
    for name, form in (("vector", "<f"), ("slots", "<f"), ("links", "<q")):
        cells += [(form, 0.0 if value == 0 else value) if form == "<f" else (form, value) for value in row[name] or ()]
    cells.append(("<q", row["count"]))
    if row["last_event_at"] is not None:
        cells.append(("<q", round(row["last_event_at"].timestamp() * 1_000_000)))
    for form, value in cells:
        seed = xxhash.xxh64_intdigest(struct.pack(form, value), seed=seed)
    return seed


def by_package(table: pa.Table) -> str:
    total = 0
    for row in table.to_pylist():
        total ^= xxhash64(row)
    return f"{total & MASK:016x}"


def by_kernels(site: Site, table: pa.Table) -> str:
    blocks = {block.name: block for block in (*make_model(site.settings().model).blocks(), *companions(len(half_lives(site.settings()))))}
    total = 0
    for name, block in blocks.items():
        mine = table.filter(pa.compute.equal(table.column("block"), name)).combine_chunks()
        for rows in from_arrow(block, mine):
            total ^= fold(digests(block, rows))
    return as_hex(total)


def test_the_digest_can_be_recomputed_without_spark(site) -> None:
    for snapshot in learned(site)[1:3]:
        rows = in_duckdb(site, as_of_query(), v=snapshot.version)
        assert by_package(rows) == by_kernels(site, rows) == snapshot.digest
        assert by_package(rows.slice(1)) != snapshot.digest


def test_rows_of_a_dead_attempt_are_there_and_nobodys(site) -> None:
    newest = learned(site)[-1]
    live = {s.commit_id for s in site.snapshots()}
    written = delta(site, "parameters").to_pyarrow_table()
    orphans = set(written.column("commit_id").to_pylist()) - live
    assert len(orphans) == 1
    [dead] = orphans
    assert in_duckdb(site, "select count(*) as n from events where commit_id = $dead", dead=dead).column("n")[0].as_py() == 60
    assert dead not in set(in_duckdb(site, as_of_query(), v=newest.version).column("commit_id").to_pylist())
    [events] = site.sql("select count(*) as n, count(distinct event_id) as ids from events")
    assert events["n"] == events["ids"] == 240
    # The subject that fails: who forgets the join with `snapshots` may read rows that nobody committed.
    doubled = in_duckdb(site, "select count(*) as n from events").column("n")[0].as_py()
    assert doubled == 300


def test_polars_reads_the_same_state(site) -> None:
    newest = learned(site)[-1]
    rows = pl.scan_delta(str(site.folder / "model" / "parameters"))
    snapshots = pl.scan_delta(str(site.folder / "model" / "snapshots"))
    commits = snapshots.filter(pl.col("version") <= newest.version).select("commit_id")
    kept = rows.join(commits, on="commit_id", how="semi").sort("snapshot_version").unique(["block", "key"], keep="last")
    assert plain(kept.collect().to_arrow()) == plain(in_duckdb(site, as_of_query(), v=newest.version))


def test_every_table_is_plain_and_opens(site) -> None:
    for name, table in TABLES.items():
        found = delta(site, name)
        protocol = found.protocol()
        assert (protocol.min_reader_version, protocol.min_writer_version <= 4) == (1, True), name
        assert not protocol.reader_features and not protocol.writer_features, name
        assert [field.name for field in found.schema().fields] == table.names
        comments = {field.name: field.metadata.get("comment") for field in found.schema().fields}
        assert comments == {column.name: column.comment for column in table.columns}
        assert found.to_pyarrow_dataset().count_rows() == pl.scan_delta(str(site.folder / "model" / name)).collect().height
    assert delta(site, "snapshots").to_pyarrow_dataset().count_rows() == len(site.snapshots())


def test_a_query_that_makes_no_sense_is_one_sentence_and_what_there_is(site) -> None:
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logger = logging.getLogger("SQLQueryContextLogger")
    logger.addHandler(handler)
    try:
        for query, why in (("select nocol from snapshots", "UNRESOLVED_COLUMN"), ("selct * form x", "PARSE_SYNTAX_ERROR")):
            with pytest.raises(FreshetError, match=why) as refusal:
                site.sql(query)
            assert "\n" not in refusal.value.what and "snapshots" in str(refusal.value.remedy)
    finally:
        logger.removeHandler(handler)
    assert said == []  # pyspark would log each with Java's stack


def test_times_and_numbers_read_elsewhere_mean_the_same(site) -> None:
    there = in_duckdb(site, "select epoch_us(min(event_at)) as a, epoch_us(max(event_at)) as b, sum(value) as v from events")
    [here] = site.sql("select unix_micros(min(event_at)) as a, unix_micros(max(event_at)) as b from events")
    assert (there.column("a")[0].as_py(), there.column("b")[0].as_py()) == (here["a"], here["b"])
    assert math.isfinite(there.column("v")[0].as_py())
    vectors = in_duckdb(site, as_of_query(), v=learned(site)[-1].version).column("vector").drop_null()
    assert np.isfinite(pa.compute.list_flatten(vectors).to_numpy()).all()
