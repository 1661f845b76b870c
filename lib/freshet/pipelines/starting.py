"""Starting as the one learner of a model: lock, checks, head, epoch."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from freshet.engine import checkpoint
from freshet.errors import CheckpointRefused, SettingsError
from freshet.head import Head
from freshet.learner import Learner
from freshet.models import make_model
from freshet.pipelines.assembly import new_head, new_learner
from freshet.pipelines.matching import check_known, check_source
from freshet.pipelines.opening import Reading, load_head, load_memory
from freshet.pipelines.passing import check_ended
from freshet.pipelines.placing import Placement
from freshet.schema import SNAPSHOTS
from freshet.settings import OWN, Settings, over
from freshet.store.commit import Attempt, Beside, Writer
from freshet.store.lock import model_lock
from freshet.store.log_check import check_logs
from freshet.store.snapshots import PROMOTE, History, Snapshot
from freshet.store.tables import Tables

# What a model is made of: changed, the same rows would mean something else.
STRUCTURE = (
    ("model", "name"), ("model", "factors"), ("model", "shards"), ("model", "seed"), ("model", "loss"),
    ("model", "optimizer", "name"), ("model", "optimizer", "accumulator"), ("model", "neighbours", "links"),
    ("model", "query", "loss"), ("model", "query", "tied"), ("model", "query", "user_row"), ("model", "residual"),
    ("model", "query", "also"), ("model", "query", "groups"),
    ("model", "features", "context"), ("model", "features", "items"), ("model", "features", "most"), ("model", "features", "bins"),
    ("model", "features", "vectors"), ("popularity", "also"), ("popularity", "segment"), ("popularity", "segment_items"),
    ("history", "items"), ("window", "events"), ("labels", "wait"), ("labels", "impressions"), ("labels", "answers"),
)


@dataclass
class Opened:
    """A model that this process, and only this one, may write; `given` are the settings before a strategy changes any."""

    spark: SparkSession
    settings: Settings
    given: Settings
    tables: Tables
    history: History
    writer: Writer
    learner: Learner
    head: Head
    place: Placement
    run: str
    adopted: bool


@dataclass
class OnBranch:
    """The writer of a model, on a branch beside its line."""

    writer: Writer
    line: str
    told: Mapping[str, Any] = field(default_factory=dict)  # columns of each of its snapshot rows

    @property
    def history(self) -> History:
        return self.writer.history

    def begin(self) -> Attempt:
        return self.writer.begin(self.line)

    def commit(
        self, attempt: Attempt, parts: Mapping[str, pa.Table], fields: Mapping[str, Any], beside: Sequence[Beside] = ()
    ) -> Snapshot:
        return self.writer.commit(attempt, parts, {**self.told, **fields}, beside)


def new_run() -> str:
    """Id of what is learned in one process with one set of settings."""
    return secrets.token_hex(6)


@contextmanager
def open_learner(
    spark: SparkSession, settings: Settings, adopt_checkpoint: bool, say: Callable[[str], None], from_here: bool = False,
    streams: bool = False,
) -> Iterator[Opened]:
    """Take the lock, check tables and checkpoint against each other, load the head, begin a new epoch.

    `adopt_checkpoint` takes any checkpoint; so does `from_here`, for a stream that passes by what the source holds. `streams`: a
    stream of the settings' source follows, and must be the one the checkpoint knows.
    """
    store = settings.store
    run = new_run()
    check_challengers(settings)
    with ExitStack() as stack:
        stack.enter_context(model_lock(store.root, store.checkpoint_path))
        tables = Tables(spark, store.root, store.log_checkpoint_interval, store.log_retention)
        say("opening the tables" if tables.exists(SNAPSHOTS.name) else "creating the tables")
        check_logs(tables)
        check_known(tables)
        tables.create()
        history = History.load(tables)
        newest = history.newest()
        check_structure(newest, settings, tables)
        if not from_here:
            check_ended(history, store.checkpoint_path)
        if not (adopt_checkpoint or from_here):
            check_checkpoint(history, store.checkpoint_path)
        if streams:
            check_source(history, tables, settings)
        learner = new_learner(settings)
        head = new_head(learner.model, settings)
        if newest is not None:
            say(f"loading version {newest.version}")
            reading = Reading(tables, history, newest.version, newest)
            head = load_head(reading, settings, learner)
            load_memory(head, reading, settings)
        writer = Writer.start(tables, history, run=run, settings=settings.to_json(), head_digest=head.hex_digest)
        if not (adopt_checkpoint or from_here):  # once more, in our epoch: what another had planned may have been committed since
            check_checkpoint(history, store.checkpoint_path)
        place = Placement(spark, learner.model, settings)
        opened = Opened(
            spark, settings, settings, tables, history, writer, learner, head, place, run, adopt_checkpoint or from_here)
        stack.callback(lambda: opened.place.close())
        told_otherwise(opened, say)
        yield opened


def turn(opened: Opened, settings: Settings, run: str | None = None) -> None:
    """Learn with other settings from here on, under that run (default: a new one); the head stays."""
    opened.place.close()
    opened.settings, opened.learner, opened.run = settings, new_learner(settings), run or new_run()
    opened.place = Placement(opened.spark, opened.learner.model, settings)
    opened.writer.begin_run(opened.run, settings.to_json())


@contextmanager
def as_writer(tables: Tables, settings: Settings, reason: str) -> Iterator[Writer]:
    """Hold a model without its head, for what only writes rows about it. Raises AlreadyRunning while a learner holds it."""
    with model_lock(settings.store.root, settings.store.checkpoint_path):
        check_logs(tables)
        check_known(tables)
        tables.create()  # those that have come since there is this model
        history, run = History.load(tables), new_run()
        newest = history.newest()
        # Who only writes about a model says nothing of how it learns: the settings it was learned with stay the recorded ones.
        recorded = settings.to_json() if newest is None else History.settings_of(tables, newest.version)
        yield Writer.start(tables, history, run=run, settings=recorded, reason=reason)


def check_challengers(settings: Settings) -> None:
    """Refuse a challenger that is judged by another metric than the model: nothing could be held against anything."""
    mine = new_learner(settings).judged_by
    for name, texts in settings.challengers.learners.items():
        judged_by = new_learner(over(settings, texts)).judged_by
        if judged_by != mine:
            raise SettingsError(
                f"Challenger {name} is judged by {judged_by}, the model by {mine}: they cannot be compared.",
                remedy=f"Change challengers.learners.{name}.", problems=[(f"challengers.learners.{name}", texts, None)],
            )


def told_otherwise(opened: Opened, say: Callable[[str], None]) -> None:
    """Say so where a promoted challenger learned with settings that the given ones do not repeat."""
    newest = opened.history.newest(opened.writer.line)
    promoted = [row for row in opened.history.commits(newest.version) if row.kind == PROMOTE] if newest else []
    if promoted:
        recorded = Settings.from_json(History.settings_of(opened.tables, promoted[-1].version))
        if any(getattr(recorded, name) != getattr(opened.settings, name) for name in OWN):
            say(f"version {promoted[-1].version} was promoted with other settings than these ({promoted[-1].reason})")


def check_structure(newest: Snapshot | None, settings: Settings, tables: Tables) -> None:
    """Refuse settings that would make the model's rows mean something else, to whoever writes them or makes lists of them."""
    if newest is None:
        return
    changed = changed_structure(Settings.from_json(History.settings_of(tables, newest.version)), settings)
    if changed:
        listed = "; ".join(f"{name} was {old!r} and is {new!r}" for name, old, new in changed)
        raise SettingsError(
            f"The model under {settings.store.root} was made with other settings: {listed}.",
            remedy="Set them back, or start another model in another store.root.", problems=changed,
        )


