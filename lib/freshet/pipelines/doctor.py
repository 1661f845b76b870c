"""`freshet doctor`: what a learner needs, asked one by one; each answer says what was found and, where it is wrong, what to do.

Nothing of a model is changed. The round trip writes a table of its own under store.root and removes it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyspark
from pyspark.sql import SparkSession

from freshet.engine.brokers import Brokers, OfTopics
from freshet.engine.jars import DELTA_JAR, check_fetched, delta
from freshet.engine.places import KAFKA
from freshet.engine.session import numba_cache
from freshet.errors import CheckpointRefused, FreshetError
from freshet.java import find_java
from freshet.pipelines.assembly import new_learner
from freshet.pipelines.opening import Reading, load_head, open_reading
from freshet.pipelines.starting import check_checkpoint
from freshet.roots import local_folder
from freshet.schema import REQUESTS, SNAPSHOTS
from freshet.settings import Settings
from freshet.settings.secrets import redacted
from freshet.store.decisions import open_requests
from freshet.store.files import all_rows
from freshet.store.lock import holder_of
from freshet.store.maintain import attempts
from freshet.store.retention import closed
from freshet.store.snapshots import BASE, MAINTAIN, PUBLISH, REFUSED, SKIP, START, History
from freshet.store.tables import Tables

OK, WARN, FAIL = "ok", "warn", "FAIL"
FREE_BYTES = 2 << 30
CLOCK_SECONDS = 60.0
_SAME_STATE = (START, MAINTAIN, BASE, SKIP, PUBLISH, REFUSED)  # kinds whose version has the state of its parent


@dataclass(frozen=True)
class Check:
    """One answer: of what, ok or not, what was found, what to do."""

    name: str
    state: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        text: str = redacted(f"{self.found} {self.remedy}".rstrip())
        return f"{self.state:<5} {self.name:<14} {text}"


def of_machine(settings: Settings) -> Iterator[Check]:
    """What can be asked before Spark starts."""
    yield _asked("java", _java)
    yield _asked("compiled code", _compiled)
    folder = local_folder(settings.store.root)
    if folder is None:
        yield Check("disk", OK, f"{settings.store.root} is not on this machine's disk")
        return
    yield _asked("disk", lambda: _disk(_there(folder)))
    yield _asked("permissions", lambda: _permissions(_there(folder), folder, settings.store.permissions))
    yield _asked("clock", lambda: _clock(_there(folder)))
    yield _asked("lock", lambda: holder_of(settings.store.root) or "nobody holds the model.")


def of_storage(spark: SparkSession, settings: Settings) -> Iterator[Check]:
    """Spark, Delta, and a table that is written and read back where the model is."""
    yield _asked("spark", lambda: _pair(spark))
    yield _asked("jars", lambda: _jars(settings.spark.conf))
    yield _asked("round trip", lambda: _round_trip(spark, settings))
    source, sink = settings.source.kafka, settings.sink.kafka
    if settings.source.format == "kafka":
        yield _kafka("kafka", Brokers(spark, source), source.servers, source.topics, "source.kafka")
    wanted = [topic for topic in (sink.recommendations, sink.decisions) if topic is not None]
    if wanted:
        yield _kafka("kafka sink", Brokers(spark, OfTopics(sink, wanted)), sink.servers, wanted, "sink.kafka")


def _pair(spark: SparkSession) -> str | Check:
    """The Spark and the Delta that run, whoever brought them, against those that belong together."""
    assert spark._jvm is not None
    _, package, wanted = DELTA_JAR.split(":")
    runs = str(spark._jvm.io.delta.package.VERSION())
    found = f"Spark {spark.version} with Delta {runs}"
    if (spark.version, runs) == (pyspark.__version__, wanted):
        return f"{found}."
    tested = f"Freshet is tested with Spark {pyspark.__version__} and {package} {wanted}"
    return Check("spark", FAIL, f"{found} do not belong together.", f"{tested}: take other jars out of spark.conf or spark-submit.")


def _jars(conf: Mapping[str, str]) -> str:
    count = check_fetched(conf) if delta(conf) else 0
    return f"{count} of Delta, each with its sha256." if count else "brought by spark.conf or spark-submit, and not compared."


def _kafka(name: str, brokers: Brokers, servers: Sequence[str], topics: Sequence[str], section: str) -> Check:
    ends, where = brokers.ends(), ", ".join(servers)
    brokers.close()
    if ends is None:
        return Check(name, FAIL, f"no broker answers at {where}.", f"Look at {section}.")
    missing = [topic for topic in topics if not any(at.startswith(f"{KAFKA}{topic}/") for at in ends)]
    if missing:
        return Check(name, FAIL, f"there is no topic {', '.join(missing)} at {where}.", f"Make it, or look at {section}.")
    return Check(name, OK, f"{len(ends)} partitions at {where}.")


def of_model(spark: SparkSession, settings: Settings, deep: bool) -> Iterator[Check]:
    """The tables of the model against each other and against the checkpoint; `deep` recomputes the newest digest."""
    tables = Tables(spark, settings.store.root)
    if not tables.exists(SNAPSHOTS.name):
        yield Check("model", OK, f"none under {settings.store.root} yet.")
        return
    try:
        reading = open_reading(spark, settings)
    except FreshetError as error:
        yield Check("model", FAIL, error.what, error.remedy or "")
        return
    history = reading.history
    yield Check("model", OK, f"version {reading.version}, epoch {history.epoch}, {len(history.rows):,} rows in snapshots.")
    yield _asked("times", lambda: _times(history))
    yield _asked("checkpoint", lambda: _checkpoint(tables, settings))
    yield _asked("chain", lambda: _chain(history))
    yield _asked("orphans", lambda: _orphans(tables, history))
    yield _asked("requests", lambda: _requests(tables, history))
    if deep:
        yield _asked("digest", lambda: _digest(reading, settings))


def _asked(name: str, ask: Callable[[], str | Check]) -> Check:
    """The answer, or the error as one."""
    try:
        found = ask()
    except FreshetError as error:
        return Check(name, FAIL, error.what, error.remedy or "")
    except Exception as error:  # a doctor tells of every fault and goes on
        return Check(name, FAIL, f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else 'no message'}.")
    return found if isinstance(found, Check) else Check(name, OK, found)


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def _disk(there: Path) -> Check:
    free = shutil.disk_usage(there).free
    state, remedy = (OK, "") if free >= FREE_BYTES else (WARN, "Make room, or `freshet maintain`.")
    return Check("disk", state, f"{free / 2**30:.1f} GiB free at {there}.", remedy)


def _java() -> str:
    java = find_java()
    return f"Java {java.version} from {java.found_in} ({java.program})."


def _compiled() -> str | Check:
    folder = numba_cache()  # before the first kernel is imported: where a learner's go
    from freshet.kernels.texts import number_seed

    start = time.perf_counter()
    number_seed(1)
    if not os.access(folder, os.W_OK):
        return Check("compiled code", WARN, f"{folder} cannot be written.", "Set NUMBA_CACHE_DIR: kernels compile at every start.")
    return f"kernels run; their cache is {folder} ({time.perf_counter() - start:.1f} s)."


def _permissions(there: Path, folder: Path, permissions: str) -> Check:
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        return Check("permissions", FAIL, f"{there} cannot be written.", "Give this user the right to, or set store.root.")
    rights = folder.stat().st_mode if folder.exists() else 0
    if rights & 0o002:
        remedy = "chmod o-w: whoever may write may change what was learned."
        return Check("permissions", WARN, f"everybody may write to {folder}.", remedy)
    if rights & 0o004 and permissions != "inherit":
        remedy = "chmod o= of it, or store.permissions: inherit if that is meant."
        return Check("permissions", WARN, f"everybody may look into {folder}.", remedy)
    return Check("permissions", OK, f"{there} can be read and written.")


def _clock(there: Path) -> str | Check:
    """The clock of the disk, which may be another machine's, against this one's."""
    probe = there / f".freshet-doctor-{secrets.token_hex(4)}"
    probe.touch()
    try:
        apart = probe.stat().st_mtime - time.time()
    finally:
        probe.unlink()
    if abs(apart) > CLOCK_SECONDS:
        return Check("clock", WARN, f"the disk's clock is {apart:+.0f} s off this machine's.", "Set both by the same time server.")
    return f"the disk's clock and this machine's are {abs(apart):.1f} s apart."


def _round_trip(spark: SparkSession, settings: Settings) -> str:
    tables = Tables(spark, f"{settings.store.root.rstrip('/')}/_doctor-{secrets.token_hex(4)}")
    row = {"request_id": "doctor", "kind": "none", "arguments": "{}", "reason": None, "actor": "doctor", "requested_at": 0}
    start = time.perf_counter()
    try:
        tables.create()
        tables.append(REQUESTS.name, pa.Table.from_pylist([row], schema=tables.arrow_schema(REQUESTS.name)))
        by_arrow = all_rows(tables, REQUESTS.name, ("request_id",)).num_rows
        by_spark = tables.read(REQUESTS.name).count()
    finally:
        tables.log(REQUESTS.name).delete_folder(tables.root)
    if (by_arrow, by_spark) != (1, 1):
        raise FreshetError(f"Of one row that was written {by_arrow} and {by_spark} were read.", remedy="Look at the storage.")
    return f"a row was written to {settings.store.root}, committed and read by both readers ({time.perf_counter() - start:.1f} s)."


def _checkpoint(tables: Tables, settings: Settings) -> str:
    for left in (2, 1, 0):
        history = History.load(tables)
        try:
            check_checkpoint(history, settings.store.checkpoint_path)
        except CheckpointRefused:
            if not left:
                raise
            time.sleep(1.0)  # a learner may have committed between the two looks
        else:
            break
    last = history.last_streamed()
    where = settings.store.checkpoint_path
    return "no stream has begun." if last is None else f"{where} and the tables agree on batch {last.batch_id}."


def _times(history: History) -> str | Check:
    """When versions were committed, by the clocks of those who did, against this machine's clock."""
    ahead = max(row.committed_at for row in history.live()) / 1e6 - time.time()
    if ahead > CLOCK_SECONDS:
        remedy = "Set the clocks of all who write this model by the same time server."
        return Check("times", WARN, f"a version was committed {ahead:.0f} s from now.", remedy)
    return "no version comes from the future."


