"""Settings of how Freshet runs: tables, stream, Spark, demo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from freshet.roots import local_folder
from freshet.settings.fields import Count, CountOrNone, Duration, Section, Share, Text
from freshet.settings.securing import wrong

Memory = Annotated[str, Field(pattern=r"^[1-9][0-9]*[kmgt]$")]


class StoreSettings(Section):
    """Where the model's tables are and how long their log is kept."""

    root: Text = "freshet-data/model"
    checkpoint: Text | None = None
    log_checkpoint_interval: Count = 50
    log_retention: Duration = 2592000.0
    permissions: Literal["auto", "private", "group", "inherit"] = "auto"

    @property
    def umask(self) -> int | None:
        """What is taken away from the rights of files and folders that are created; None: what the process was started with."""
        if self.permissions == "auto":
            return _as_it_is(self.root)
        return {"private": 0o077, "group": 0o027}.get(self.permissions)

    @property
    def checkpoint_path(self) -> str:
        """Folder of the streaming checkpoint: as set, else `_checkpoint` under the root."""
        return self.checkpoint or f"{self.root.rstrip('/')}/_checkpoint"


def _as_it_is(root: str) -> int | None:
    """The umask for a model that is private when it is new, and then stays as open as its folder is."""
    folder = local_folder(root)
    if folder is None:
        return None  # elsewhere others say who may read
    try:
        found = folder.stat()
    except OSError:
        return 0o077
    if found.st_uid != os.geteuid() or found.st_mode & 0o005:
        return None  # what another user left unreadable in somebody's model would stop its learner
    return 0o027 if found.st_mode & 0o050 else 0o077


class StreamSettings(Section):
    """When a micro-batch starts, and where its shards learn."""

    trigger: Duration = 1.0
    backfill_span: Duration = 86_400.0
    placement: Literal["auto", "driver", "executors"] = "auto"
    executor_min_events: Count = 1_000_000
    progress: Literal["table", "json"] = "table"
    prometheus_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    prometheus_host: Text = "127.0.0.1"


class SparkSettings(Section):
    """The Spark session; `conf` goes to the builder as it is."""

    _place: ClassVar[tuple[str, ...]] = ("spark",)

    master: Text = "local[*]"
    app_name: Text = "freshet"
    driver_memory: Memory = "4g"
    conf: Mapping[str, str] = {}
    secure: bool = False
    secret_file: Text | None = None

    @model_validator(mode="after")
    def _secured(self) -> Self:
        error = wrong(self.master, self.conf, self.secure, self.secret_file)
        if error is not None:
            raise error
        return self


class DemoSettings(Section):
    """The event generator of `freshet demo`."""

    out: Text = "freshet-demo"
    users: Count = 2000
    items: Count = 500
    events: Count = 120_000
    events_per_second: Count = 2000
    dirt: Share = 0.01
    drift_at: Share = 0.5
    seed: CountOrNone = 7
