"""The Spark session: one dict of settings, each with its reason, and a check that the session obeys them.

`build(settings.spark)` starts a session; `check_session(spark)` raises `EngineRefused` when a session that somebody
else made (spark-submit, a notebook) would not notice damage or would mean something else by a time.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyspark
from pyspark import SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from freshet.engine import jars, securing
from freshet.engine.banner import without_banner
from freshet.engine.jars import DELTA_JAR
from freshet.errors import EngineRefused
from freshet.settings.securing import SECURED

if TYPE_CHECKING:
    from py4j.java_gateway import JVMView

DELTA_CATALOG = "org.apache.spark.sql.delta.catalog.DeltaCatalog"


class SparkSettings(Protocol):
    """The `spark` section of the settings."""

    @property
    def master(self) -> str: ...
    @property
    def app_name(self) -> str: ...
    @property
    def driver_memory(self) -> str: ...
    @property
    def conf(self) -> Mapping[str, str]: ...
    @property
    def secure(self) -> bool: ...
    @property
    def secret_file(self) -> str | None: ...


# What must hold in every session, or a wrong number could pass for a right one: set by `build`, asserted by
# `check_session` (setting -> wanted).
REQUIRED: dict[str, str] = {
    # One flipped byte in a Parquet file gave a wrong sum and no error in 21 of 24 tries without this, 0 of 48 with it.
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    # Spark's defaults, asserted: with `true` half a file was read without an error.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    # Times are UTC everywhere; a text time without a zone is read as UTC, on every machine alike.
    "spark.sql.session.timeZone": "UTC",
    # `true` silently stops the first query when a second is started on its checkpoint.
    "spark.sql.streaming.stopActiveRunOnRestart": "false",
    # Arithmetic that overflows is an error, not a null; input is converted by try_cast.
    "spark.sql.ansi.enabled": "true",
}

_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": DELTA_CATALOG,
    # 50 by default: a Delta log of a few thousand actions is one task's work.
    "spark.databricks.delta.snapshotPartitions": "1",
    # Ten million by default: with one writer a conflict is a fact to be told, not to be retried for ever.
    "spark.databricks.delta.maxCommitAttempts": "3",
}

_ENGINE = {
    "spark.ui.enabled": "false",  # seconds of start-up and a port; `spark.conf` of the settings can switch it on
    **securing.REDACTION,
    "spark.sql.streaming.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",  # the progress table is ours
    "spark.python.sql.dataFrameDebugging.enabled": "false",  # captures a stack trace at every DataFrame call
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # A batch crosses to Python in few Arrow messages: 200,000 events in 4 pieces instead of 20.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "50000",
    # Small micro-batches run in few tasks; a file is split only past this size.
    "spark.sql.adaptive.enabled": "true",
    # Java's compiler leaves methods above 8,000 bytes of bytecode to the interpreter, and cleaning in one piece is
    # longer: 2.0 -> .7 s for 200,000 JSON records when Spark compiles it operator by operator instead.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    "spark.sql.streaming.numRecentProgressUpdates": "10",
}

# Only where driver and executors share one machine and its disk, and one JVM commits (the model's lock sees to that):
# 28 -> 4 ms for each of the three small files a micro-batch writes, .14 -> .12 s for a Delta commit. Safe there: both
# write a temporary file and rename it, as the defaults do; what is given up is Hadoop's .crc file beside every file,
# whose work is done by Parquet's page checksums and by the digest of the state. (After a kill between the two renames
# a .crc can contradict a sound file, so nothing of value goes.)
_LOCAL_DISK = {
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
    "spark.delta.logStore.file.impl": "io.delta.storage.LocalLogStore",
}


def build(settings: SparkSettings, kafka: bool = False, umask: int | None = None) -> SparkSession:
    """Start (or get) the session of `settings`, checked by `check_session`; `settings.conf` has the last word. `kafka`: with the
    connector to Kafka; `umask`: for what Hadoop creates (None: its own).

    Raises EngineRefused when Java or the Delta jar cannot be had, or a required setting was overruled.
    """
    builder = SparkSession.builder.master(settings.master).appName(settings.app_name)
    conf = configuration(settings, kafka)
    if settings.secure:
        conf |= securing.secret(settings.master, settings.secret_file, conf)
    conf = {**securing.rights(umask), **conf}
    for name, value in conf.items():
        builder = builder.config(name, value)
    if cores_of(settings.master):
        # Workers on this machine run this very Python; the setting of the same meaning is read by spark-submit only.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        securing.before_java()
    if settings.master.startswith("local-cluster"):
        _prepare_local_cluster()
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        _into_running_jvm(conf.get("spark.jars", ""))
    try:
        with without_banner():
            securing.start_java(conf, settings.master, settings.app_name)
            spark = builder.getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        wanted = f"{DELTA_JAR} and {jars.KAFKA_JAR} are" if kafka else f"{DELTA_JAR} is"
        remedy = f"Spark 4.2 needs Java 17 or newer; {wanted} fetched once from Maven (see the lines above)."
        raise EngineRefused("The Java process ended before Spark started.", remedy=remedy, jar=DELTA_JAR) from error
    spark.sparkContext.setLogLevel("ERROR")
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):  # print what the exception says, with Java's stack
        PySparkLogger.getLogger(name).disabled = True
    if "spark.jars.packages" in conf:
        jars.check_fetched(conf)
    check_session(spark)
    return spark


def test_session(folder: str, more_jars: Sequence[str] = ()) -> SparkSession:
    """local[2], everything it writes under `folder`; the output of Arrow functions is checked against its schema."""
    conf = {
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        # Small data, many plans: parallel collectors would take the cores from the tests. Both compilers: over twenty minutes the
        # second one pays, 350 s instead of 400 for a tenth of the tests.
        "spark.driver.extraJavaOptions": f"-Dderby.system.home={folder}/derby -XX:+UseSerialGC",
        "spark.local.dir": f"{folder}/local",
        "spark.jars": ",".join(more_jars),
        "spark.sql.execution.arrow.pyspark.validateSchema.enabled": "true",
        "spark.python.worker.faulthandler.enabled": "true",
    }
    return build(_Plain("local[2]", "freshet-tests", "2g", conf))


test_session.__test__ = False  # type: ignore[attr-defined]  # pytest collects functions by their name


class _Plain:
    """A `spark` section made in code."""

    def __init__(self, master: str, app_name: str, driver_memory: str, conf: Mapping[str, str]) -> None:
        self.master, self.app_name, self.driver_memory, self.conf = master, app_name, driver_memory, conf
        self.secure, self.secret_file = False, None


def configuration(settings: SparkSettings, kafka: bool = False) -> dict[str, str]:
    """Every Spark setting of a session, defaults under `settings.conf`; pure."""
    conf = {"spark.driver.memory": settings.driver_memory, **REQUIRED, **_DELTA, **_ENGINE}
    cores = cores_of(settings.master)
    if cores:
        # 200 by default; the tables of a micro-batch are small.
        conf["spark.sql.shuffle.partitions"] = str(cores)
        # 10,000 by default, and Delta's VACUUM starts that many tasks to list a folder.
        conf["spark.sql.sources.parallelPartitionDiscovery.parallelism"] = str(2 * cores)
        conf.update(_LOCAL_DISK)
        conf["spark.executorEnv.PYTHONPATH"] = _python_path()
        conf["spark.pyspark.python"] = sys.executable
    # Kernels are compiled once and kept on disk; workers die after a minute without work and must find them again.
    conf["spark.executorEnv.NUMBA_CACHE_DIR"] = numba_cache()
    conf.update(SECURED if settings.secure else {})
    conf.update(settings.conf)
    conf.update(securing.loopback(conf) if cores else {})
    conf.update(jars.delta(conf))
    conf.update(jars.kafka(conf) if kafka else {})
    conf["spark.driver.extraJavaOptions"] = f"{_LOGGING} {conf.get('spark.driver.extraJavaOptions', '')}".strip()
    return {name: value for name, value in conf.items() if value}


_LOGGING = f"-Dlog4j2.configurationFile={(Path(__file__).parent / 'log4j2.properties').as_uri()}"


def cores_of(master: str) -> int | None:
    """Cores of a master on this machine, None for a cluster: local 1, local[2,3] 2, local-cluster[2,1,1024] 2."""
    cluster = re.fullmatch(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*\d+\s*\]", master)
    if cluster:
        return int(cluster[1]) * int(cluster[2])
    local = re.fullmatch(r"local(?:\[(\*|\d+)(?:,\d+)?\])?", master)
    if local is None:
        return None
    return (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)


def numba_cache() -> str:
    """A writable folder for compiled kernels; also set for this process, for modules that are not imported yet."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    if not folder:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "freshet" / "numba"
        folder = str(cache if _writable(cache) else _own(Path(tempfile.gettempdir()) / f"freshet-numba-{os.getuid()}"))
        os.environ["NUMBA_CACHE_DIR"] = folder
    return folder


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _own(folder: Path) -> Path:
    """The folder where nobody but this user may write, made if need be; another one where somebody else was there first: numba
    runs what it finds in its cache."""
    with suppress(OSError):
        folder.mkdir(mode=0o700)
    with suppress(OSError):
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="freshet-numba-"))


