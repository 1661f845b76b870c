"""What an endurance run comes to: trends of what was seen from outside and of the snapshot rows, and what they are held against."""

from __future__ import annotations

import tracemalloc
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import endurance
import numpy as np
from bars import MOST, Bar, Bars
from endurance import LOOKS, Told
from figures import Figure, Result, Table, missing, shown
from flatness import UNIT, Trend, blocks, trend
from watched import MB, under

NEVER = {"since": float("inf")}
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
    result, held = Result(" ".join((endurance.__doc__ or "").split("\n\n")[1].split())), told.batches >= ENOUGH
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
    return Figure(name, what, told.most, beside=f"{beside} {unit}".rstrip())


def heap_limit() -> float:
    """Java's heap in MB, as the default settings have it."""
    from freshet.settings import load

    text = load([], {}, ["source.path=none"])[0].spark.driver_memory
    return float(text[:-1]) * {"g": 1024, "m": 1}[text[-1].lower()]


def paces(told: Told, rows: list[Any]) -> tuple[list[tuple[int, float]], list[tuple[int, dict[str, float]]]]:
    """(micro-batch, seconds since the one before) and (micro-batch, seconds by stage), without what ran beside something else."""
    answered = sorted(row.committed_at / 1e6 for row in rows if row.kind in ("base", "maintain"))
    spans = [*told.aside]
    for one, other in zip(told.requests, [*told.requests[1:], NEVER], strict=False):
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
        for name in ("handles", "threads", "resident", "java", "workers", "temporary_bytes")
    }
    grown = np.interp(at, [one["batch"] for one in after.model], [one["bytes"] for one in after.model])
    seen["endurance.whole_python"] = trend(at, of("python"), told.batches)
    seen["endurance.python"] = trend(at, (np.array(of("python")) - grown).tolist(), told.batches)
    for name in ("files", "bytes"):
        added = [(y - x) / (b - a) for (a, x), (b, y) in pairwise(zip(at, of(name), strict=True))]
        seen[f"endurance.{name}"] = trend(at[1:], added, told.batches)
    for name in ("live", "classes", "temporary"):
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
    end = [*told.requests, NEVER][number + 1]["since"]
    spent, last, between = 0.0, None, False
    for row in after.rows:
        if row.kind == "learn":
            if between and last is not None and one["since"] <= row.committed_at / 1e6 < end:
                spent += (row.committed_at - last) / 1e6
            last, between = row.committed_at, False
        else:
            between = between or row.kind in ("base", "maintain")
    return [f"{one['batch']:,.0f}", shown(one["until"] - one["since"]), shown(spent), "yes" if one["failed"] else "no"]
