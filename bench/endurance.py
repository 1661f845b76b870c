"""The second part of the soak: one process, thousands of micro-batches, sampled from outside while it runs.

`freshet train --available-now`, default settings, over files with some dirt in them; `freshet maintain` from a process of its
own every 250 micro-batches, carried out by the learner. Slopes are per 1,000 micro-batches after the first tenth (Theil-Sen,
95 % by leaving out stretches); a figure is flat when the whole interval is within its bound. Java's objects are counted after
a full collection, which is asked for five times; between these its memory may fill up to its heap. Micro-batches beside
maintenance and those counts are left out of the times. Memory of Python stands without what the model itself takes (Head.nbytes).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import tracemalloc
from bisect import bisect_left, bisect_right
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bars import MOST, Bar, Bars
from figures import Figure, Result, Table, missing, shown
from flatness import UNIT, Trend, blocks, trend
from watched import MB, committed, end, ended, java_look, look, start, under, write_events

POLL = 0.25
PATIENCE = 6 * 3600.0
LOOKS, COUNTS = 100, 5  # looks at the process in a run, counts of Java's objects
MAINTAIN_EVERY = 250
ENOUGH = 500  # micro-batches: a shorter run shows figures and is held against nothing
HEADROOM = 1024.0  # MB that Java may take beside its heap
BARS = {
    "endurance.learned": Bar(0, MOST, "nothing is lost and no micro-batch learned twice"),
    "endurance.seconds": Bar(0.1, MOST, "a micro-batch costs what it holds, not what came before"),
    "endurance.mean": Bar(0.1, MOST, "slow ones neither get slower nor more"),
    "endurance.handles": Bar(10, MOST, "a leak in one micro-batch of a hundred would be seen"),
    "endurance.threads": Bar(10, MOST, "as for handles"),
    "endurance.live": Bar(0.1, MOST, "Java keeps nothing of past micro-batches but the tables' logs"),
    "endurance.java": Bar(1, MOST, "Java stays within its heap and a gigabyte"),
    "endurance.python": Bar(20, MOST, "MB; versions are remembered, 5 KB each"),
    "endurance.files": Bar(0.1, MOST, "each micro-batch adds the same number of files"),
    "endurance.temporary": Bar(10, MOST, "as for handles"),
    "endurance.left": Bar(0, MOST, "a process takes its temporary files with it"),
}


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
        self._first: tuple[int, float] | None = None
        self._next = {"look": 1, "count": max(1, told.batches // 10), "maintain": MAINTAIN_EVERY, "say": 0}

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
                self._once(learner.pid, committed(self._told.model))
                if time.time() - begun > PATIENCE:
                    raise TimeoutError(f"the learner did not end within {PATIENCE:g} seconds")
                time.sleep(POLL)
        self._told.seconds = time.time() - begun
        if learner.returncode != 0:
            raise RuntimeError(said.read_text(errors="replace")[-2000:])

    def _once(self, pid: int, done: int) -> None:
        told = self._told
        if self._due("look", done, max(1, told.batches // LOOKS)):
            told.looks.append({"batch": done, **look(pid, told.model, told.folder / "temporary")})
        if self._due("count", done, max(1, round(told.batches * 0.88 / (COUNTS - 1)))):
            before = time.time()
            told.counts.append({"batch": done, **java_look(pid)})
            told.aside.append((before, time.time()))
        if self._asking is not None and self._asking.poll() is not None:
            told.requests[-1]["until"] = time.time()
            told.requests[-1]["failed"] = float(self._asking.returncode != 0)
            self._asking = None
        if self._asking is None and self._due("maintain", done, MAINTAIN_EVERY):
            told.requests.append({"batch": done, "since": time.time(), "until": time.time(), "failed": 1.0})
            self._asking = start(["maintain"], self._sets, told.folder / "maintain.err")
        if done and self._first is None:
            self._first = (done, time.time())  # the start is no part of the pace
        if self._first is not None and done > self._first[0] and self._due("say", done, 100):
            pace = (time.time() - self._first[1]) / (done - self._first[0])
            left = timedelta(seconds=round(pace * (told.batches - done)))
            print(f"{done} of {told.batches} micro-batches; about {left} left", flush=True)

    def _due(self, what: str, done: int, step: int) -> bool:
        if done < self._next[what]:
            return False
        self._next[what] += step * (1 + (done - self._next[what]) // step)
        return True


@dataclass
class Found:
    """What the run has left behind: its snapshot rows, bytes of the model and of its history by version, what lies on disk."""

    rows: list[Any]
    model: list[dict[str, float]]
    history: float
    tables: list[list[str]]


def found(told: Told) -> Found:
    """Open the model as it stood at four moments, and look at its tables."""
    from streams import session

    from freshet.pipelines.assembly import new_learner
    from freshet.pipelines.opening import load_head, load_memory, open_reading
    from freshet.settings import load
    from freshet.store.snapshots import History
    from freshet.store.tables import Tables

    spark = session()
    settings = load([], {}, [f"store.root={told.model}", f"source.path={told.folder / 'events'}"])[0]
    tracemalloc.start()
    history = History.load(Tables(spark, str(told.model)))
    remembered = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    learned = [row for row in history.live() if row.kind == "learn"]
    model = []
    for at in np.unique(np.linspace(len(learned) // 10, len(learned) - 1, 4).astype(int)):
        reading = open_reading(spark, settings, learned[at].version)
        head = load_head(reading, settings, new_learner(settings))
        load_memory(head, reading, settings)
        model.append({"batch": float(at + 1), "bytes": head.nbytes / MB, "rows": len(head), "seen": len(head.seen)})
    return Found(history.live(), model, remembered / MB, on_disk(told.model, Tables(spark, str(told.model))))


def on_disk(model: Path, tables: Any) -> list[list[str]]:
    """What lies under the root, folder by folder."""
    rows = [["folder", "files", "MB", "of these in its log", "data files of the newest version"]]
    for folder in sorted(path for path in model.iterdir() if path.is_dir()):
        log = folder / "_delta_log"
        (files, size), (logged, _) = under(folder), under(log)
        newest = f"{tables.file_count(folder.name):,}" if log.exists() else ""
        rows.append([folder.name, f"{files:,}", shown(size / MB), f"{logged:,}" if log.exists() else "", newest])
    return rows


def judge(told: Told) -> tuple[Result, Bars]:
    """Figures with what they are held against; a short run against nothing but its digest."""
    after = found(told)
    result, held = Result(" ".join((__doc__ or "").split("\n\n")[1].split())), told.batches >= ENOUGH
    learned = [row for row in after.rows if row.kind == "learn"]
    gaps, stages = paces(told, after.rows)
    trends = {**timed(told, gaps), **looked(told, after)}
    lost = abs(len(learned) - told.batches) + abs(len({row.batch_id for row in learned}) - told.batches)
    result.figures.append(Figure("endurance.learned", "micro-batches lost or learned twice", float(lost), digits=1,
                                 beside=f"{len(learned):,} of {told.batches:,}; {told.seconds:.0f} s"))
    result.figures += [figure(name, what, unit, share, trends[name]) for name, (what, unit, share) in JUDGED.items()]
    heap = heap_limit()
    most = max((one["java"] for one in told.looks), default=float("nan"))
    result.figures += [
        Figure("endurance.java", "most that Java ever took, over its heap and a gigabyte", most / (heap + HEADROOM),
               beside=f"{shown(most)} MB, heap {shown(heap)} MB"),
        Figure("endurance.left", "temporary files that outlive the process", float(told.left)),
    ]
    result.tables = tables_of(told, after, trends, stages)
    short = ("endurance.learned",)
    return result, Bars({name: bar for name, bar in BARS.items() if held or name in short})


# Figure -> what it says, its unit, whether its slope is told as a share of its level.
JUDGED = {
    "endurance.seconds": ("growth of the seconds of a micro-batch, medians", "s", True),
    "endurance.mean": ("growth of the seconds of a micro-batch, means", "s", True),
    "endurance.handles": ("open files more", "", False),
    "endurance.threads": ("threads more", "", False),
    "endurance.live": ("growth of Java's objects in use", "MB", True),
    "endurance.python": ("MB of Python more, beside the model", "MB", False),
    "endurance.files": ("growth of the files a micro-batch adds under the root", "files", True),
    "endurance.temporary": ("temporary files more", "", False),
}


def figure(name: str, what: str, unit: str, share: bool, seen: Trend | None) -> Figure:
    """One slope, judged by the end of its interval that is worse: that is its value, the slope itself stands beside it."""
    what = f"{what}, per {UNIT:,} micro-batches: at most"
    if seen is None:
        return missing(name, what, "nothing was seen of it")
    told = seen.relative() if share else seen
    beside = f"slope {shown(told.slope)} [{shown(told.low)} .. {shown(told.high)}]; second tenth {shown(seen.early)}, last {shown(seen.late)}"
    return Figure(name, what, told.high, beside=f"{beside} {unit}".rstrip())


def heap_limit() -> float:
    """Java's heap in MB, as the default settings have it."""
    from freshet.settings import load

    text = load([], {}, ["source.path=none"])[0].spark.driver_memory
    return float(text[:-1]) * {"g": 1024, "m": 1}[text[-1].lower()]


