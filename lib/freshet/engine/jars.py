"""The jars of Delta and of Spark's connector to Kafka: resolved once through Spark's own resolver, afterwards taken from where the
resolver left them.

A session with `spark.jars.packages` resolves at every start, which costs seconds, needs the network now and then and
prints a page; a session with the same files in `spark.jars` does none of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

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

# What is left, as the resolver names the files.
_FILES = (
    "io.delta_delta-spark_4.2_2.13-4.4.0.jar",
    "io.delta_delta-storage-4.4.0.jar",
    "io.delta_delta-kernel-api-4.4.0.jar",
    "io.delta_delta-kernel-defaults-4.4.0.jar",
    "org.roaringbitmap_RoaringBitmap-0.9.25.jar",
    "org.roaringbitmap_shims-0.9.25.jar",
    "com.fasterxml.jackson.datatype_jackson-datatype-jdk8-2.13.5.jar",
)

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
    conf: Mapping[str, str], name: str, package: str, excluded: Sequence[str], files: Sequence[str]
) -> dict[str, str]:
    """Settings that bring a package: its files where they were resolved before, else its coordinates."""
    jars, packages = conf.get("spark.jars", ""), conf.get("spark.jars.packages", "")
    if name in jars or name in packages:
        return {}
    resolved = _resolved(conf, files)
    if resolved:
        return {"spark.jars": _join(*map(str, resolved), jars)}
    return {
        "spark.jars.packages": _join(package, packages),
        "spark.jars.excludes": _join(*excluded, conf.get("spark.jars.excludes", "")),
    }


def _resolved(conf: Mapping[str, str], names: Sequence[str]) -> list[Path]:
    """The files of an earlier resolution, none unless all of them are there."""
    home = Path(conf.get("spark.jars.ivy") or Path("~/.ivy2.5.2").expanduser())
    files = [home / "jars" / name for name in names]
    return files if all(file.is_file() for file in files) else []


def _join(*parts: str) -> str:
    return ",".join(filter(None, parts))
