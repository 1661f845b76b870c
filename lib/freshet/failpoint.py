"""Named places where a test can hurt the program: no-ops unless the environment arms them.

    FRESHET_FAILPOINTS="name:action:when[,name:action:when]"

`action` is `kill9`, `raise`, `enospc` (the error of a full disk), `torn`, `sleep<seconds>` or `hold`; `when` is the n-th
time the place is passed (1 is the first), or `@key` for the pass with that key (a batch id). `torn` is for places that have
just written a file: half of it goes, and the process with it, as when the power fails before a disk has it all.

One shot: with FRESHET_FAILPOINT_MARKS set to a folder, a failpoint that has fired leaves a file there and never fires again,
so that a restarted process lives. `hold` waits there until that file is taken away.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

_passed: dict[str, int] = {}


class Injected(RuntimeError):
    """Raised by a failpoint whose action is `raise`."""


def failpoint(name: str, key: object = None, path: Path | None = None) -> None:
    """Do nothing, or what the environment asks of the place called `name` (see the module); `path`: the file written there."""
    armed = os.environ.get("FRESHET_FAILPOINTS")
    if not armed:
        return
    _passed[name] = _passed.get(name, 0) + 1
    for entry in armed.split(","):
        place, action, when = entry.split(":")
        hit = when == f"@{key}" if when.startswith("@") else int(when) == _passed[name]
        mark = _mark(entry)
        if place == name and hit and not (mark and mark.exists()):
            if mark:
                mark.touch()
            _act(name, action, path, mark)


def _mark(entry: str) -> Path | None:
    folder = os.environ.get("FRESHET_FAILPOINT_MARKS")
    return Path(folder) / entry.replace(":", "_").replace("@", "at") if folder else None


def _act(name: str, action: str, path: Path | None, mark: Path | None) -> None:
    if action == "raise":
        raise Injected(f"failpoint {name}")
    if action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"failpoint {name}")
    if action.startswith("sleep"):
        time.sleep(float(action.removeprefix("sleep")))
        return
    if action == "hold" and mark is not None:
        while mark.exists():
            time.sleep(0.05)
        return
    if action == "torn" and path is not None:
        os.truncate(path, path.stat().st_size // 2)
    elif action != "kill9":
        raise ValueError(f"failpoint {name} cannot {action}")  # a test that would otherwise test nothing
    os.kill(os.getpid(), signal.SIGKILL)
