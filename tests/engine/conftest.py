"""What the engine's tests share: a source of lines in a folder, and a batch cleaned and collected from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from freshet.settings import CleanSettings, SourceSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from freshet.engine.batch import CleanBatch

MTIME = 1_700_000_000  # 2023-11-14 22:13:20 UTC

Write = Callable[..., list[str]]
Read = Callable[..., "CleanBatch"]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(name, lines, mtime=...) puts a file into the source folder `in put` and returns its path in a list."""

    def put(name: str, lines: Sequence[str] | str, mtime: float = MTIME) -> list[str]:
        folder = tmp_path / "in put"
        folder.mkdir(exist_ok=True)
        path = folder / name
        text = lines if isinstance(lines, str) else "".join(f"{line}\n" for line in lines)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        os.utime(path, (mtime, mtime))
        return [str(path)]

    return put


@pytest.fixture
def read(spark: SparkSession, tmp_path: Path) -> Read:
    """read(paths, source={...}, clean={...}) cleans and collects files in one batch."""
    from freshet.engine import sources
    from freshet.engine.batch import collect
    from freshet.engine.checkpoint import Fingerprint
    from freshet.engine.clean import clean

    def get(
        paths: Sequence[str], source: dict[str, Any] | None = None, limits: dict[str, Any] | None = None
    ) -> CleanBatch:
        chosen = SourceSettings.model_validate({"path": str(tmp_path / "in put"), **(source or {})})
        records = sources.files(spark, chosen, paths)
        cleaned = clean(records, chosen, CleanSettings.model_validate(limits or {}))
        return collect(cleaned, Fingerprint("", [], MTIME * 1_000_000, list(paths)))

    return get
