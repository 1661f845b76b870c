"""A log of a table that lost or spoilt a file, a source that is another one, tables of a newer Freshet: refused by name."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from sites import Kept, Site

from freshet.errors import CheckpointRefused, EngineRefused, FreshetError, StateDamaged
from freshet.pipelines.opening import open_reading
from freshet.store.files import all_rows
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory) -> Kept:
    """A model of three micro-batches whose logs have checkpoints."""
    site = Site(spark, tmp_path_factory.mktemp("learned"), ["store.log_checkpoint_interval=2"])
    site.write(240, 80)
    site.train()
    return Kept(site)


@pytest.fixture
def model(kept: Kept) -> Site:
    return kept.again()


def log_files(site: Site, table: str, pattern: str) -> list[Path]:
    return sorted((site.folder / "model" / table / "_delta_log").glob(pattern))


@pytest.mark.parametrize("table", ["snapshots", "events", "decisions"])
def test_a_log_that_lost_its_last_entry_is_refused_by_whoever_opens_the_model(model: Site, table: str) -> None:
    """Without it the table is a shorter one: a publication undone, events forgotten."""
    last = log_files(model, table, "*.json")[-1]
    content = last.read_bytes()
    last.unlink()
    for opened in (lambda: open_reading(model.spark, model.settings()), model.train):
        with pytest.raises(StateDamaged, match=f"{last.name} of the log of table {table} is gone") as refusal:
            opened()
        assert str(last) in str(refusal.value.remedy)
    last.write_bytes(content)
    assert model.train() == []


def test_a_log_that_lost_an_entry_in_the_middle_is_refused(model: Site) -> None:
    for path in log_files(model, "snapshots", "*.checkpoint.parquet"):  # they would stand for it
        path.unlink()
    (log_files(model, "snapshots", "_last_checkpoint")[0]).unlink()
    log_files(model, "snapshots", "*.json")[2].unlink()
    before = sorted(path.name for path in (model.folder / "model").rglob("*.parquet"))
    for opened in (lambda: open_reading(model.spark, model.settings()), model.train):
        with pytest.raises(StateDamaged, match="snapshots"):
            opened()
    assert sorted(path.name for path in (model.folder / "model").rglob("*.parquet")) == before


def test_a_cut_checkpoint_of_a_log_is_named_and_without_it_all_is_there(model: Site) -> None:
    rows = all_rows(Tables(model.spark, model.settings().store.root), "snapshots", ["version", "digest"]).num_rows
    cut = log_files(model, "snapshots", "*.checkpoint.parquet")[-1]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    for opened in (lambda: open_reading(model.spark, model.settings()), model.train):
        with pytest.raises(StateDamaged, match="snapshots") as refusal:
            opened()
        assert f"Move {cut.name} and _last_checkpoint out of {cut.parent}" in str(refusal.value.remedy)
    for path in (cut, cut.parent / "_last_checkpoint"):
        path.unlink()
    model.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]  # as a new process finds it
    found = open_reading(model.spark, model.settings())
    assert len(found.history.rows) == rows
    assert model.train() == []


def test_a_cut_checkpoint_whose_entries_are_gone_must_be_restored(model: Site) -> None:
    cut = log_files(model, "snapshots", "*.checkpoint.parquet")[-1]
    cut.write_bytes(b"PAR1")
    log_files(model, "snapshots", "*.json")[0].unlink()
    for earlier in log_files(model, "snapshots", "*.checkpoint.parquet")[:-1]:
        earlier.unlink()
    with pytest.raises(StateDamaged) as refusal:
        open_reading(model.spark, model.settings())
    assert f"Restore {cut.name}" in str(refusal.value.remedy)


def test_a_last_checkpoint_of_garbage_is_no_matter(model: Site) -> None:
    (log_files(model, "snapshots", "_last_checkpoint")[0]).write_text("garbage", encoding="utf-8")
    model.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]  # as a new process finds it
    digest = model.digest()
    assert model.train() == []
    assert model.digest() == digest


def test_another_folder_on_the_same_checkpoint_is_refused_unless_it_is_meant(model: Site) -> None:
    other = model.folder / "elsewhere"
    shutil.copytree(model.source, other)
    before = len(model.snapshots())
    with pytest.raises(CheckpointRefused, match="and the model learned from") as refusal:
        model.train(f"source.path={other}")
    assert refusal.value.facts["reason"] == "source" and "--adopt-checkpoint" in str(refusal.value.remedy)
    assert len(model.snapshots()) == before
    assert model.train(f"source.path=file:{model.source}/") == []  # the same one, spelled another way
    with pytest.raises(CheckpointRefused, match="and the model learned from"):
        model.train(f"source.path={other}", adopt_checkpoint=True)  # Spark cannot go on with it
    moved = (f"source.path={other}", f"store.checkpoint={model.folder / 'another'}")
    reports = model.train(*moved, adopt_checkpoint=True)
    assert sum(report.duplicate for report in reports) == 240 and sum(report.accepted for report in reports) == 0
    assert model.train(*moved) == []


def test_tables_of_a_newer_freshet_are_not_written_to(model: Site) -> None:
    path = Tables(model.spark, model.settings().store.root).path("snapshots")
    model.spark.sql(f"alter table delta.`{path}` add columns (mood string)")
    before = len(log_files(model, "snapshots", "*.json"))
    with pytest.raises(EngineRefused, match=r"columns that Freshet .* does not know \(mood\)"):
        model.train()
    assert len(log_files(model, "snapshots", "*.json")) == before


def test_a_compressed_file_that_is_cut_or_is_none_ends_the_stream_by_name(site: Site) -> None:
    site.write(400, 200)
    first, second = sorted(site.source.glob("*.json"))
    whole = gzip.compress(second.read_bytes())
    first.with_suffix(".json.gz").write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    second.unlink()
    assert [report.accepted for report in site.train("source.glob='*.json.gz'")] == [200]
    digest = site.digest()
    bad = second.with_suffix(".json.gz")
    for content in (whole[: len(whole) // 2], b"no gzip at all\n"):
        bad.write_bytes(content)
        with pytest.raises(FreshetError) as failed:
            site.train("source.glob='*.json.gz'")
        assert bad.name in str(failed.value)
        assert site.digest() == digest
