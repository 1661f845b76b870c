"""Runs a learner long and hard: killed again and again, then left alone for thousands of micro-batches.

    python bench/soak.py                                 200 kills over 1,000 micro-batches, then 2,000 in one process
    python bench/soak.py --only kills --kills 3 --batches 20             a short try
    python bench/soak.py --only endurance --batches 40                   a short try of the other part
    python bench/soak.py --folder soak                   goes on where it was when it is ended and started again

Kills: `freshet train --available-now` runs in a process of its own over files with some dirt in them; SIGKILL comes at a
moment drawn from --seed: while it starts, or some micro-batches later and anywhere in the next one. Then it is started again,
with nothing mended by hand. In the end digest, counts and number of events must be those of the run never killed. Java of a
life that is to be killed compiles with its first compiler only, which starts sooner; all else is as by default.

Endurance: endurance.py. Exits 1 when a part fails. Figures go into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import endurance
import endurance_figures
import numpy as np
from bars import Verdict
from figures import Figure, Result, Table, shown
from report import Written, print_figures, write
from run import BENCHMARKS, DOCUMENT
from watched import committed, end, ended, memory, scratch_folder, start, write_events

from freshet.pipelines.totals import totals
from freshet.store.snapshots import History
from freshet.store.tables import Tables

PARTS = ("kills", "endurance")
SECTIONS = [*BENCHMARKS, "soak", "endurance"]
LIVES = "lives.json"
POLL, LOOK = 0.02, 1.0  # seconds between two looks at the micro-batches, at the memory
PATIENCE = 3600.0
AT_START = 0.1  # share of the kills that come while the process starts
START_SECONDS = 15.0
# What a short life spends most on is compiling what it will not run for long.
SHORT_LIVED = {"spark.conf.spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}


@dataclass
class Life:
    """One process: micro-batches it committed, seconds it lived, its largest resident memory in bytes."""

    batches: int
    seconds: float
    resident: int


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; 0 when nothing was lost or counted twice and nothing grew that must not."""
    chosen = parser().parse_args(arguments)
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the learner is ended too
    with scratch_folder(chosen.folder) as folder:
        for name in chosen.only or PARTS:
            failed += (kills if name == "kills" else long_run)(folder, chosen)
    return 1 if failed else 0


def kills(folder: Path, chosen: argparse.Namespace) -> bool:
    """The first part; whether it failed."""
    batches = chosen.batches or 1000
    write_events(folder / "events", batches, chosen.events, chosen.seed)
    told = Told(folder / LIVES)
    print(f"kills: {batches} files of {chosen.events} events, {len(told.lives)} lives so far", flush=True)
    if told.calm is None:
        print("first the run that is never killed", flush=True)
        shutil.rmtree(folder / "calm", ignore_errors=True)  # of a soak that was ended meanwhile: that one was killed
        told.calm = live(folder, "calm", None, 0.0)
        told.write()
    killed(folder, chosen.kills, batches, chosen.seed, told)
    result = compare(folder, told.calm, told.lives, batches)
    judged = {figure.name: Verdict(None, figure.value != 1.0) for figure in result.figures}
    print_figures("soak", "Kills", result, judged)
    command = f"make soak ARGS='--only kills --kills {chosen.kills} --batches {batches} --seed {chosen.seed}'"
    spent = sum(life.seconds for life in (told.calm, *told.lives))
    write(chosen.document, Written("soak", "Kills", command, spent), result, judged, SECTIONS)
    return any(verdict.missed for verdict in judged.values())


def long_run(folder: Path, chosen: argparse.Namespace) -> bool:
    """The second part; whether it failed."""
    batches = chosen.batches or 2000
    told = endurance.run(folder, batches, chosen.events, chosen.seed)
    result, bars = endurance_figures.judge(told)
    judged = bars.judge(result.figures)
    print_figures("endurance", "Endurance", result, judged)
    command = f"make soak ARGS='--only endurance --batches {batches} --seed {chosen.seed}'"
    write(chosen.document, Written("endurance", "Endurance", command, told.seconds), result, judged, SECTIONS)
    return any(verdict.missed for verdict in judged.values())


class Told:
    """The lives so far, in a file beside the models."""

    def __init__(self, path: Path) -> None:
        self._path = path
        told = json.loads(path.read_text()) if path.exists() else {"calm": None, "lives": []}
        self.calm = None if told["calm"] is None else Life(**told["calm"])
        self.lives = [Life(**one) for one in told["lives"]]

    def write(self) -> None:
        """Write them anew."""
        lives = [asdict(one) for one in self.lives]
        self._path.write_text(json.dumps({"calm": None if self.calm is None else asdict(self.calm), "lives": lives}))


def killed(folder: Path, kills: int, batches: int, seed: int, told: Told) -> None:
    """Lives that end by SIGKILL at drawn moments, and the last one that ends by itself."""
    begun, before = time.monotonic(), len(told.lives)
    while len(told.lives) < kills:
        rng = np.random.default_rng([seed, len(told.lives)])
        left = max(1, batches - committed(folder / "hurt"))
        share = 2 * left / (kills - len(told.lives) + 1)
        early = rng.random() < AT_START
        after = 0 if early else int(rng.integers(0, max(1, int(share)) + 1))
        wait = float(rng.random()) * (START_SECONDS if early else 1.0)
        told.lives.append(live(folder, "hurt", None if early else after, wait, kill=True))
        told.write()
        pace = (time.monotonic() - begun) / (len(told.lives) - before)
        rest = timedelta(seconds=round(pace * (kills - len(told.lives) + 1)))
        done = f"{told.lives[-1].batches} micro-batches, {committed(folder / 'hurt')} of {batches}"
        print(f"kill {len(told.lives)} of {kills}: {done}; about {rest} left", flush=True)
    if len(told.lives) == kills:
        told.lives.append(live(folder, "hurt", None, 0.0))
        told.write()


