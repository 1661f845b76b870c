"""`freshet` in a process of its own, as a person or a scheduler starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sites import Site

LIB = Path(__file__).parents[1] / "lib"
# A process of a few micro-batches ends before the JVM's second compiler has paid for itself.
QUICK_START = "spark.driver.extraJavaOptions: -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=240m"
HOLD = """
import sys, time
from freshet.store.lock import model_lock
with model_lock(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""
PATIENCE = 300.0  # seconds after which a process hangs; a slow machine is none of a test's business


@dataclass
class Process:
    """A running command; what it says goes into files."""

    running: subprocess.Popen[bytes]
    said: Path
    folder: Path

    def code(self) -> int:
        """The exit code, once it ends; negative for the signal that ended it."""
        return self.running.wait(PATIENCE)

    def text(self) -> str:
        """All it said, for messages of failed tests and for what must be said."""
        return self.said.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, there: Callable[[], bool]) -> None:
        """Wait until something is there, or fail with what the process said."""
        until = time.monotonic() + PATIENCE
        while not there():
            assert self.running.poll() is None, self.text()
            assert time.monotonic() < until, self.text()
            time.sleep(0.1)

    def passed(self, place: str) -> None:
        """Wait until the failpoint of this name has fired."""
        self.wait_for(lambda: any((self.folder / "marks").glob(f"{place}_*")))

    def let_go(self, place: str) -> None:
        """End what holds the process at the failpoint of this name."""
        for mark in (self.folder / "marks").glob(f"{place}_hold_*"):
            mark.unlink()


def start(site: Site, name: str, *arguments: str, failpoints: str = "", sets: tuple[str, ...] = ()) -> Process:
    """Start `freshet train` on the site with the settings of its tests; `name` is that of its files."""
    folder = site.folder / name
    (folder / "marks").mkdir(parents=True)
    env = {
        **os.environ, "PYTHONPATH": str(LIB), "FRESHET_FAILPOINTS": failpoints,
        "FRESHET_FAILPOINT_MARKS": str(folder / "marks"),
    }
    given = [*site.given(), "spark.driver_memory=1g", "spark.master=local[1]", f"spark.conf={{{QUICK_START}}}", *sets]
    command = [sys.executable, "-c", "from freshet.cli import main; main()", "train", *arguments]
    command += [word for one in given for word in ("--set", one)]
    said = folder / "said.txt"
    with said.open("wb") as out:
        # A session of its own: ctrl-C goes to a whole group of processes, and this test must not be in it.
        running = subprocess.Popen(
            command, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    return Process(running, said, folder)


@contextmanager
def held(root: str, checkpoint: str = "there") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a model, and nothing else; killed in the end."""
    command = [sys.executable, "-c", HOLD, root, checkpoint]
    holder = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(LIB)}, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.wait()
