"""The tables of one model under one root: created, appended to and read; every engine error is told once, by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from freshet.errors import FreshetError, StateDamaged, StoreFailed
from freshet.failpoint import failpoint
from freshet.roots import local_folder
from freshet.schema import GROWN, TABLES
from freshet.store import columns, data_files
from freshet.store.delta_log import DeltaLog, Entry

DAY = 86400
_LOOK_BACK = 20  # log entries read in search of a commit of ours: concurrent writers are few


@dataclass(frozen=True)
class Appended:
    """What an append cost: rows, seconds, bytes on disk, and the Delta version it became."""

    rows: int
    seconds: float
    bytes: int
    version: int


class Tables:
    """The tables of the model under `root`, a local path or a URI; a plain path is always local disk.

    `log_checkpoint_interval`: Delta commits between two log checkpoints; `log_retention`: seconds Delta keeps its log
    and removed files. Both go into tables that are created here and leave others as they are.
    """

    def __init__(
        self, spark: SparkSession, root: str, log_checkpoint_interval: int = 50, log_retention: float = 30 * DAY
    ) -> None:
        if not root or "\0" in root:
            raise FreshetError(f"{root!r} cannot be the root of a model.", remedy="Set store.root.", root=root)
        self.spark = spark
        folder = local_folder(root)
        self.root = root.rstrip("/") if folder is None else f"file:{folder}"
        self._properties = {
            "delta.checkpointInterval": str(log_checkpoint_interval),
            "delta.logRetentionDuration": f"interval {int(log_retention)} seconds",
            # Delta wants the log kept at least as long as removed files; a week is its own default.
            "delta.deletedFileRetentionDuration": f"interval {int(min(log_retention, 7 * DAY))} seconds",
        }
        self._logs: dict[str, DeltaLog] = {}

    def path(self, name: str) -> str:
        """Where the table is; raises UnknownName, so that no name leads out of the root."""
        return f"{self.root}/{columns.table(name).name}"

    def log(self, name: str) -> DeltaLog:
        """The Delta log of the table."""
        if name not in self._logs:
            self._logs[name] = DeltaLog(self.spark, self.path(name))
        return self._logs[name]

    def create(self) -> None:
        """Create the tables that are missing, and give older ones the columns that came since (schema.GROWN).

        Entry 0 of each log and its checksum are written as Delta's CREATE TABLE would write them (a test compares them):
        that command takes half a second a table, this a few milliseconds.
        """
        with engine_errors("all tables", "create"):
            for name in TABLES:
                if not self.log(name).exists():
                    self.log(name).create(*columns.first_entry(name, self._properties))
                elif name in GROWN:
                    self.log(name).grow(columns.spark_schema(name).names, columns.spark_schema(name).json())

    def exists(self, name: str) -> bool:
        """Whether the table has been created."""
        with engine_errors(name, "look for"):
            return self.log(name).exists()

    def columns(self, name: str) -> list[str]:
        """The columns the table has; none where it was never created."""
        with engine_errors(name, "read"):
            return self.log(name).columns() if self.log(name).exists() else []

    def arrow_schema(self, name: str) -> pa.Schema:
        """Columns and types of a table as Arrow's, required columns not nullable."""
        return columns.arrow_schema(name)

    def append(self, name: str, rows: pa.Table, note: str = "") -> Appended:
        """Append rows with exactly the table's columns as one plain Delta commit that carries `note`.

        Raises FreshetError for rows that do not fit, StoreFailed when the engine cannot write.
        """
        start = time.perf_counter()
        fitting = columns.conform(name, rows)
        with engine_errors(name, "append to"):
            file = data_files.new_name()
            size = self._write(name, file, fitting)
            action = data_files.add_action(file, size, fitting, columns.with_statistics(name))
            version = self.log(name).append([action], note)
        return Appended(rows.num_rows, time.perf_counter() - start, size, version)

    def _write(self, name: str, file: str, rows: pa.Table) -> int:
        """One Parquet file in the folder of the table; its bytes."""
        folder = local_folder(self.path(name))
        if folder is not None:
            data_files.write(rows, folder / file)
            failpoint(f"file_of_{name}", path=folder / file)
            return (folder / file).stat().st_size
        with data_files.JvmFile(self.log(name).create_file(file)) as target:
            data_files.write(rows, target)
        return target.size

    def find_commit(self, name: str, note: str) -> Entry | None:
        """The newest log entry that carries `note`, among the last 20."""
        log = self.log(name)
        newest = log.version()
        for version in range(newest, max(newest - _LOOK_BACK, 0), -1):
            entry = log.entry(version)
            if entry is not None and entry.note == note:
                return entry
        return None

    def may_hold_old_files(self, name: str) -> bool:
        """Whether a data file may be older than the table keeps removed ones; certain on local disk only."""
        folder = local_folder(self.path(name))
        if folder is None:
            return True
        with engine_errors(name, "vacuum"):
            oldest = time.time() - self.log(name).kept_seconds()
            return any(path.stat().st_mtime <= oldest for path in folder.glob("*.parquet"))

    def file_count(self, name: str) -> int:
        """Data files of the table."""
        with engine_errors(name, "read"):
            return self.log(name).file_count()

    def read(self, name: str) -> DataFrame:
        """The table as it is, rows of attempts that were never committed included."""
        with engine_errors(name, "read"):
            frame = self.spark.read.format("delta").load(self.path(name))
            if name in GROWN:  # nobody may have written to it since
                schema, there = columns.spark_schema(name), set(frame.columns)
                missing = [one for one in schema if one.name not in there]
                frame = frame.withColumns({one.name: F.lit(None).cast(one.dataType) for one in missing}) if missing else frame
            return frame

    def version(self, name: str) -> int:
        """The newest Delta version of the table."""
        with engine_errors(name, "read"):
            return self.log(name).version()

    def collect(self, name: str, frame: DataFrame, version: int | None = None) -> pa.Table:
        """The rows of a frame made from the table; raises StateDamaged when the engine cannot read them."""
        with engine_errors(name, "read", version):
            return frame.toArrow()

    def in_parallel(self, count: int) -> ThreadPoolExecutor:
        """Threads for independent work on tables."""
        return ThreadPoolExecutor(max(count, 1), "store", initializer=self._own_session)

    def _own_session(self) -> None:
        """Give a new thread its session of Spark. A stream's threads have none, and Delta asks for it where a process died
        between an entry of a log and its checksum: the log's checkpoint is then read by a job."""
        assert self.spark._jvm is not None
        self.spark._get_j_spark_session_class(self.spark._jvm).setActiveSession(self.spark._jsparkSession)


