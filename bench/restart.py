"""Starting again on a model of a million rows, beside a plain read of the same rows, each in a process of its own.

Seconds after the Spark session stands: `open` is everything a learner does before its first micro-batch (lock, history,
checks, state with its digest verified, dedup window, ids, the row of the new start); `plain read` is the same rows of
`parameters` as Arrow and nothing else. Both with a cold Java, as a restart has it, in turn.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from event_files import EventFiles
from figures import Options, Result, Table, ratio, shown
from streams import session, settings

from freshet.demo.shapes import Shaped
from freshet.pipelines.online import train
from freshet.settings import Settings

ROWS = 1_000_000
MODEL = ("model.name=mf", "source.format=parquet", "clean.dedup_window=2 days")


def measure(options: Options) -> Result:
    """Make the model, then start on it some times."""
    result = Result(" ".join((__doc__ or "").split()))
    folder = options.folder("restart")
    made = settings(folder, *MODEL)
    rows = make(folder, options.pairs(ROWS, ROWS // 10), made, options.seed)
    found: dict[str, list[dict[str, float]]] = {"open": [], "plain": []}
    for _ in range(options.pairs(7, 2)):
        for what, laps in found.items():
            command = [sys.executable, __file__, what, str(folder)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            laps.append(json.loads(said.splitlines()[-1]))
    opened, plain = ([lap["seconds"] for lap in found[what]] for what in ("open", "plain"))
    result.figures.append(ratio("restart", f"start on {rows:,} rows, over a plain read of them", opened, plain))
    steps = [["step", "seconds"], ["Spark session", shown(float(np.median([lap["session"] for lap in found["open"]])))]]
    steps += [[step, shown(float(np.median([lap[step] for lap in found["open"]])))] for step in found["open"][0] if step not in ("seconds", "session")]
    result.tables.append(Table("Steps of a start", steps))
    return result


def make(folder: Path, rows: int, chosen: Settings, seed: int) -> int:
    """Learn from as many users as give these rows: each has one of the model and one of its history."""
    users, batch = rows // 2, min(250_000, rows // 2)
    rng = np.random.default_rng(seed)
    shape = Shaped(np.arange(users), rng.integers(0, 5000, users), rng.integers(1, 6, users).astype(np.float32))
    files = EventFiles(users // batch, batch, "parquet", shape=shape)
    for number in range(users // batch):
        files.write(number, folder / "events" / f"events-{number:06d}.parquet")
    found: list[int] = []
    train(session(), chosen, available_now=True, listener=lambda report: found.append(report.accepted))
    return 2 * sum(found)


def opened(folder: Path) -> dict[str, float]:
    """Seconds of one start, by step."""
    from freshet.pipelines.starting import open_learner

    begun = time.perf_counter()
    spark = session()
    spark.range(1).count()
    start = last = time.perf_counter()
    steps: dict[str, float] = {"session": start - begun}
    name = "lock"

    def say(text: str) -> None:
        nonlocal last, name
        # Without the version: each start adds one.
        steps[name], last, name = time.perf_counter() - last, time.perf_counter(), re.sub(r" \d+", "", text)

    with open_learner(spark, settings(folder, *MODEL), False, say):
        say("")
        return steps | {"seconds": time.perf_counter() - start}


def plain(folder: Path) -> dict[str, float]:
    """Seconds of one read of everything in `parameters`."""
    spark = session()
    spark.range(1).count()
    start = time.perf_counter()
    rows = spark.read.format("delta").load(str(folder / "model" / "parameters"))
    rows.select("block", "key", "vector", "slots", "links", "count", "last_event_at").toArrow()
    return {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    print(json.dumps({"open": opened, "plain": plain}[sys.argv[1]](Path(sys.argv[2]))))
