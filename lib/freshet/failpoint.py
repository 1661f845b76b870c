"""Named places where a test can hurt the program: no-ops unless the environment arms them.

    FRESHET_FAILPOINTS="name:action:when[,name:action:when]"

`action` is `kill9`, `raise` or `sleep<seconds>`; `when` is the n-th time the place is passed (1 is the first), or
`@key` for the pass with that key (a batch id). One shot: with FRESHET_FAILPOINT_MARKS set to a folder, a failpoint that
has fired leaves a file there and never fires again, so that a restarted process lives.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_passed: dict[str, int] = {}


class Injected(RuntimeError):
    """Raised by a failpoint whose action is `raise`."""


def failpoint(name: str, key: object = None) -> None:
    """Do nothing, or what the environment asks of the place called `name` (see the module)."""
    armed = os.environ.get("FRESHET_FAILPOINTS")
    if not armed:
        return
    _passed[name] = _passed.get(name, 0) + 1
    for entry in armed.split(","):
        place, action, when = entry.split(":")
        hit = when == f"@{key}" if when.startswith("@") else int(when) == _passed[name]
        if place == name and hit and _first_time(entry):
            _act(name, action)


def _first_time(entry: str) -> bool:
    folder = os.environ.get("FRESHET_FAILPOINT_MARKS")
    if not folder:
        return True
    mark = Path(folder) / entry.replace(":", "_").replace("@", "at")
    if mark.exists():
        return False
    mark.touch()
    return True


def _act(name: str, action: str) -> None:
    if action == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action.startswith("sleep"):
        time.sleep(float(action.removeprefix("sleep")))
    else:
        raise Injected(f"failpoint {name}")