def live(folder: Path, name: str, after: int | None, wait: float, kill: bool = False) -> Life:
    """Start the learner of the model `name`; kill it `wait` seconds after its `after`-th micro-batch, or after its start."""
    model = folder / name
    before, begun = committed(model), time.monotonic()
    resident, due, looked = 0, begun + wait if kill and after is None else None, 0.0
    with ended(start(["train", "--available-now"], sets(folder, model, kill), folder / f"{name}.err")) as process:
        while process.poll() is None:
            if time.monotonic() - looked > LOOK:
                resident, looked = max(resident, memory(process.pid)), time.monotonic()
            if kill and due is None and committed(model) - before >= (after or 0):
                due = time.monotonic() + wait
            if due is not None and time.monotonic() >= due:
                end(process)
            if time.monotonic() - begun > PATIENCE:
                raise TimeoutError(f"{name} did not end within {PATIENCE:g} seconds")
            time.sleep(POLL)
    # A start that is refused ends by itself before its kill comes; it must not pass for one.
    if process.returncode not in (0, -signal.SIGKILL if kill else 0):
        raise RuntimeError((folder / f"{name}.err").read_text(errors="replace")[-2000:])
    return Life(committed(model) - before, time.monotonic() - begun, resident)


def sets(folder: Path, model: Path, kill: bool) -> dict[str, object]:
    """The settings of a life."""
    return {"store.root": model, "source.path": folder / "events", "source.event_types": "[click]", **(SHORT_LIVED if kill else {})}


def compare(folder: Path, calm: Life, lives: list[Life], batches: int) -> Result:
    """What the killed model has beside the one never killed, and how it went."""
    from streams import session

    spark = session()
    rows = {name: History.load(Tables(spark, str(folder / name))).live() for name in ("calm", "hurt")}
    learned = {name: [row for row in found if row.kind == "learn"] for name, found in rows.items()}
    sums = {name: totals(found) for name, found in rows.items()}
    same = rows["calm"][-1].digest == rows["hurt"][-1].digest
    kept = sums["calm"] == sums["hurt"] and len(learned["calm"]) == len(learned["hurt"])
    result = Result(" ".join((__doc__ or "").split("\n\n")[2].removeprefix("Kills: ").split()))
    result.figures = [
        Figure("soak.digest", f"digest after {len(lives) - 1} kills and {batches} micro-batches is that of the run never killed",
               float(same), beside=f"{rows['hurt'][-1].digest} / {rows['calm'][-1].digest}"),
        Figure("soak.counts", "counts and micro-batches are the same", float(kept), beside=str(sums["hurt"])),
    ]
    apart = next((n for n, (one, other) in enumerate(zip(learned["calm"], learned["hurt"], strict=False)) if one.digest != other.digest), None)
    result.tables.append(Table("How it went", [
        ["", "never killed", "killed"],
        ["micro-batches learned", *(f"{len(found):,}" for found in learned.values())],
        ["first that differs, its events", *("" if apart is None else f"{apart}: {found[apart].accepted_count}" for found in learned.values())],
        ["seconds a micro-batch, first tenth", *(shown(pace(learned[name], 0)) for name in rows)],
        ["seconds a micro-batch, last tenth", *(shown(pace(learned[name], 9)) for name in rows)],
        ["resident memory, first life, MB", shown(calm.resident / 2**20), shown(lives[0].resident / 2**20)],
        ["resident memory, last life, MB", shown(calm.resident / 2**20), shown(lives[-1].resident / 2**20)],
        ["files under the root", *(f"{sum(path.is_file() for path in (folder / name).rglob('*')):,}" for name in rows)],
        ["processes", "1", str(len(lives))],
        ["lives without a micro-batch", "0", str(sum(life.batches == 0 for life in lives))],
        ["seconds of all lives", shown(calm.seconds), shown(sum(life.seconds for life in lives))],
    ]))
    return result


def pace(learned: list, tenth: int) -> float:  # type: ignore[type-arg]
    """Median seconds between two commits of one run, in one tenth of the micro-batches."""
    part = learned[len(learned) * tenth // 10: len(learned) * (tenth + 1) // 10]
    gaps = [(b.committed_at - a.committed_at) / 1e6 for a, b in pairwise(part) if a.run == b.run]
    return float(np.median(gaps)) if gaps else float("nan")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="soak.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", action="append", choices=PARTS, help="one part (default: both)")
    made.add_argument("--kills", type=int, default=200)
    made.add_argument("--batches", type=int, help="micro-batches (default: 1,000 for kills, 2,000 for endurance)")
    made.add_argument("--events", type=int, default=200, help="events in a micro-batch (default: 200)")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--folder", type=Path, help="keep everything there, and go on from there when started again")
    made.add_argument("--document", type=Path, default=DOCUMENT, metavar="FILE", help="default: docs/benchmarks.md")
    return made


if __name__ == "__main__":
    sys.exit(main())
