"""One learner per model: an operating-system lock on a file under the model's root.

The lock is the kernel's (flock): it ends with the process, however that ends, so there is nothing stale to clean up.
Only a root on local disk can be locked. On any other root nothing is locked here and epochs alone keep two learners
apart (store.commit): the second is not refused at its start, it fences the first, which stops at its next commit.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from freshet.errors import AlreadyRunning
from freshet.failpoint import failpoint
from freshet.roots import cannot_hold, local_folder

LOCK_FILE = "_learner.lock"
GLANCE = 0.1  # seconds


@contextmanager
def model_lock(root: str, checkpoint: str = "", force: bool = False) -> Iterator[None]:
    """Hold the model under `root` while the context is open; the file says who holds it (pid, host, since, checkpoint).

    Raises AlreadyRunning (`root`, `holder`) when anybody holds it, this process included. With `force` a held lock is
    passed over: the other learner is fenced by this one's epoch at its next commit.
    """
    folder = local_folder(root)
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # An open file description of its own each time: flock then tells two takers apart in one process too.
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot_hold(root, error.strerror or str(error)) from error
    try:
        held = _take(handle)
        if not held and not force:
            raise _refused(root, _holder(handle))
        _write(handle, checkpoint)
        failpoint("lock_written", path=folder / LOCK_FILE)
        try:
            yield
        finally:
            if held:
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)  # and with it the lock goes


def holder_of(root: str) -> str | None:
    """Who holds the model, in words; None when nobody does. Takes nothing but a glance: a start at this moment is not refused."""
    folder = local_folder(root)
    if folder is None or not (folder / LOCK_FILE).exists():
        return None
    handle = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _refused(root, _holder(handle)).what
        fcntl.flock(handle, fcntl.LOCK_UN)
        return None
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    """Whether the lock could be had, within the moment that somebody's glance at it may take."""
    until = time.monotonic() + GLANCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(GLANCE / 10)
        else:
            return True


def _write(handle: int, checkpoint: str) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "checkpoint": checkpoint}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(holder).encode(), 0)


def _holder(handle: int) -> dict[str, Any]:
    """What the file says; empty when it was read before its holder had written it."""
    try:
        found = json.loads(os.pread(handle, 10_000, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refused(root: str, holder: dict[str, Any]) -> AlreadyRunning:
    who = "another learner"
    if holder:
        who = f"the learner with pid {holder.get('pid')} on {holder.get('host')}, running since {holder.get('since')}"
    return AlreadyRunning(
        f"The model under {root} is held by {who}.",
        remedy="Stop that one first, or start another model in another store.root.", root=root, holder=holder,
    )