@contextmanager
def engine_errors(name: str, action: str, version: int | None = None) -> Iterator[None]:
    """Turn an error of Spark or Delta into one of ours, with table, version and the way out; ours pass as they are."""
    try:
        yield
    except (ConnectionError, Py4JNetworkError) as error:
        raise StoreFailed(
            f"The engine went away while it was to {action} {name}: {error or type(error).__name__}.",
            remedy="Look for the end of the Java process (memory?), then start again.", table=name, version=version, action=action,
        ) from error
    except (PySparkException, Py4JError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = _cause(lines)
        at = "" if version is None else f" at version {version}"
        if action == "read":
            raise StateDamaged(
                f"Table {name} cannot be read{at}: {cause}.",
                remedy="A file of it is missing or changed: restore it, or open an older version (--as-of).",
                table=name, version=version, cause=cause,
            ) from error
        raise StoreFailed(
            f"Could not {action} {name}{at}: {cause}.",
            remedy="Nothing of this was committed. Mend the cause (disk space, permissions, the path) and start again.",
            table=name, version=version, action=action, cause=cause,
        ) from error


def _cause(lines: list[str]) -> str:
    """The innermost cause a Java stack trace names, else the error it is of, else its first line."""
    causes = [line.removeprefix(": ").removeprefix("Caused by: ") for line in lines if line.startswith((": ", "Caused by: "))]
    return (causes[-1] if causes else lines[0] if lines else "no message")[:500].rstrip(".")