def paces(told: Told, rows: list[Any]) -> tuple[list[tuple[int, float]], list[tuple[int, dict[str, float]]]]:
    """(micro-batch, seconds since the one before) and (micro-batch, seconds by stage), without what ran beside something else."""
    answered = sorted(row.committed_at / 1e6 for row in rows if row.kind in ("base", "maintain"))
    spans = [*told.aside]
    for one, other in zip(told.requests, [*told.requests[1:], {"since": float("inf")}], strict=True):
        done = answered[bisect_right(answered, one["since"]): bisect_left(answered, other["since"])]
        spans.append((one["since"], max([one["until"], *done])))
    learned = [row for row in rows if row.kind == "learn"]
    kept = []
    for before, row in pairwise(learned):
        since, until = before.committed_at / 1e6, row.committed_at / 1e6
        if not any(begin < until and since < end for begin, end in spans):
            kept.append((row, until - since))
    return [(row.batch_id, gap) for row, gap in kept], [(row.batch_id, dict(row.stage_seconds)) for row, _ in kept]


def timed(told: Told, gaps: list[tuple[int, float]]) -> dict[str, Trend | None]:
    """Trends of medians and means of neighbouring micro-batches."""
    if not gaps:
        return {"endurance.seconds": None, "endurance.mean": None}
    at, medians, means = blocks(*zip(*gaps, strict=True), max(1, told.batches // LOOKS))
    return {"endurance.seconds": trend(at, medians, told.batches), "endurance.mean": trend(at, means, told.batches)}


def looked(told: Told, after: Found) -> dict[str, Trend | None]:
    """Trends of what was seen of the process, and of files as each micro-batch adds them."""
    at = [one["batch"] for one in told.looks]
    def of(name: str) -> list[float]:
        return [one[name] for one in told.looks]
    seen: dict[str, Trend | None] = {
        f"endurance.{name}": trend(at, of(name), told.batches)
        for name in ("handles", "threads", "temporary", "resident", "java", "workers", "temporary_bytes")
    }
    grown = np.interp(at, [one["batch"] for one in after.model], [one["bytes"] for one in after.model])
    seen["endurance.whole_python"] = trend(at, of("python"), told.batches)
    seen["endurance.python"] = trend(at, (np.array(of("python")) - grown).tolist(), told.batches)
    for name in ("files", "bytes"):
        added = [(y - x) / (b - a) for (a, x), (b, y) in pairwise(zip(at, of(name), strict=True))]
        seen[f"endurance.{name}"] = trend(at[1:], added, told.batches)
    for name in ("live", "classes"):
        counts = [(one["batch"], one[name]) for one in told.counts if name in one]
        seen[f"endurance.{name}"] = trend(*zip(*counts, strict=True), told.batches) if counts else None
    return seen


SHOWN = {
    "seconds": "seconds of a micro-batch, median", "mean": "seconds of a micro-batch, mean", "resident": "resident memory, all, MB",
    "java": "of it Java, MB", "whole_python": "of it Python, MB", "workers": "of it Spark's Python workers, MB",
    "python": "Python without the model, MB", "live": "Java's objects in use, MB", "classes": "Java's classes, MB",
    "handles": "open files", "threads": "threads", "files": "files a micro-batch adds under the root",
    "bytes": "MB a micro-batch adds under the root", "temporary": "temporary files", "temporary_bytes": "temporary files, MB",
}


def tables_of(
    told: Told, after: Found, trends: dict[str, Trend | None], stages: list[tuple[int, dict[str, float]]]
) -> list[Table]:
    """What it was and became, stage by stage, what the model took itself, maintenance, the disk."""
    head = ["", "second tenth", "last tenth", f"more per {UNIT:,}", "95 %"]
    made = [Table("Trends", [head, *(line(what, trends.get(f"endurance.{name}")) for name, what in SHOWN.items())])]
    names = sorted({name for _, one in stages for name in one})
    size = max(1, told.batches // LOOKS)
    rows = []
    for name in names:
        at, medians, _ = blocks([batch for batch, _ in stages], [one.get(name, 0.0) for _, one in stages], size)
        rows.append(line(name, trend(at, medians, told.batches)))
    made.append(Table("Stages, seconds, medians (gaps between commits hold Spark's own part too)", [head, *rows]))
    model = [[f"{one['batch']:,.0f}", shown(one["bytes"]), f"{one['rows']:,.0f}", f"{one['seen']:,.0f}"] for one in after.model]
    made.append(Table(f"What the model takes in Python; its history of {len(after.rows):,} versions {shown(after.history)} MB more",
                      [["micro-batches", "MB", "rows", "events in the dedup window"], *model]))
    if told.requests:
        made.append(Table("Maintenance while it ran", [["asked at", "seconds until it was put in", "seconds of the learner", "failed"],
                                                       *(asked(told, after, number) for number in range(len(told.requests)))]))
    made.append(Table("Under the root in the end", after.tables))
    return made


def line(what: str, seen: Trend | None) -> list[str]:
    """A trend as a row."""
    if seen is None:
        return [what, "-", "-", "-", ""]
    return [what, shown(seen.early), shown(seen.late), shown(seen.slope), f"{shown(seen.low)} .. {shown(seen.high)}"]


def asked(told: Told, after: Found, number: int) -> list[str]:
    """One request: the seconds of the learner are those between two micro-batches with rows of maintenance between them."""
    one = told.requests[number]
    end = told.requests[number + 1]["since"] if number + 1 < len(told.requests) else float("inf")
    spent, last, between = 0.0, None, False
    for row in after.rows:
        if row.kind == "learn":
            if between and last is not None and one["since"] <= row.committed_at / 1e6 < end:
                spent += (row.committed_at - last) / 1e6
            last, between = row.committed_at, False
        else:
            between = between or row.kind in ("base", "maintain")
    return [f"{one['batch']:,.0f}", shown(one["until"] - one["since"]), shown(spent), "yes" if one["failed"] else "no"]
