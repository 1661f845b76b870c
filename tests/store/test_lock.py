"""One holder per root, told apart by the kernel."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from processes import held

from freshet.errors import AlreadyRunning
from freshet.store import lock
from freshet.store.lock import LOCK_FILE, model_lock


def test_a_second_taker_in_the_same_process_is_refused_with_the_holder(tmp_path: Path) -> None:
    with model_lock(str(tmp_path), "checkpoint"), pytest.raises(AlreadyRunning) as caught, model_lock(str(tmp_path)):
        raise AssertionError("two holders")
    assert caught.value.facts["holder"]["pid"] == os.getpid()  # type: ignore[index]
    assert caught.value.facts["holder"]["checkpoint"] == "checkpoint"  # type: ignore[index]
    with model_lock(str(tmp_path)):
        pass


def test_a_killed_holder_leaves_nothing_behind(tmp_path: Path) -> None:
    with held(str(tmp_path)) as holder:
        with pytest.raises(AlreadyRunning) as caught, model_lock(str(tmp_path)):
            raise AssertionError("two holders")
        assert caught.value.facts["holder"]["pid"] == holder.pid  # type: ignore[index]
    with model_lock(str(tmp_path)):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_a_glance_at_the_lock_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "GLANCE", 30.0)  # the other thread may wait for its turn
    (tmp_path / LOCK_FILE).write_text('{"pid": 1}', encoding="utf-8")  # of somebody who was killed
    glance = os.open(tmp_path / LOCK_FILE, os.O_RDONLY)
    fcntl.flock(glance, fcntl.LOCK_SH)
    over = threading.Timer(0.2, lambda: os.close(glance))
    over.start()
    with model_lock(str(tmp_path)):
        over.join()


def test_force_takes_over_and_the_lock_stays_with_the_first(tmp_path: Path) -> None:
    with model_lock(str(tmp_path)):
        with model_lock(str(tmp_path), force=True):
            pass
        with pytest.raises(AlreadyRunning), model_lock(str(tmp_path)):
            raise AssertionError("two holders")


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    with model_lock(f"file:{tmp_path}/deep/er"):
        mode = (tmp_path / "deep/er" / LOCK_FILE).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_elsewhere_nothing_is_locked() -> None:
    with model_lock("s3a://bucket/model"), model_lock("s3a://bucket/model"):
        pass
