"""The second part of the soak: one process, thousands of micro-batches, sampled from outside while it runs.

`freshet train --available-now`, default settings, over files with some dirt in them; `freshet maintain` from a process of its
own every 250 micro-batches, carried out by the learner. Slopes are per 1,000 micro-batches after the first tenth (Theil-Sen,
95 % by leaving out stretches); a figure is flat when the whole interval is within its bound. Java's objects and
temporary files are counted after full collections, which are asked for nine times; between these its memory may fill up to its heap. Micro-batches beside
maintenance and those counts are left out of the times. Memory of Python stands without what the model itself takes (Head.nbytes).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

from watched import committed, end, ended, java_look, look, start, under, write_events

POLL = 0.25
PATIENCE = 6 * 3600.0
LOOKS, COUNTS = 100, 9  # looks at the process in a run, counts of Java's objects
MAINTAIN_EVERY = 250


@dataclass
class Told:
    """What was seen of a run. Times are seconds since 1970; `aside` are spans in which others used the machine."""

    folder: Path
    batches: int
    seconds: float = 0.0
    looks: list[dict[str, float]] = field(default_factory=list)
    counts: list[dict[str, float]] = field(default_factory=list)
    requests: list[dict[str, float]] = field(default_factory=list)
    aside: list[tuple[float, float]] = field(default_factory=list)
    left: int = 0  # temporary files after the end

    @property
    def model(self) -> Path:
        return self.folder / "model"


def run(folder: Path, batches: int, events: int, seed: int) -> Told:
    """Run it, or take what an earlier run has written; one that was ended halfway begins anew, for it is one process."""
    folder = folder / f"endurance-{batches}x{events}-{seed}"
    told, kept = Told(folder, batches), folder / "told.json"
    if kept.exists():
        print(f"endurance: taken from {kept}", flush=True)
        return Told(folder, **json.loads(kept.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model", "temporary"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "temporary").mkdir()
    write_events(folder / "events", batches, events, seed)
    print(f"endurance: {batches} files of {events} events, one process", flush=True)
    Watch(told).follow()
    told.left = under(folder / "temporary")[0]
    kept.write_text(json.dumps({name: value for name, value in asdict(told).items() if name != "folder"}))
    return told


class Watch:
    """One learner, looked at, counted and asked for maintenance while it runs."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._sets = {"store.root": told.model, "source.path": told.folder / "events", "source.event_types": "[click]"}
        self._asking: subprocess.Popen[bytes] | None = None
        self._every = min(MAINTAIN_EVERY, max(1, told.batches // 4))
        self._first: tuple[int, float] | None = None
        self._next = {"look": 1, "count": max(1, told.batches // 10), "maintain": self._every, "say": 0}

    def follow(self) -> None:
        """From its start to its end; raises RuntimeError with its last words when it fails."""
        folder, begun = self._told.folder, time.time()
        temporary, said = folder / "temporary", folder / "learner.err"
        # Folders of its own for what is temporary, or that of everybody else would be counted too.
        conf = {"spark.conf.spark.driver.extraJavaOptions": f"-Djava.io.tmpdir={temporary}"}
        more = {"TMPDIR": str(temporary), "SPARK_LOCAL_DIRS": str(temporary)}
        with ExitStack() as stack:
            learner = stack.enter_context(ended(start(["train", "--available-now"], self._sets | conf, said, more)))
            stack.callback(lambda: self._asking and end(self._asking))
            while learner.poll() is None:
                self._answered()
                self._once(learner.pid, committed(self._told.model))
                if time.time() - begun > PATIENCE:
                    raise TimeoutError(f"the learner did not end within {PATIENCE:g} seconds")
                time.sleep(POLL)
        self._told.seconds = time.time() - begun
        if learner.returncode != 0:
            raise RuntimeError(said.read_text(errors="replace")[-2000:])

    def _once(self, pid: int, done: int) -> None:
        told = self._told
        if done >= told.batches:  # it is ending, and lets go of what it has
            return
        if self._due("look", done, max(1, told.batches // LOOKS)):
            told.looks.append({"batch": done, **look(pid, told.model, told.folder / "temporary")})
        if self._due("count", done, max(1, round(told.batches * 0.88 / (COUNTS - 1)))):
            before = time.time()
            counted = java_look(pid)
            told.counts.append({"batch": done, **counted, "temporary": under(told.folder / "temporary")[0]})
            told.aside.append((before, time.time()))
        if self._asking is None and self._due("maintain", done, self._every):
            told.requests.append({"batch": done, "since": time.time(), "until": time.time(), "failed": 1.0})
            self._asking = start(["maintain"], self._sets, told.folder / "maintain.err")
        if done and self._first is None:
            self._first = (done, time.time())  # the start is no part of the pace
        if self._first is not None and done > self._first[0] and self._due("say", done, 100):
            pace = (time.time() - self._first[1]) / (done - self._first[0])
            left = timedelta(seconds=round(pace * (told.batches - done)))
            print(f"{done} of {told.batches} micro-batches; about {left} left", flush=True)

    def _answered(self) -> None:
        if self._asking is not None and self._asking.poll() is not None:
            self._told.requests[-1] |= {"until": time.time(), "failed": float(self._asking.returncode != 0)}
            self._asking = None

    def _due(self, what: str, done: int, step: int) -> bool:
        if done < self._next[what]:
            return False
        self._next[what] += step * (1 + (done - self._next[what]) // step)
        return True
