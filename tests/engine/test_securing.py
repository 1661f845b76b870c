"""Who may reach a session: ports on loopback, a secret that is in no command line, files with the rights of the process."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from machine import listening, needs_proc

from freshet.engine import jars, securing
from freshet.engine.session import configuration
from freshet.errors import EngineRefused
from freshet.settings import SparkSettings
from freshet.settings.secrets import is_secret
from freshet.settings.securing import SECRET, SECURED

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CLUSTER = "spark://host:7077"


def test_a_driver_on_this_machine_listens_on_loopback_unless_told_otherwise() -> None:
    assert configuration(SparkSettings(master="local[2]"))["spark.driver.host"] == securing.LOOPBACK
    assert configuration(SparkSettings(master="local-cluster[2,1,1024]"))["spark.driver.bindAddress"] == securing.LOOPBACK
    told = configuration(SparkSettings(master="local", conf={"spark.driver.host": "here"}))
    assert told["spark.driver.host"] == "here" and "spark.driver.bindAddress" not in told
    assert "spark.driver.host" not in configuration(SparkSettings(master=CLUSTER))  # executors elsewhere must reach it


def test_one_switch_sets_authentication_and_encryption() -> None:
    plain, secure = (configuration(SparkSettings(master="local", secure=on)) for on in (False, True))
    assert not set(SECURED) & set(plain)
    assert SECURED.items() <= secure.items() and secure["spark.ui.enabled"] == "false"
    given = {"spark.network.crypto.cipher": "AES/CTR/NoPadding"}
    assert configuration(SparkSettings(master="local", secure=True, conf=given)).items() >= given.items()


def test_the_secret_is_made_by_spark_or_by_us_or_read(tmp_path: Path) -> None:
    assert securing.secret("local[2]", None, {}) == securing.secret("yarn", None, {}) == {}
    made = [securing.secret("local-cluster[1,1,1024]", None, {})[SECRET] for _ in range(2)]
    assert made[0] != made[1] and len(made[0]) == 64
    file = tmp_path / "secret"
    file.write_text(f"{made[0]}\n", encoding="utf-8")
    file.chmod(0o600)
    assert securing.secret(CLUSTER, str(file), {}) == {SECRET: made[0]}


@pytest.mark.parametrize(("text", "mode", "said"), [(None, 0, "cannot be read"), (64 * "a", 0o640, "open to others"), ("a", 0o600, "fewer than 16")])
def test_a_file_that_keeps_no_secret_is_refused(tmp_path: Path, text: str | None, mode: int, said: str) -> None:
    file = tmp_path / "secret"
    if text is not None:
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
    with pytest.raises(EngineRefused, match=said) as refused:
        securing.secret(CLUSTER, str(file), {})
    assert 64 * "a" not in str(refused.value)


HIDDEN = {
    SECRET: "canary", "spark.hadoop.fs.s3a.secret.key": "canary", "spark.ssl.keyStorePassword": "canary",
    "spark.hadoop.fs.defaultFS": "hdfs://ann:canary@host", "spark.redis.auth": "ann:canary@host",
}  # fmt: skip
SEEN = {
    "spark.driver.memory": "1g", "spark.kerberos.keytab": "/etc/ann.keytab", "spark.ssl.keyStore": "/etc/store",
    "spark.driver.extraJavaOptions": "-Dstore=abfss://box@account -Xss8m", "spark.jars.repositories": "https://ann@host/maven", **securing.REDACTION,
}  # fmt: skip


def test_what_java_is_started_with_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyspark puts it on a command line, which everybody on the machine may read."""
    given: list[Any] = []
    monkeypatch.setattr("freshet.engine.securing.SparkContext._ensure_initialized", lambda conf: given.append(dict(conf.getAll())))
    securing.start_java({**HIDDEN, **SEEN}, "yarn", "mine")
    assert given == [{**SEEN, "spark.master": "yarn", "spark.app.name": "mine"}]


def test_spark_blanks_what_we_blank() -> None:
    conf = configuration(SparkSettings(master="local"))
    pattern = re.compile(conf["spark.redaction.regex"])
    for name in ("spark.a.secret", "spark.Password", "spark.token", "spark.fs.access.key", "spark.kafka.jaas", "spark.credentials"):
        assert pattern.search(name) and is_secret(("spark", "conf", name)), name
    assert not pattern.search("spark.driver.memory")


def test_a_changed_jar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = {"spark.jars.ivy": str(tmp_path)}
    (tmp_path / "jars").mkdir()
    for name in jars._FILES:
        (tmp_path / "jars" / name).write_bytes(b"something else")
    with pytest.raises(EngineRefused, match="is not the jar it should be"):
        jars.delta(conf)
    with pytest.raises(EngineRefused):
        jars.check_fetched(conf)
    nothing = hashlib.sha256(b"something else").hexdigest()
    monkeypatch.setattr(jars, "_FILES", dict.fromkeys(jars._FILES, nothing))
    assert jars.check_fetched(conf) == len(jars._FILES) and "spark.jars" in jars.delta(conf)


@needs_proc
@pytest.mark.spark
def test_nothing_of_a_session_listens_beyond_loopback(spark: SparkSession) -> None:
    """Driver, block manager, gateway to Java and Python's side of it; Spark's UI is off."""
    assert spark.sparkContext.parallelize(range(4), 2).map(lambda number: number + 1).sum() == 10  # a worker is up
    found = listening(os.getpid())
    assert len(found) >= 3
    assert {address for address in found if not address.is_loopback} == set()
    assert spark.sparkContext.uiWebUrl is None
    gateway = spark.sparkContext._gateway
    assert gateway is not None and gateway.gateway_parameters.auth_token


@needs_proc
def test_a_port_beyond_loopback_would_be_seen() -> None:
    with socket.socket() as one:
        one.bind(("0.0.0.0", 0))
        one.listen()
        assert any(not address.is_loopback for address in listening(os.getpid()))


def test_hadoop_is_told_of_a_mask_only_where_there_is_one() -> None:
    assert securing.rights(0o077) == {"spark.hadoop.fs.permissions.umask-mode": "077"} and securing.rights(None) == {}
