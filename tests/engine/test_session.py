"""The session obeys its settings, or says which one it does not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from freshet.engine import jars
from freshet.engine.session import REQUIRED, check_session, configuration, cores_of
from freshet.errors import EngineRefused
from freshet.settings import SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.parametrize(
    ("master", "cores"),
    [
        ("local", 1), ("local[3]", 3), ("local[2,3]", 2), ("local[*]", os.cpu_count()),
        ("local-cluster[2,3,1024]", 6), ("spark://host:7077", None), ("yarn", None),
    ],
)  # fmt: skip
def test_cores_of_a_master(master: str, cores: int | None) -> None:
    assert cores_of(master) == cores


def test_settings_have_the_last_word() -> None:
    conf = configuration(SparkSettings(master="local[2]", conf={"spark.ui.enabled": "true", "spark.x": "1"}))
    assert conf["spark.ui.enabled"] == "true"
    assert conf["spark.x"] == "1"
    assert conf["spark.sql.shuffle.partitions"] == "2"


def test_options_of_a_local_disk_stay_on_one_machine() -> None:
    assert "spark.delta.logStore.file.impl" in configuration(SparkSettings(master="local[2]"))
    assert "spark.delta.logStore.file.impl" not in configuration(SparkSettings(master="spark://host:7077"))


def test_delta_comes_from_the_resolver_or_from_where_it_left_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(jars._FILES)
    monkeypatch.setattr(jars, "_FILES", dict.fromkeys(names, hashlib.sha256(b"").hexdigest()))
    conf = {"spark.jars.ivy": str(tmp_path), "spark.jars": "mine.jar", "spark.jars.packages": "my:package:1"}
    assert jars.delta(conf)["spark.jars.packages"] == f"{jars.DELTA_JAR},my:package:1"
    (tmp_path / "jars").mkdir()
    for name in names:
        (tmp_path / "jars" / name).touch()
    found = jars.delta(conf)
    assert found["spark.jars"].endswith(",mine.jar")
    assert "delta-spark" in found["spark.jars"]
    (tmp_path / "jars" / names[-1]).unlink()  # half a resolution is none
    assert "spark.jars" not in jars.delta(conf)


def test_delta_named_by_the_settings_is_left_alone() -> None:
    assert jars.delta({"spark.jars": "/somewhere/delta-spark_4.2_2.13-4.4.0.jar"}) == {}


def test_a_sound_session_passes(spark: SparkSession) -> None:
    check_session(spark)


@pytest.mark.parametrize("setting", [name for name in REQUIRED if not name.startswith("spark.hadoop.")])
def test_a_session_that_hides_damage_is_refused(spark: SparkSession, setting: str) -> None:
    other = spark.newSession()
    other.conf.set(setting, "Asia/Tokyo" if REQUIRED[setting] == "UTC" else str(REQUIRED[setting] != "true").lower())
    with pytest.raises(EngineRefused) as refused:
        check_session(other)
    assert refused.value.facts["setting"] == setting


def test_page_checksums_are_asserted(spark: SparkSession) -> None:
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("parquet.page.verify-checksum.enabled", "false")
    try:
        with pytest.raises(EngineRefused, match=r"verify-checksum"):
            check_session(spark)
    finally:
        hadoop.set("parquet.page.verify-checksum.enabled", "true")