def changed_structure(before: Settings, now: Settings) -> list[tuple[str, object, object]]:
    """(name, before, now) of the settings that shape rows and differ."""
    return [(".".join(path), _at(before, path), _at(now, path)) for path in STRUCTURE if _at(before, path) != _at(now, path)]


def _at(settings: Settings, path: tuple[str, ...]) -> object:
    """The setting as it shapes the rows: the model's own where none was given, None where its rows do not depend on it."""
    model = make_model(settings.model)
    if path == ("model", "factors"):
        return model.factors
    if path == ("model", "loss"):
        return model.loss_metric
    if path[:2] == ("model", "query") and not (model.recent and model.factors):
        return None
    if path == ("model", "neighbours", "links") and not any(block.links for block in model.blocks()):
        return None
    if path[2:] in (("also",), ("groups",)) and len(model.decays) < 2:
        return None
    if path == ("model", "features", "most") and not settings.model.features.items:
        return None
    if path[0] == "labels" and settings.labels.wait is None:
        return None
    if path == ("popularity", "segment_items") and settings.popularity.segment is None:
        return None
    if path == ("popularity", "also") and len(model.mixes) == 1:
        return None
    found: object = settings
    for name in path:
        found = getattr(found, name)
    return found


def check_checkpoint(history: History, path: str) -> None:
    """Refuse a checkpoint that does not belong to the tables: lost, foreign, older or newer than they are."""
    last = history.last_streamed()
    state = checkpoint.inspect(path)
    remedy = (
        "Restore the right checkpoint; or go on with this one by --adopt-checkpoint: what it reads again and is inside "
        "clean.dedup_window is counted as duplicate, what is older as late; or learn only what comes from now on, by "
        "--from-here --reason ..."
    )
    if last is None:
        if state.exists and state.committed_batch is not None:
            raise CheckpointRefused(
                f"The checkpoint {path} is at batch {state.committed_batch}, and the tables have never learned from a stream.",
                remedy=remedy, reason="newer", path=path,
            )
        return
    where = f"the tables are at batch {last.batch_id} of checkpoint {last.checkpoint_id}"
    if not state.exists or state.id is None:
        raise CheckpointRefused(f"The checkpoint {path} is empty, and {where}.", remedy=remedy, reason="lost", path=path)
    if state.id != last.checkpoint_id:
        raise CheckpointRefused(
            f"The checkpoint {path} is {state.id}, and {where}.", remedy=remedy, reason="foreign", path=path)
    planned, committed, batch = (-1 if n is None else n for n in (state.planned_batch, state.committed_batch, last.batch_id))
    for reason, number, wrong in (("older", planned, planned < batch), ("newer", committed, committed > batch)):
        if wrong:
            what = f"The checkpoint {path} is at batch {number}, and {where}."
            raise CheckpointRefused(what, remedy=remedy, reason=reason, path=path)
