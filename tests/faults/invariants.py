"""What must hold of a world after each action, whatever was done to it; each check has a name of its own to fail by."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from oracle import MODEL
from shell import SETTINGS, open_head

from freshet.errors import FreshetError, StateDamaged
from freshet.head import Head
from freshet.models.contract import ITEM, USER
from freshet.store.commit import EMPTY_DIGEST
from freshet.store.files import rows_of
from freshet.store.snapshots import LEARN, START, History, Snapshot

if TYPE_CHECKING:
    from actions import World


class Broken(AssertionError):
    """An invariant does not hold; `name` says which."""

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        super().__init__(f"{name}: {what}")


@dataclass
class Sight:
    """What a reader finds who opens the model now."""

    history: History
    live: list[Snapshot]
    batches: list[Snapshot]
    head: Head


def demand(name: str, holds: bool, what: object) -> None:
    if not holds:
        raise Broken(name, str(what))


def check(world: World, every: bool) -> None:
    """All of it, where anything has changed since it was last looked at; of each version with `every`."""
    disk = world.disk
    now = ({name: len(made) for name, made in disk.tables.appends.items()}, len(disk.plans), disk.ended, world.process, set(world.damaged))
    if now == world.checked and not every:
        return
    history = world.history()
    live = history.live()
    if not live:
        return
    batches = [row for row in live if row.batch_id is not None]
    versions_are_contiguous(world, live, batches)
    counts_add_up(batches)
    if world.damaged:
        world.looked = None
        a_damaged_state_is_not_opened(world, history)
        return
    each_is_learned_once(world, batches)
    newest = (live[-1].commit_id, world.disk.tables.version("parameters"))
    if world.looked is None or world.looked[0] != newest:
        world.looked = (newest, opened(world, history, live[-1]))
    head = world.looked[1]
    sight = Sight(history, live, batches, head)
    effect_is_the_oracles(world, sight)
    nothing_is_lost(world, sight)
    rows_are_sound(head)
    readers_see_what_is_committed(world, sight)
    if every:
        for row in batches:
            opened(world, history, row)
    world.checked = now


def opened(world: World, history: History, row: Snapshot) -> Head:
    """I3: the head of a version, which verifies."""
    try:
        return open_head(world.disk, history, SETTINGS, row.version, memory=False)
    except StateDamaged as error:
        raise Broken("I3", str(error)) from error


def versions_are_contiguous(world: World, live: list[Snapshot], batches: list[Snapshot]) -> None:
    """I3: versions grow one by one, each stands on the one before, and says what it is made of; a clock decides nothing."""
    demand("I3", [row.version for row in live] == list(range(len(live))), [row.version for row in live])
    demand("I3", all(row.parent == before.version for before, row in pairwise(live)), [row.parent for row in live])
    demand("I3", all(row.epoch >= before.epoch for before, row in pairwise(live)), [row.epoch for row in live])
    demand("I3", all(row.kind in (START, LEARN) for row in live), [row.kind for row in live])
    if "checkpoint" not in world.damaged:
        plans = world.disk.plans
        wrong = [row.version for row in batches if row.fingerprint != plans[row.batch_id or 0].hash or row.checkpoint_id != "memory"]
        demand("I3", not wrong, f"versions {wrong} do not say what they were made of")


def counts_add_up(batches: list[Snapshot]) -> None:
    """I2: of each micro-batch."""
    for row in batches:
        parts = row.accepted_count + row.quarantined_count + row.duplicate_count + row.late_count
        demand("I2", row.read_count == parts, f"version {row.version} read {row.read_count}, and {parts} became something")


def each_is_learned_once(world: World, batches: list[Snapshot]) -> None:
    """I1: every planned micro-batch once, in order, with the digest of the run never hurt."""
    numbers = [row.batch_id for row in batches]
    demand("I1", numbers == list(range(len(numbers))), f"micro-batches {numbers}")
    demand("I1", world.disk.ended <= len(numbers) <= len(world.disk.plans), f"{len(numbers)} learned, {world.disk.ended} have ended")
    for row in batches[len(world.digests) :]:
        world.follow(row)
    for row, wanted in zip(batches, world.digests, strict=True):
        demand("I1", row.digest == wanted, f"batch {row.batch_id} has digest {row.digest}, never hurt {wanted}")


def effect_is_the_oracles(world: World, sight: Sight) -> None:
    """I1: the state is what plain Python makes of the same events; so is that of the process that goes on."""
    heads = [sight.head]
    if world.process is not None:
        newest = sight.live[-1]
        mine = world.process.opened.history.newest()
        if mine is not None and mine.version == newest.version:
            heads.append(world.process.opened.head)
            demand("I1", heads[1].hex_digest == newest.digest, f"in memory {heads[1].hex_digest}, committed {newest.digest}")
    for head in heads:
        demand("I1", not (found := world.oracle.differs(head)), found)


def nothing_is_lost(world: World, sight: Sight) -> None:
    """I2: what the files held, what the rows say became of it, and what stands in the tables agree with the oracle."""
    counts = {name: sum(getattr(row, f"{name}_count") for row in sight.batches) for name in world.oracle.counts}
    demand("I2", counts == world.oracle.counts, f"{counts}, wanted {world.oracle.counts}")
    tables = world.disk.tables
    for name, wanted in (("events", counts["accepted"]), ("quarantine", counts["quarantined"] + counts["late"])):
        there = rows_of(tables, name, sight.live, ["source"]).num_rows  # type: ignore[arg-type]
        demand("I2", there == wanted, f"{there} rows of {name} are committed, wanted {wanted}")


def rows_are_sound(head: Head) -> None:
    """I4: every number finite, no row beyond the cap."""
    for name in head.tables:
        if head.blocks[name].width:
            demand("I4", bool(np.isfinite(head.values(name)).all()), f"block {name} is not finite")
    for name in (USER, ITEM):
        norms = np.linalg.norm(head.values(name)[:, 1 : 1 + MODEL.factors], axis=1)
        demand("I4", float(norms.max(initial=0.0)) <= MODEL.limit * (1 + 1e-5), f"a row of {name} is {norms.max(initial=0.0)}")


def readers_see_what_is_committed(world: World, sight: Sight) -> None:
    """I5: the state of one version, which is one that a commit made, and never an older one than before."""
    newest = sight.live[-1]
    demand("I5", newest.version >= world.newest, f"version {newest.version} after {world.newest}")
    world.newest = newest.version
    made = {EMPTY_DIGEST, *world.digests}
    demand("I5", sight.head.hex_digest in made, f"a reader finds {sight.head.hex_digest}, which nobody committed")


def a_damaged_state_is_not_opened(world: World, history: History) -> None:
    """I3: what the rows do not verify is not handed out."""
    if "parameters" not in world.damaged:
        return
    try:
        open_head(world.disk, history, SETTINGS, history.live()[-1].version, memory=False)
    except StateDamaged as error:
        says_what_to_do(error)
    else:
        raise Broken("I3", "damaged rows were opened")


def says_what_to_do(error: FreshetError) -> None:
    """I6: the fact and the way out."""
    demand("I6", bool(error.what.strip()) and bool(error.remedy.strip()), f"{type(error).__name__} says {error.what!r} {error.remedy!r}")