def _python_path() -> str:
    """Where this `freshet` was imported from, first: workers on this machine must run the same code."""
    root = str(Path(__file__).parents[2])
    return os.pathsep.join([root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])


def _into_running_jvm(paths: str) -> None:
    """spark-submit has started the JVM already: `spark.jars` still reaches executors, but not the driver's classes."""
    SparkContext._ensure_initialized()
    jvm = SparkContext._jvm
    assert jvm is not None
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    for path in filter(None, paths.split(",")):
        loader.addURL(jvm.java.io.File(path).toURI().toURL())


def _prepare_local_cluster() -> None:
    """Executors of their own need to know where Spark is; pip's pyspark sets neither."""
    os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
    os.environ.setdefault("SPARK_SCALA_VERSION", "2.13")


def check_session(spark: SparkSession) -> None:
    """Raise EngineRefused unless Delta is there and every setting of REQUIRED holds in this session."""
    assert spark._jvm is not None
    if not _has_class(spark._jvm, DELTA_CATALOG):
        remedy = f"Start with --packages {DELTA_JAR}, or put that jar and its dependencies into spark.jars."
        raise EngineRefused(f"Spark has no Delta Lake: the jar {DELTA_JAR} is missing.", remedy=remedy, jar=DELTA_JAR)
    for setting, wanted in REQUIRED.items():
        found = _value(spark, setting)
        if found != wanted:
            what = f"Spark setting {setting} must be {wanted} and is {found}."
            raise EngineRefused(what, remedy="Take it out of spark.conf.", setting=setting, wanted=wanted, found=found)


def _value(spark: SparkSession, setting: str) -> str | None:
    if setting.startswith("spark.hadoop."):
        hadoop = spark.sparkContext._jsc.hadoopConfiguration()
        return str(hadoop.get(setting.removeprefix("spark.hadoop.")))
    return spark.conf.get(setting, None)


def _has_class(jvm: JVMView, name: str) -> bool:
    from py4j.protocol import Py4JJavaError

    try:
        jvm.org.apache.spark.util.Utils.getContextOrSparkClassLoader().loadClass(name)
    except Py4JJavaError:
        return False
    return True
