"""The jars of Delta and of Spark's connector to Kafka: resolved once through Spark's own resolver, afterwards taken from where the
resolver left them, and compared with their sha256 at every start.

A session with `spark.jars.packages` resolves at every start, which costs seconds, needs the network now and then and
prints a page; a session with the same files in `spark.jars` does none of that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from freshet.errors import EngineRefused

DELTA_JAR = "io.delta:delta-spark_4.2_2.13:4.4.0"

# What Delta declares and Spark 4.2 brings itself, newer: two versions of one class on the path is a lottery. Unity
# Catalog's client is for catalog-managed tables, which these are not.
_EXCLUDED = (
    "org.apache.hadoop:hadoop-client-api", "org.apache.hadoop:hadoop-client-runtime", "org.slf4j:slf4j-api",
    "org.apache.logging.log4j:log4j-api", "org.apache.logging.log4j:log4j-core",
    "org.apache.logging.log4j:log4j-slf4j2-impl", "com.fasterxml.jackson.core:jackson-annotations",
    "com.fasterxml.jackson.core:jackson-core", "com.fasterxml.jackson.core:jackson-databind",
    "org.apache.parquet:parquet-hadoop", "org.apache.parquet:parquet-column", "org.apache.parquet:parquet-common",
    "org.apache.parquet:parquet-encoding", "org.apache.parquet:parquet-format-structures",
    "org.apache.parquet:parquet-jackson", "org.xerial.snappy:snappy-java", "com.github.luben:zstd-jni",
    "io.airlift:aircompressor", "commons-logging:commons-logging", "commons-pool:commons-pool",
    "com.google.code.findbugs:jsr305", "org.locationtech.jts:jts-core", "javax.annotation:javax.annotation-api",
    "io.unitycatalog:unitycatalog-client", "io.unitycatalog:unitycatalog-hadoop", "io.delta:delta-kernel-unitycatalog",
)  # fmt: skip

# What is left, as the resolver names the files, with the sha256 of each: the resolver compares a file with what the server of that
# file says of it, and with nothing else.
_FILES = {
    "io.delta_delta-spark_4.2_2.13-4.4.0.jar":
        "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead",
    "io.delta_delta-storage-4.4.0.jar":
        "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
    "io.delta_delta-kernel-api-4.4.0.jar":
        "ee9b5a14ac3b7efdff4d61a58478fe8eb0e5a3fbca43889dca7290795fe79a11",
    "io.delta_delta-kernel-defaults-4.4.0.jar":
        "225c975199e4718b38ee5b7e6da7f19e9585024262b2cec2656b32151a856b0b",
    "org.roaringbitmap_RoaringBitmap-0.9.25.jar":
        "73f8e24f636a1ba6509decacbb5605c833eb5ead6db3971722ffcc2543b3e393",
    "org.roaringbitmap_shims-0.9.25.jar":
        "0b82ed6cb1caf0706304b42358d568eb6faf190eadea7f2b2d365cb63156b40d",
    "com.fasterxml.jackson.datatype_jackson-datatype-jdk8-2.13.5.jar":
        "e58761751fea8a00dc626aae1c5f1be38c5cfd487aeb333d933a4ab5f5a73c55",
}

KAFKA_JAR = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"
# Spark has these itself.
_KAFKA_EXCLUDED = (
    "com.google.code.findbugs:jsr305", "org.slf4j:slf4j-api", "org.xerial.snappy:snappy-java", "at.yawk.lz4:lz4-java",
)  # fmt: skip
_KAFKA_FILES = (
    "org.apache.spark_spark-sql-kafka-0-10_2.13-4.2.0.jar",
    "org.apache.spark_spark-token-provider-kafka-0-10_2.13-4.2.0.jar",
    "org.apache.kafka_kafka-clients-3.9.2.jar",
    "org.apache.commons_commons-pool2-2.13.1.jar",
    "org.scala-lang.modules_scala-parallel-collections_2.13-1.2.0.jar",
)


def delta(conf: Mapping[str, str]) -> dict[str, str]:
    """The `spark.jars*` settings that bring Delta into a session with `conf`; empty where `conf` names it already."""
    return _brought(conf, "delta-spark", DELTA_JAR, _EXCLUDED, _FILES)


def kafka(conf: Mapping[str, str]) -> dict[str, str]:
    """The same for the connector to Kafka, to be asked after `delta`."""
    return _brought(conf, "spark-sql-kafka", KAFKA_JAR, _KAFKA_EXCLUDED, _KAFKA_FILES)


def _brought(
    conf: Mapping[str, str], name: str, package: str, excluded: Sequence[str], files: Collection[str]
) -> dict[str, str]:
    """Settings that bring a package: its files where they were resolved before, else its coordinates. Raises EngineRefused where a
    file is not the one it should be."""
    jars, packages = conf.get("spark.jars", ""), conf.get("spark.jars.packages", "")
    if name in jars or name in packages:
        return {}
    resolved = _resolved(conf, files)
    if resolved:
        check(resolved)
        return {"spark.jars": _join(*map(str, resolved), jars)}
    return {
        "spark.jars.packages": _join(package, packages),
        "spark.jars.excludes": _join(*excluded, conf.get("spark.jars.excludes", "")),
    }


def _resolved(conf: Mapping[str, str], names: Collection[str]) -> list[Path]:
    """The files of an earlier resolution, none unless all of them are there."""
    home = Path(conf.get("spark.jars.ivy") or Path("~/.ivy2.5.2").expanduser())
    files = [home / "jars" / name for name in names]
    return files if all(file.is_file() for file in files) else []


def check(files: Sequence[Path]) -> None:
    """Raise EngineRefused unless each of these files, as far as its sha256 is known, is the one it should be."""
    for file in files:
        wanted, found = _FILES.get(file.name), hashlib.sha256(file.read_bytes()).hexdigest()
        if wanted not in (None, found):
            remedy = "Look where it came from; removed together with the cache folder beside it, it is fetched again."
            raise EngineRefused(f"{file} is not the jar it should be: its sha256 is {found}.", remedy=remedy, jar=str(file),
                                wanted=wanted, found=found)  # fmt: skip


def check_fetched(conf: Mapping[str, str]) -> int:
    """`check` for the files of Delta that the resolver has just brought; how many there are."""
    files = _resolved(conf, tuple(_FILES))
    check(files)
    return len(files)


def _join(*parts: str) -> str:
    return ",".join(filter(None, parts))
