"""A small model on files of its own, learned by the real pipeline on the shared session."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from freshet.demo.dirt import Dirt
from freshet.demo.truth import World
from freshet.demo.writer import Generator, Manifest
from freshet.failpoint import Injected
from freshet.settings import Settings, load

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from freshet.report import BatchReport

WORLD = World(users=120, items=60, seed=11, events=3000)


@dataclass
class Site:
    """Source files, tables and checkpoint of one model under one folder."""

    spark: SparkSession
    folder: Path
    sets: list[str] = field(default_factory=list)

    @property
    def source(self) -> Path:
        return self.folder / "events"

    def given(self) -> list[str]:
        """The settings of this site, as `--set` takes them."""
        mine = [
            f"store.root={self.folder / 'model'}", f"source.path={self.source}", "source.event_types=[click]",
            "source.context=[device]", "model.factors=4", "model.round_events=400", "metrics.sample=32",
        ]
        return [*mine, *self.sets]

    def settings(self, *sets: str) -> Settings:
        return load([], {}, [*self.given(), *sets])[0]

    def write(self, events: int = 1200, per_file: int = 400, dirt: Dirt | None = None, world: World = WORLD, **more: Any) -> Manifest:
        return Generator(world, self.source, events, per_file, None, dirt or Dirt(), **more).run()

    def train(self, *sets: str, **options: Any) -> list[BatchReport]:
        """Learn what is there; the reports of the micro-batches."""
        from freshet.pipelines.online import train

        reports: list[BatchReport] = []
        assert train(self.spark, self.settings(*sets), available_now=True, listener=reports.append, **options) == 0
        return reports

    def tell_of_items(self, category: str | None, first: int = 0) -> None:
        """Say of twenty items, in the table `items`, which category they are of (None: that they are there)."""
        rows = [(f"i{number}", category) for number in range(first, first + 20)]
        frame = self.spark.createDataFrame(rows, "item_id string, category string")
        frame = frame.selectExpr("item_id", "cast(null as string) as title", "category", "cast(null as map<string,string>) as attributes")
        frame.write.format("delta").mode("append").save(f"{self.folder}/model/items")

    @contextmanager
    def learning(self, *sets: str) -> Iterator[threading.Thread]:
        """A learner that runs in a thread meanwhile, from when it waits for events."""
        from freshet.pipelines.online import WAITING, train

        enough, said = threading.Event(), list[str]()
        running = threading.Thread(
            target=lambda: train(self.spark, self.settings(*sets), until=lambda _: enough.is_set(), announce=said.append))
        running.start()
        try:
            while WAITING not in said:
                assert running.is_alive()
                time.sleep(0.2)
            yield running
            assert running.is_alive()
        finally:
            enough.set()
            running.join(60)
        assert not running.is_alive()

    def train_until(self, monkeypatch: pytest.MonkeyPatch, failpoint: str, **options: Any) -> None:
        """Learn until an armed failpoint ends it with an exception; it is armed no more then."""
        monkeypatch.setattr("freshet.failpoint._passed", {})
        monkeypatch.setenv("FRESHET_FAILPOINTS", failpoint)
        with pytest.raises(Injected, match=failpoint.partition(":")[0]):
            self.train(**options)
        monkeypatch.delenv("FRESHET_FAILPOINTS")

    def snapshots(self) -> list[Any]:
        from freshet.store.snapshots import History
        from freshet.store.tables import Tables

        return History.load(Tables(self.spark, self.settings().store.root)).live()

    def digest(self) -> str:
        return str(self.snapshots()[-1].digest)

    def sql(self, query: str, as_of: int | None = None) -> list[dict[str, Any]]:
        from freshet.pipelines.query import sql

        return sql(self.spark, self.settings(), query, as_of).to_pylist()


class Kept:
    """A site as it is now, kept: each test of a file that begins with the same model gets it whole and may do with it what it likes."""

    def __init__(self, site: Site) -> None:
        self._site, self._copy = site, tempfile.mkdtemp(prefix=f"{site.folder.name}-kept-", dir=site.folder.parent)
        shutil.copytree(site.folder, self._copy, dirs_exist_ok=True)

    def again(self) -> Site:
        """The site as it was. In the same place and with the same times of its files: a checkpoint knows its source by both."""
        site = self._site
        shutil.rmtree(site.folder)
        shutil.copytree(self._copy, site.folder)
        site.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]  # as a new process finds it
        return replace(site, sets=list(site.sets))
