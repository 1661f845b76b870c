"""What can be done to a model, as lists: by hand, by a seed, or by Hypothesis.

    Add(events) · Run() · Crash(at) · Restart() · Corrupt(path, how) · Repair() · Advance(seconds) · Fill(room) · Free()
    LoseReply(table) · TakeOver() · Late() · ExpectError(name) · Check()

A Run is what `freshet train` is: it opens the model where no process holds it, and learns what there is. After each action
everything in invariants.py must hold; a list that fails prints its seed, itself with an arrow, and the last versions.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import damage
import invariants
from memory import Clock, Disk, in_memory
from oracle import Oracle
from shell import SECOND, SETTINGS, Event, InThisThread, Process, cleaned

from freshet import failpoint
from freshet.errors import FreshetError
from freshet.head import Head
from freshet.kernels.digest import as_hex
from freshet.pipelines.assembly import new_head, new_learner
from freshet.pipelines.micro_batch import prepare, take
from freshet.pipelines.stopwatch import Stopwatch
from freshet.store.snapshots import History, Snapshot

BASE = 1_700_000_000  # seconds: when a world begins
TABLES = ("ids", "events", "parameters")
PLACES = ("before_plan", "batch_start", *(f"{side}_{name}" for name in TABLES for side in ("before", "after")),
          "before_snapshot_row", "after_snapshot_row", "before_spark_commit")  # fmt: skip


@dataclass(frozen=True)
class Add:
    """A file of events comes to the source."""

    events: tuple[Event, ...]


@dataclass(frozen=True)
class Run:
    """Learn what there is, at most so many files in a micro-batch."""

    files: int = 2


@dataclass(frozen=True)
class Crash:
    """Let the process die when it passes a place for the n-th time from now."""

    at: str
    time: int = 1


@dataclass(frozen=True)
class Restart:
    """End the process, if there is one, and open the model in another."""


@dataclass(frozen=True)
class Corrupt:
    """Kill the process and damage what it leaves: a row of `parameters` (flip, drop, count), a planned file (`source`, gone), the
    plans (`checkpoint`, lost), Spark's word that the last batch has ended (`commits`, lost)."""

    path: str
    how: str


@dataclass(frozen=True)
class Repair:
    """Put back all that was damaged."""


@dataclass(frozen=True)
class Advance:
    """Set the machine's clock forward, or back."""

    seconds: int


@dataclass(frozen=True)
class Fill:
    """The disk has room for so many more appends."""

    room: int


@dataclass(frozen=True)
class Free:
    """The disk has room again."""


@dataclass(frozen=True)
class LoseReply:
    """The next append to a table lands, and its writer is told that it did not."""

    table: str


@dataclass(frozen=True)
class TakeOver:
    """Another process takes the model over, as one does that cannot see a lock; the elder goes on living."""


@dataclass(frozen=True)
class Late:
    """The elder wakes up and goes on where it was."""


@dataclass(frozen=True)
class ExpectError:
    """The next action fails with an error of this name, or, where it is "Injected", with the crash that was armed."""

    name: str


@dataclass(frozen=True)
class Check:
    """Look at every version there is, not only at the newest."""


REASONS = {"parameters": "StateDamaged", "source": "SourceChanged", "checkpoint": "CheckpointRefused"}