def _chain(history: History) -> str:
    """Every live version has its parent, and those that change nothing have its digest."""
    live = {row.version: row for row in history.live()}
    for row in live.values():
        if row.parent is None:
            continue
        parent = live.get(row.parent)
        if parent is None:
            raise FreshetError(f"Version {row.version} stands on {row.parent}, which is not there.", remedy="Restore `snapshots`.")
        if row.kind in _SAME_STATE and row.digest != parent.digest:
            raise FreshetError(
                f"Version {row.version} ({row.kind}) changes nothing and has another digest than {row.parent}.",
                remedy="A row of `snapshots` was changed: restore it.")
    return f"{len(live):,} versions, each on its parent."


def _orphans(tables: Tables, history: History) -> str | Check:
    dead = [row for row in attempts(tables) if closed(history, row["commit_id"], row["snapshot_version"])]
    rows = sum(row["rows"] for row in dead)
    if rows:
        what = f"{rows:,} rows of {len(dead)} attempts that nobody committed."
        return Check("orphans", WARN, what, "`freshet maintain` removes them.")
    return "none: every row belongs to a version, or to an attempt that may still end."


def _requests(tables: Tables, history: History) -> str | Check:
    waiting = len(open_requests(tables, history)) if tables.exists(REQUESTS.name) else 0
    if waiting:
        remedy = "A running learner answers within seconds; is one running?"
        return Check("requests", WARN, f"{waiting} wait for the learner.", remedy)
    return "none waits."


def _digest(reading: Reading, settings: Settings) -> str:
    head = load_head(reading, settings, new_learner(settings))
    return f"the rows of version {reading.version} give {head.hex_digest}, as recorded ({len(head):,} rows)."
