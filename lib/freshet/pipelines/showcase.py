"""The demo: a generator writes event files while the stream learns from them, and at the end the tables speak."""

from __future__ import annotations

import json
import shlex
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import SparkSession

from freshet.demo.dirt import Dirt
from freshet.demo.generator import items_table
from freshet.demo.records import TYPES
from freshet.demo.truth import CLICKS, RATINGS, World
from freshet.demo.writer import Generator, Manifest
from freshet.models import make_model
from freshet.pipelines.online import WAITING, train
from freshet.pipelines.opening import open_reading
from freshet.pipelines.query import sql
from freshet.pipelines.recommend import recommend_users
from freshet.pipelines.through_kafka import through_kafka
from freshet.pipelines.totals import totals
from freshet.program import program, quoted
from freshet.report import BatchReport
from freshet.schema import ITEMS
from freshet.settings import Settings
from freshet.store.tables import Tables

QUICK_EVENTS = 30_000
PER_FILE = 1000
SHOWN_USERS = 5

# Of blocks that every model has: not each has rows of users.
QUERY_USERS = (
    "select ids.natural_id as user_id from parameters p join ids on ids.block = 'user' and ids.key = p.key"
    f" where p.block = 'history' order by p.count desc, user_id limit {SHOWN_USERS}"
)
QUERIES = (
    "select version, accepted_count, quarantined_count, duplicate_count, late_count, digest from snapshots"
    " where kind = 'learn' order by version desc limit 5",
    "select i.title, e.count as events, round(p.vector[0], 3) as bias, p.snapshot_version, e.last_event_at from parameters p"
    " join parameters e on e.block = 'popularity' and e.key = p.key join ids on ids.block = 'item' and ids.key = p.key"
    " join items i on i.item_id = ids.natural_id where p.block = 'item' order by e.count desc, title limit 5",
    "select reason, count(*) as events, min(snapshot_version) as first_version from quarantine"
    " group by reason order by events desc",
)


class Watcher(Protocol):
    """Who is told what happens: a table of progress."""

    def __call__(self, report: BatchReport) -> None: ...

    def say(self, text: str) -> None: ...

    def show(self, rows: pa.Table) -> None: ...


def demo(
    spark: SparkSession, settings: Settings, *, quick: bool = False, listener: Watcher, kafka: Path | None = None
) -> int:
    """Generate, learn, and show what was learned; 0 when every generated event became what it had to become, else 1.

    Everything lies under demo.out; run again, the demo goes on where it was. `kafka`: a folder with the jars of a broker, that the
    events go through.
    """
    chosen = demo_settings(settings, quick)
    world = world_of(chosen)
    Path(chosen.source.path or "").mkdir(parents=True, exist_ok=True)
    tables = Tables(spark, chosen.store.root)
    tables.create()
    if tables.read(ITEMS.name).isEmpty():
        listener.say(f"writing the titles of {chosen.demo.items:,} items")
        tables.append(ITEMS.name, items_table(world))
    generator = _generator(chosen, world)
    follower = Follower(spark, chosen, generator, listener)
    with ExitStack() as stack:
        stack.callback(generator.stop)
        if kafka is not None:
            listener.say("starting a broker of Kafka")
        read = chosen if kafka is None else stack.enter_context(through_kafka(spark, chosen, kafka))
        train(spark, read, listener=follower, announce=follower.announce, until=follower.caught_up)
    if not follower.done:
        return 0  # stopped by a signal: the next run goes on from here
    if not follower.reported:
        listener.say("nothing new: all of it was learned before")
    as_planted = check(spark, chosen, generator.manifest, listener)
    show(spark, chosen, listener)
    follower.click.tell(spark, chosen, listener)
    tell_next(spark, chosen, listener)
    return 0 if as_planted else 1


def demo_settings(settings: Settings, quick: bool) -> Settings:
    """The settings with source, tables and checkpoint under demo.out."""
    out = Path(settings.demo.out)
    kind = _kind(settings)
    demo = settings.demo
    if quick:
        demo = demo.model_copy(update={"events": min(QUICK_EVENTS, demo.events)})
    source = settings.source.model_copy(update={
        "path": str(out / "events"), "format": "kafka" if settings.source.format == "kafka" else "json",
        "event_types": (TYPES[kind],), "context": ("device",), "max_files_per_trigger": 4,
    })
    store = settings.store.model_copy(update={"root": str(out / "model"), "checkpoint": None})
    return settings.model_copy(update={"demo": demo, "source": source, "store": store})


def world_of(settings: Settings) -> World:
    """The planted world of the demo."""
    demo = settings.demo
    return World(
        users=demo.users, items=demo.items, seed=demo.seed, events=demo.events, kind=_kind(settings), drift_at=demo.drift_at,
    )


def _kind(settings: Settings) -> str:
    return RATINGS if make_model(settings.model).loss_metric == "rmse" else CLICKS


def _generator(settings: Settings, world: World) -> Generator:
    demo = settings.demo
    source = settings.source.path or ""
    late_by = 2 * settings.clean.dedup_window + world.events * world.gap_us / 1e6
    dirt = replace(Dirt.spread(demo.dirt), late_by_seconds=late_by)
    return Generator(world, source, demo.events, PER_FILE, demo.events_per_second, dirt, resume=True)