@dataclass
class World:
    """A model, what is done to it, and what it must be: by a run never hurt (bit for bit) and by the oracle (nearly)."""

    clock: Clock
    kind: type[Process] = Process
    disk: Disk = field(default_factory=Disk)
    process: Process | None = None
    elder: Process | None = None
    heir: Process | None = None  # who goes on when the elder fails
    oracle: Oracle = field(default_factory=Oracle)
    told: dict[str, tuple[tuple[Event, ...], int]] = field(default_factory=dict)  # file -> its events and when they came
    digests: list[str] = field(default_factory=list)  # of the run never hurt, after each micro-batch
    damaged: dict[str, Callable[[], None]] = field(default_factory=dict)  # path -> what mends it
    excused: set[str] = field(default_factory=set)  # errors that the next action may end with
    expected: str | None = None
    newest: int = -1  # that a reader has seen
    looked: tuple[tuple[str, int], Head] | None = None  # what a reader found, and of which version
    checked: object = None  # what was there when all was looked at
    happened: Counter[str] = field(default_factory=Counter)  # what faults have done: errors by name, and lost replies by table
    runs: int = 0

    def __post_init__(self) -> None:
        self.learner = new_learner(SETTINGS)
        self.unhurt, self.place = new_head(self.learner.model, SETTINGS), InThisThread(self.learner)

    def do(self, action: Any) -> None:
        """Do it, and see whether everything is still as it must be."""
        if isinstance(action, ExpectError):
            self.expected = action.name
            return
        failed = self._attempt(lambda: getattr(self, f"_{type(action).__name__.lower()}")(action))
        self.happened.update([failed] if failed else [])
        assert self.expected in (None, failed), f"{self.expected} was expected, and it ended with {failed}"
        self.expected = None
        invariants.check(self, every=isinstance(action, Check))

    def _attempt(self, act: Callable[[], None]) -> str | None:
        """The name of the error it ended with, after which the process is no more."""
        self.excused = {REASONS[path] for path in self.damaged} | ({"StoreFailed"} if self.disk.tables.room is not None else set())
        self.heir = None
        try:
            act()
        except failpoint.Injected as crash:
            self.process = self.heir
            return type(crash).__name__
        except FreshetError as error:
            self.process = self.heir
            name = type(error).__name__
            if name not in self.excused:
                raise
            invariants.says_what_to_do(error)
            if name in REASONS.values() or (name == "StoreFailed" and (self.disk.tables.room or 0) < 0):
                self._the_same_again(error)
            return name
        return None

    def _the_same_again(self, error: FreshetError) -> None:
        """What is not mended fails again, by the same name."""
        os.environ["FRESHET_FAILPOINTS"] = ""
        try:
            self._run(Run())
        except FreshetError as again:
            self.process = None
            assert type(again) is type(error), f"first {error}, and then {again}"
        else:
            raise AssertionError(f"nothing was mended, and it did not say again: {error}")

    def follow(self, row: Snapshot) -> None:
        """Let the run never hurt and the oracle learn what a committed micro-batch holds."""
        assert row.batch_id is not None
        names = self.disk.plans[row.batch_id].files
        prepared = prepare(self.unhurt, self.learner, self.disk.read(row.batch_id), SETTINGS, self.place, Stopwatch())
        take(self.unhurt, prepared, SETTINGS)
        self.digests.append(as_hex(self.unhurt.digest))
        events = [(event, self.told[name][1]) for name in names for event in self.told[name][0]]
        self.oracle.learn([event for event, _ in events], [at for _, at in events])

    def history(self) -> History:
        """As a reader finds it."""
        return History.load(self.disk.tables)  # type: ignore[arg-type]

    def _add(self, action: Add) -> None:
        name = f"file{len(self.told)}"
        self.told[name] = (action.events, self.clock.now // SECOND)
        self.disk.files[name] = cleaned(name, action.events, self.clock.now)

    def _run(self, action: Run) -> None:
        if self.process is None:
            self._open()
        assert self.process is not None
        self.process.run(action.files)

    def _open(self) -> None:
        self.runs += 1
        self.process = None
        self.process = self.kind(self.disk, f"run{self.runs}")

    def _restart(self, action: Restart) -> None:
        self._open()

    def _crash(self, action: Crash) -> None:
        failpoint._passed.clear()
        os.environ["FRESHET_FAILPOINTS"] = f"{action.at}:raise:{action.time}"

    def _advance(self, action: Advance) -> None:
        self.clock.now += action.seconds * SECOND

    def _fill(self, action: Fill) -> None:
        self.disk.tables.room = action.room

    def _free(self, action: Free) -> None:
        self.disk.tables.room = None

    def _losereply(self, action: LoseReply) -> None:
        self.disk.tables.lost_reply = action.table
        try:
            self._run(Run())
        finally:
            self.happened[f"lost {action.table}"] += self.disk.tables.lost_reply is None
            self.disk.tables.lost_reply = None
            self.excused |= {"StoreFailed"}  # of a part: then nothing was committed

    def _takeover(self, action: TakeOver) -> None:
        elder = self.process
        self._open()
        self.elder = elder

    def _late(self, action: Late) -> None:
        elder, self.elder = self.elder, None
        if elder is not None:
            self.excused |= {"Fenced"}
            self.heir = self.process
            elder.run()

    def _check(self, action: Check) -> None:
        pass

    def _corrupt(self, action: Corrupt) -> None:
        self.process = self.elder = None
        if action.path not in self.damaged:
            mend = damage.PATHS[action.path](self.disk, action.how)
            if mend is not None:
                self.damaged[action.path] = mend

    def _repair(self, action: Repair) -> None:
        for mend in self.damaged.values():
            mend()
        self.damaged = {}


def play(actions: Sequence[Any], seed: object = None, kind: type[Process] = Process) -> World:
    """Do all of a list; what fails is told with the list, and where in it."""
    with in_memory() as clock:
        clock.now = BASE * SECOND
        world = World(clock, kind)
        for number, action in enumerate(actions):
            try:
                world.do(action)
            except Exception as error:
                raise AssertionError(story(world, actions, number, seed, error)) from error
    return world


def story(world: World, actions: Sequence[Any], number: int, seed: object, error: Exception) -> str:
    """What a person needs to see why a list failed."""
    listed = [f"{'-> ' if at == number else '   '}{action}" for at, action in enumerate(actions)]
    tail = [f"   {row.version} {row.branch} {row.kind} epoch {row.epoch} parent {row.parent} batch {row.batch_id} accepted "
            f"{row.accepted_count} digest {row.digest} {row.commit_id}" for row in world.history().rows[-6:]]  # fmt: skip
    return "\n".join([f"{type(error).__name__}: {error}", f"seed {seed}", *listed, "the last versions:", *tail])
