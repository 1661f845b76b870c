"""Writes a planted world's events as files, as a stream would: whole files, in order, at a rate.

A file appears at once under its name (written under a name with "_" before it, which Spark ignores, then renamed), and
its modification time is later than that of the file before, in whole milliseconds: the order Spark reads in.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from freshet import schema
from freshet.demo.dirt import OUTCOMES, UNTYPED, Dirt, draw
from freshet.demo.generator import Stream, items_table
from freshet.demo.records import FORMATS, LINES, json_lines, records, write_json, write_parquet
from freshet.demo.truth import World

_MILLISECOND = 1_000_000  # ns
_CUT = {"json": (20, 80), "csv": (5, 16)}  # a malformed line ends somewhere between these characters


@dataclass(frozen=True)
class Manifest:
    """What was written and what must become of it: lines = accepted + quarantined + duplicate + late."""

    files: int = 0
    lines: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicate: int = 0
    late: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    def after(self, clean: int, dirty: dict[str, int]) -> Manifest:
        """The manifest with one more file: `clean` events and `dirty` records by kind."""
        outcomes = {name: getattr(self, name) for name in (schema.QUARANTINED, schema.DUPLICATE, schema.LATE)}
        kinds = dict(self.kinds)
        for kind, count in dirty.items():
            kinds[kind] = kinds.get(kind, 0) + count
            outcomes[OUTCOMES[kind]] += count
        lines = self.lines + clean + sum(dirty.values())
        return replace(self, files=self.files + 1, lines=lines, accepted=self.accepted + clean, kinds=kinds, **outcomes)


class Generator:
    """Writes `events` events of `world` to `folder`, `per_file` in a file, `rate` a second (None: all at once).

    `start()` writes in a thread of its own, `stop()` ends it after the file at hand, `join()` waits and raises what the
    thread met. With `resume`, files that are there already are counted and left as they are: same settings, same files.
    """

    def __init__(
        self, world: World, folder: str | os.PathLike[str], events: int, per_file: int = 1000,
        rate: float | None = None, dirt: Dirt | None = None, format: str = "json", resume: bool = False,
    ) -> None:
        dirt = dirt or Dirt()
        _check(events, per_file, rate, dirt, format)
        self.world, self.folder, self.events, self.per_file = world, Path(folder), events, per_file
        self.rate, self.dirt, self.format, self.resume = rate, dirt, format, resume
        self.manifest = Manifest()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="freshet-demo-generator", daemon=True)
        self._error: BaseException | None = None
        self._modified = 0  # of the newest file, in ms

    def left(self) -> int:
        """How many of the events have yet to be written, those in files that are there already not counted."""
        firsts = enumerate(range(0, self.events, self.per_file))
        return sum(min(self.per_file, self.events - first) for number, first in firsts if not self._file(number).exists())

    def _file(self, number: int) -> Path:
        return self.folder / f"events-{number:06d}.{self.format}"

    def start(self) -> Generator:
        """Begin to write in the background."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Write no further file; returns at once."""
        self._stop.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the last file; True when it is written, False when the time is up before."""
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def run(self) -> Manifest:
        """Write all files, at the rate, in the caller's thread."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stream, later, begun = Stream(self.world), None, time.monotonic()
        for number, first in enumerate(range(0, self.events, self.per_file)):
            clean = records(self.world, stream.take(min(self.per_file, self.events - first)))
            dirty = draw(self.dirt, clean, self.world.seed, number)
            chosen = dirty.pop("duplicate_later", None)
            if later is not None:
                dirty["duplicate_later"] = later
            later = chosen
            path = self._file(number)
            if not (self.resume and path.exists()):
                if self._wait(begun, first + clean.num_rows):
                    break
                self._write(path, clean, dirty, number)
            self._modified = max(self._modified, path.stat().st_mtime_ns // _MILLISECOND)
            self.manifest = self.manifest.after(clean.num_rows, {kind: rows.num_rows for kind, rows in dirty.items()})
        return self.manifest

    def _guarded(self) -> None:
        try:
            self.run()
        except BaseException as error:  # handed to whoever joins
            self._error = error

    def _wait(self, begun: float, happened: int) -> bool:
        """Sleep until the file's last event is due; True when the generator was stopped meanwhile."""
        due = 0.0 if self.rate is None else begun + happened / self.rate - time.monotonic()
        return self._stop.wait(max(due, 0.0))

    def _write(self, path: Path, clean: pa.Table, dirty: dict[str, pa.Table], number: int) -> None:
        if path.exists():
            raise FileExistsError(f"{path} is there already; give an empty folder, or resume")
        hidden = path.with_name(f"_{path.name}")
        rng = np.random.default_rng((self.world.seed, number, 0xD2))
        whole = pa.concat_tables([clean, *(rows for kind, rows in dirty.items() if kind != "malformed")])
        if self.format == "parquet":
            write_parquet(hidden, whole.take(_mixed(rng, clean.num_rows, whole.num_rows)))
        else:
            make, write = LINES[self.format]
            lines = make(whole)
            if "malformed" in dirty:
                cut = pc.utf8_slice_codeunits(make(dirty["malformed"]), 0, int(rng.integers(*_CUT[self.format])))
                lines = pa.concat_arrays([lines, cut])
            write(hidden, lines.take(_mixed(rng, clean.num_rows, len(lines))))
        self._publish(hidden, path)

    def _publish(self, hidden: Path, path: Path) -> None:
        self._modified = max(time.time_ns() // _MILLISECOND, self._modified + 1)
        os.utime(hidden, ns=(self._modified * _MILLISECOND,) * 2)
        hidden.replace(path)


def generate_all(
    world: World, folder: str | os.PathLike[str], events: int, per_file: int = 1000, dirt: Dirt | None = None,
    format: str = "json",
) -> Manifest:
    """Write all files now; what was written."""
    return Generator(world, folder, events, per_file, None, dirt, format).run()


def write_items(world: World, path: str | os.PathLike[str]) -> None:
    """The items' side information as one file: Parquet when so named, else JSON lines of item_id, title, category."""
    path, table = Path(path), items_table(world)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f"_{path.name}")
    if path.suffix == ".parquet":
        pq.write_table(table, hidden)
    else:
        write_json(hidden, json_lines(table.select(["item_id", "title", "category"])))
    hidden.replace(path)


def _mixed(rng: np.random.Generator, clean: int, count: int) -> np.ndarray:
    """Clean rows in their order, the rest at random places among them."""
    places = np.concatenate([np.arange(clean), rng.random(count - clean) * clean])
    return np.argsort(places, kind="stable")


def _check(events: int, per_file: int, rate: float | None, dirt: Dirt, format: str) -> None:
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; wanted one of {', '.join(FORMATS)}")
    if events < 1 or per_file < 1 or (rate is not None and rate <= 0):
        raise ValueError("events, per_file and rate must be above 0")
    untyped = [kind for kind in UNTYPED if dirt.shares[kind]]
    if format == "parquet" and untyped:
        raise ValueError(f"Parquet cannot hold {', '.join(untyped)}; use Dirt.spread(share, without=UNTYPED)")
