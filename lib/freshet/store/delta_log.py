"""A Delta log through the JVM's own classes: its first entry, its newest version, an append, what one entry says.

`DeltaTable` would do, a hundred times slower: creating a table with it takes half a second, `history(1)` runs a job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from freshet.java import java_class

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject


_DELTA, _CONVERTERS = "org.apache.spark.sql.delta", "scala.jdk.javaapi.CollectionConverters"


@dataclass(frozen=True)
class Entry:
    """One version of a Delta table: who wrote it (`note`, Delta's userMetadata) and how many bytes it added."""

    version: int
    note: str | None
    operation: str
    bytes: int


class DeltaLog:
    """The log of the table at `path`; nothing is cached here, Delta keeps its own cache by path."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        assert spark._jvm is not None
        self._spark, self._jvm, self._path = spark, spark._jvm, path

    def exists(self) -> bool:
        """Whether there is a log with at least one entry; what a process leaves that dies while it makes the first is none."""
        folder, files = self._hadoop_path("_delta_log"), self._file_system()
        if any(files.exists(self._hadoop_path("_delta_log", name)) for name in (f"{0:020d}.json", "_last_checkpoint")):
            return True
        return bool(files.exists(folder) and self._entries())

    def is_new(self) -> bool:
        """Whether there is nothing but entry 0."""
        if self._file_system().exists(self._hadoop_path("_delta_log", f"{1:020d}.json")):  # most are, and long
            return False
        return self._entries() == [f"{0:020d}.json"]

    def _entries(self) -> list[str]:
        files = self._file_system().listStatus(self._hadoop_path("_delta_log"))
        return [name for name in (file.getPath().getName() for file in files) if re.fullmatch(r"\d{20}\..*(json|parquet)", name)]

    def create(self, lines: list[str], checksum: str) -> None:
        """Write entry 0, atomically, and its checksum; does nothing when somebody else was first."""
        entry = self._hadoop_path("_delta_log", f"{0:020d}.json")
        self._file_system().mkdirs(entry.getParent())
        try:
            self._put(entry, lines)
        except Exception:
            if not self._file_system().exists(entry):
                raise
        else:
            # Without it the first commit of a table runs a job to learn what the table is: .8 s instead of .04.
            self._put(self._hadoop_path("_delta_log", f"{0:020d}.crc"), [checksum])

    def _put(self, path: JavaObject, lines: list[str]) -> None:
        """Write a file of the log that must not be there yet."""
        java = java_class(self._jvm, "java.util.ArrayList")()
        for line in lines:
            java.add(line)
        scala = java_class(self._jvm, _CONVERTERS).asScala(java.iterator())
        log = self._log()
        log.store().write(path, scala, False, log.newDeltaHadoopConf())

    def version(self) -> int:
        """The newest version, looked up in the folder."""
        return int(self._newest().version())

    def _newest(self) -> JavaObject:
        log = self._log()
        return log.update(*[getattr(log, f"update$default${n}")() for n in (1, 2, 3)])

    def columns(self) -> list[str]:
        """The columns of the table as it is now."""
        return list(self._newest().metadata().schema().fieldNames())

    def grow(self, names: Iterable[str], schema: str) -> None:
        """Give the table this schema (as JSON) where it lacks one of its columns; rows there are have null in it."""
        metadata = self._newest().metadata()
        if set(names) <= set(metadata.schema().fieldNames()):
            return
        action = json.loads(metadata.json())
        action["metaData"]["schemaString"] = schema
        self.append([json.dumps(action)], "columns that came since")

    def append(self, actions: Iterable[str], note: str) -> int:
        """Commit the `add` actions (JSON lines) as one plain append that carries `note`; the version it became.

        Delta's own transaction: it looks for conflicts, and writes log checkpoints when they are due. It begins at what this
        process knows of the table: to look for more it would list the folder of the log, which takes longer with every commit kept
        there. Where somebody else has committed meanwhile, the number is taken, and it looks then.
        """
        option, action_class = java_class(self._jvm, "scala.Option"), java_class(self._jvm, f"{_DELTA}.actions.Action")
        added = java_class(self._jvm, "java.util.ArrayList")()
        for action in actions:
            added.add(action_class.fromJson(action))
        converted = java_class(self._jvm, _CONVERTERS).asScala(added).toSeq()
        none = option.empty()
        mode = java_class(self._jvm, "org.apache.spark.sql.SaveMode").Append
        write = java_class(self._jvm, f"{_DELTA}.DeltaOperations$Write")(mode, none, none, option.apply(note or None), *[none] * 5)
        return int(self._log().startTransaction(none, option.apply(self._known())).commit(converted, write))

    def _known(self) -> JavaObject:
        """The newest version that this process has seen, looked up where its entry is gone: somebody made the table anew."""
        known = self._log().unsafeVolatileSnapshot()
        version = int(known.version())
        seen = version >= 0 and self._file_system().exists(self._hadoop_path("_delta_log", f"{version:020d}.json"))
        return known if seen else self._newest()

    def file_count(self) -> int:
        """Data files of the newest version."""
        return int(self._newest().numOfFiles())

    def kept_seconds(self) -> float:
        """How long files that were removed from the table are kept."""
        delta = java_class(self._jvm, f"{_DELTA}.DeltaLog")
        return float(delta.tombstoneRetentionMillis(self._newest().metadata())) / 1000

    def create_file(self, name: str) -> JavaObject:
        """The JVM's output stream of a new file beside the log."""
        return self._file_system().create(self._hadoop_path(name), False)

    def delete_folder(self, path: str) -> None:
        """Remove a folder and all in it."""
        self._file_system().delete(java_class(self._jvm, "org.apache.hadoop.fs.Path")(path), True)

    def entry(self, version: int) -> Entry | None:
        """What entry `version` of the log says; None when its file is gone (logs are cleaned after their retention)."""
        name = f"{version:020d}.json"
        if not self._file_system().exists(self._hadoop_path("_delta_log", name)):
            return None
        info: dict[str, Any] = {}
        added = 0
        for line in self._text(name).splitlines():
            action = json.loads(line)
            info = action.get("commitInfo", info)
            added += action.get("add", {}).get("size", 0)
        return Entry(version, info.get("userMetadata"), info.get("operation", ""), added)

    def _text(self, name: str) -> str:
        stream = self._file_system().open(self._hadoop_path("_delta_log", name))
        try:
            return str(java_class(self._jvm, "java.lang.String")(stream.readAllBytes(), "UTF-8"))
        finally:
            stream.close()

    def _log(self) -> JavaObject:
        return java_class(self._jvm, f"{_DELTA}.DeltaLog").forTable(self._spark._jsparkSession, self._path)

    def _hadoop_path(self, *parts: str) -> JavaObject:
        return java_class(self._jvm, "org.apache.hadoop.fs.Path")("/".join((self._path, *parts)))

    def _file_system(self) -> JavaObject:
        return self._hadoop_path("_delta_log").getFileSystem(self._spark._jsparkSession.sessionState().newHadoopConf())
