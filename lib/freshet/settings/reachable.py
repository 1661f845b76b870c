"""Whether the source is there, asked before Spark starts: only where a look at this machine's disk can tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from freshet.settings.layers import Origins, shown
from freshet.settings.model import Settings
from freshet.settings.problems import Problem, refuse

_FILE = re.compile(r"file:(?://[^/]*)?(/.*)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PATTERN = re.compile(r"[\[\]{}*?\\]")
# With these a path without a scheme may lead to another file system than this machine's.
_ELSEWHERE = ("PYSPARK_GATEWAY_PORT", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR")


def check_source(settings: Settings, origins: Origins, env: Mapping[str, str]) -> None:
    """Raise SettingsError when source.path is a place on this machine's disk and nothing is there."""
    path = settings.source.path if settings.source.format != "kafka" else None
    place = None if path is None else on_this_disk(path, settings, env)
    if place is None or place.exists():
        return
    at = "" if place.is_absolute() else f" in {Path.cwd()}"
    wanted = "a Delta table" if settings.source.format == "delta" else f"a folder of {settings.source.format} files"
    key = "source.path"
    refuse([Problem(key, origins.get(key, ""), f"{shown(path, ('source', 'path'))}, and nothing is there{at}", wanted)])


def on_this_disk(path: str, settings: Settings, env: Mapping[str, str]) -> Path | None:
    """The one place on this machine's disk that Spark will read, None for a pattern, and where only Spark can tell."""
    if _PATTERN.search(path):
        return None
    local = _FILE.fullmatch(path)
    if local is not None:
        return Path(local[1])
    spark = settings.spark
    elsewhere = not spark.master.startswith("local") or "spark.hadoop.fs.defaultFS" in spark.conf
    return None if _SCHEME.match(path) or elsewhere or any(env.get(name) for name in _ELSEWHERE) else Path(path)
