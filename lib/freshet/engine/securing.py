"""What keeps a session's ports, passwords and files from others: loopback, the secret of `spark.secure`, no password on a command
line, and files of the JVM with the rights that this process gives its own."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from pyspark import SparkConf, SparkContext

from freshet.errors import EngineRefused
from freshet.settings.secrets import is_secret, redacted
from freshet.settings.securing import SECRET

LOOPBACK = "127.0.0.1"
_ADDRESSES = ("spark.driver.bindAddress", "spark.driver.host")
_IS_PATH = re.compile(r"(?i)(keytab|keystore|truststore)$")  # read before Spark starts, and no secret
# Names whose values Spark blanks in its UI, in an event log and in SET: those that stand for secrets in our settings.
_NAMES = "secret|password|token|key|jaas|credential"
_ADDRESS = r"://[^/@\s]+@|[^\s/@:]+:[^\s/@]+@"  # one with a password in it: Spark asks of values too
REDACTION = {
    "spark.redaction.regex": f"(?i){_NAMES}|{_ADDRESS}",
    "spark.sql.redaction.options.regex": f"(?i)url|{_NAMES}",
}


def loopback(conf: Mapping[str, str]) -> dict[str, str]:
    """Where the driver of a master on this machine listens, if `conf` does not say: Spark's own default is the address that other
    machines see, and whoever reaches that port may hand it objects."""
    return {} if any(name in conf for name in _ADDRESSES) else dict.fromkeys(_ADDRESSES, LOOPBACK)


def before_java() -> None:
    """Spark's UI, and processes of a local-cluster, listen where this says and nowhere else; no setting is asked."""
    os.environ.setdefault("SPARK_LOCAL_IP", LOOPBACK)


def rights(umask: int | None) -> dict[str, str]:
    """Hadoop has a mask of its own for what it creates, which knows nothing of that of the process; None: it keeps its own."""
    return {} if umask is None else {"spark.hadoop.fs.permissions.umask-mode": f"{umask:03o}"}


def secret(master: str, secret_file: str | None, conf: Mapping[str, str]) -> dict[str, str]:
    """The secret of a secure session, where Spark does not make one itself (it does for local, YARN and Kubernetes)."""
    if secret_file is not None:
        return {SECRET: _read(Path(secret_file).expanduser())}
    if master.startswith("local-cluster") and SECRET not in conf:
        return {SECRET: secrets.token_hex(32)}
    return {}


def _read(file: Path) -> str:
    try:
        mode, text = file.stat().st_mode, file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise _refused(file, f"cannot be read: {reason}", "It is to hold the secret of the cluster.") from error
    if stat.S_IMODE(mode) & 0o077:
        raise _refused(file, "is open to others", f"chmod 600 {file}")
    if len(text) < 16:
        raise _refused(file, "holds fewer than 16 characters", "Make one with `openssl rand -hex 32`, for the workers as well.")
    return text


def _refused(file: Path, what: str, remedy: str) -> EngineRefused:
    return EngineRefused(f"spark.secret_file {file} {what}.", remedy=remedy, setting="spark.secret_file", path=str(file))


def start_java(conf: Mapping[str, str], master: str, name: str) -> None:
    """Start the JVM, unless it runs, with the settings that may be seen: pyspark puts all it is given on a command line, which
    every user of the machine can read. The rest is told when the session is made."""
    public = SparkConf(loadDefaults=False).setMaster(master).setAppName(name)  # spark-submit goes by the master
    for key, value in conf.items():
        if not is_hidden(key, value):
            public.set(key, value)
    SparkContext._ensure_initialized(conf=public)


def is_hidden(name: str, value: str) -> bool:
    """Whether a setting of Spark holds a secret: by its name, or an address with a password in it."""
    path = ("spark", "conf", name)
    by_name = is_secret(path) and not _IS_PATH.search(name) and name not in REDACTION
    # What brings jars, and what Java itself is told, is read as Java starts and never again.
    needed = name.startswith(("spark.jars", "spark.driver.extra"))
    return by_name or (redacted(value, path) != value and not is_secret(path) and not needed)