class Follower:
    """Starts the generator when the stream is ready, passes reports on, and ends the stream after one last click."""

    def __init__(self, spark: SparkSession, settings: Settings, generator: Generator, listener: Watcher) -> None:
        self._spark, self._settings, self._generator, self._listener = spark, settings, generator, listener
        self._drift = int(settings.demo.drift_at * settings.demo.events)
        self.click = Click(settings)
        self.done = self.reported = False

    def announce(self, text: str) -> None:
        """Pass on what is being waited for; events begin to flow when the stream waits for them."""
        self._listener.say(text)
        if text == WAITING:
            self._listener.say(writing(self._generator.left(), self._settings))
            self._generator.start()

    def __call__(self, report: BatchReport) -> None:
        self.reported = True
        learned = report.so_far["accepted"]  # by earlier runs too: tastes change at a point of the stream, not of this run
        if learned - report.accepted < self._drift <= learned and not report.note:
            report = replace(report, note="tastes change here (planted)")
        self._listener(report)

    def caught_up(self, read: int) -> bool:
        """True when the tables hold all that was generated and the click after it."""
        if not self._generator.join(0) or read < self._generator.manifest.lines:
            return False
        if not self.click.made:
            self.click.make(self._spark, self._settings)
            return False
        if read <= self._generator.manifest.lines:
            return False
        self.click.landed()
        self.done = True
        return True


def writing(left: int, settings: Settings) -> str:
    """What the generator is about to do when `left` events are not written yet."""
    demo, folder = settings.demo, settings.source.path
    if not left:
        return f"all {demo.events:,} events are in {folder} already"
    which = f"{left:,} events" if left == demo.events else f"the {left:,} events of {demo.events:,} that are missing"
    return f"writing {which} to {folder}, {demo.events_per_second:,} a second"


class Click:
    """One click on the first item of a user's list, and how long it took to change that list."""

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.source.path or "") / "one-click.json"
        self.made = self._path.exists()
        self._made_at: float | None = None
        self._seconds: float | None = None
        self._user = ""
        self._before: list[dict[str, Any]] = []

    def make(self, spark: SparkSession, settings: Settings) -> None:
        """Write the event file: the most active user clicks what is first on the list."""
        self._user = str(sql(spark, settings, QUERY_USERS).column("user_id")[0])
        self._before = recommend_users(spark, settings, [self._user], n=SHOWN_USERS)[self._user]
        [last] = sql(spark, settings, "select max(event_at) as at from events").to_pylist()
        event = {
            "event_id": "one-click", "user_id": self._user, "item_id": self._before[0]["item_id"], "value": 5,
            "event_type": settings.source.event_types[0], "event_at": last["at"].isoformat(),
        }
        hidden = self._path.with_name(f"_{self._path.name}")
        hidden.write_text(json.dumps(event) + "\n", encoding="utf-8")
        hidden.replace(self._path)
        self.made, self._made_at = True, time.monotonic()

    def landed(self) -> None:
        """The snapshot with the click is committed."""
        if self._made_at is not None:
            self._seconds = time.monotonic() - self._made_at

    def tell(self, spark: SparkSession, settings: Settings, listener: Watcher) -> None:
        """The user's list before and after the click."""
        if self._seconds is None:
            return
        after = recommend_users(spark, settings, [self._user], n=SHOWN_USERS)[self._user]
        listener.say(
            f"\none click: {self._user} took {self._before[0]['title']}; {self._seconds:.1f} s after the file landed a snapshot "
            f"had it\n  list before: {titles(self._before)}\n  list after:  {titles(after)}")


def check(spark: SparkSession, settings: Settings, written: Manifest, listener: Watcher) -> bool:
    """Compare what became of the events with what the generator planted."""
    counted = totals(open_reading(spark, settings).commits)
    wanted = {"read": written.lines + 1, "accepted": written.accepted + 1}  # and the one click
    wanted |= {name: getattr(written, name) for name in ("quarantined", "duplicate", "late")}
    listener.say("totals: " + ", ".join(f"{counted[name]:,} {name}" for name in wanted))
    wrong = [f"{name}: {counted[name]:,} where {wanted[name]:,} were planted" for name in wanted if counted[name] != wanted[name]]
    listener.say("every event became what it had to become" if not wrong else "NOT as planted: " + "; ".join(wrong))
    return not wrong


def show(spark: SparkSession, settings: Settings, listener: Watcher) -> None:
    """Five users' lists, where the tables are, and three queries to paste with their answers."""
    users = sql(spark, settings, QUERY_USERS).column("user_id").to_pylist()
    for user, items in recommend_users(spark, settings, users, n=5).items():
        listener.say(f"{user}: {titles(items)}")
    listener.say(f"tables: {Path(settings.store.root).resolve()}")
    for query in QUERIES:
        listener.say(f"\n{program()} sql --set store.root={shlex.quote(settings.store.root)} {quoted(query)}")
        listener.show(sql(spark, settings, query))


def tell_next(spark: SparkSession, settings: Settings, listener: Watcher) -> None:
    """Commands that show more of the model."""
    [one] = sql(spark, settings, "select user_id, item_id from events order by event_at desc, user_id limit 1").to_pylist()
    asked = ("status", f"recommend --user {one['user_id']}", f"explain --user {one['user_id']} --item {one['item_id']}", "doctor")
    where = f"--set store.root={shlex.quote(settings.store.root)}"
    listener.say("\nmore to ask:\n" + "\n".join(f"  {program()} {words} {where}" for words in asked))


def titles(items: list[dict[str, Any]]) -> str:
    """A list in one line."""
    return ", ".join(f"{item['title']} ({item['score']:.2f})" for item in items)
