"""Learning itself goes wrong: a kernel makes NaN, a shard is learned twice, a propensity is next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from actions import BASE
from broken_models import Broken
from memory import Disk, in_memory
from planted import Lab, checkerboard, settings
from shell import SECOND, Event, Process, cleaned

from freshet.errors import BatchRefused
from freshet.learner import Learner
from freshet.models import MODELS
from freshet.models.contract import ShardResult, ShardTask
from freshet.settings import Settings
from freshet.shipping import learn_payload, pack_task, unpack_result
from freshet.store.snapshots import History

NUMBERS = [name for name in MODELS if name != "cooccurrence"]  # its rows are links, and counts of them


def poisons(model: Any, task: ShardTask) -> ShardResult:
    """One number of one row, in a block that has numbers, is none."""
    result = model.learn(task)
    rows = next(rows for name, rows in result.rows.items() if rows.size and result.touched[name].any())
    rows[np.flatnonzero(result.touched[next(name for name, mine in result.rows.items() if mine is rows)])[0], 0] = np.nan
    return result


@pytest.mark.parametrize("name", NUMBERS)
def test_nan_out_of_a_kernel_is_refused_and_the_head_stays(name: str) -> None:
    chosen = settings(f"model.name={name}", "model.shards=3", "model.round_events=100")
    one = Lab(chosen)
    one.learn(checkerboard(300))
    before, digest, sound = one.bits(), one.head.digest, one.learner
    poisoned = Learner(Broken(sound.model, learn=poisons), sound.spec)
    with pytest.raises(BatchRefused) as refused:
        poisoned.learn(one.head, checkerboard(300, start=300), lambda tasks: [poisoned.model.learn(task) for task in tasks])
    assert refused.value.facts["reason"] == "not finite" and refused.value.remedy
    assert (one.bits(), one.head.digest) == (before, digest)
    one.learn(checkerboard(300, start=300))
    assert one.head.digest != digest


class Poisoned(Process):
    """A process whose kernel makes NaN."""

    def make_learner(self, settings: Settings) -> Learner:
        made = super().make_learner(settings)
        return Learner(Broken(made.model, learn=poisons), made.spec)


def test_the_batch_is_refused_by_name_and_learned_by_a_sound_process() -> None:
    """The refusal is a version of its own with the state of the one before; nothing of the batch is lost."""
    with in_memory() as clock:
        clock.now, disk = BASE * SECOND, Disk()
        for number in range(2):
            events = [Event(f"e{number}{n}", f"u{n}", f"i{n}", 4.0, BASE) for n in range(3)]
            disk.files[f"file{number}"] = cleaned(f"file{number}", events, clock.now)
        for _ in range(2):
            with pytest.raises(BatchRefused, match="--skip-batch 0") as refused:
                Poisoned(disk, "poisoned").run(1)
            assert refused.value.facts["reason"] == "not finite"
        refusals = [row for row in History.load(disk.tables).live() if row.kind == "refused"]  # type: ignore[arg-type]
        assert [(row.read_count, row.accepted_count, row.quarantined_count, row.digest) for row in refusals] == [(3, 0, 3, "0" * 16)]
        sound = Process(disk, "sound")
        sound.run(1)
        kept = [(row.kind, row.batch_id, row.accepted_count) for row in sound.opened.history.live() if row.batch_id is not None]
        assert kept == [("refused", 0, 0), ("learn", 0, 3), ("learn", 1, 3)]


@pytest.mark.parametrize("name", list(MODELS))
def test_a_shard_that_is_learned_twice_is_taken_once(name: str) -> None:
    """As an executor does that dies after its task and before its answer: what travels is bytes, and each attempt has its own."""
    once, twice = (Lab(settings(f"model.name={name}", "model.shards=4", "model.round_events=100")) for _ in range(2))

    def again(tasks: Sequence[ShardTask]) -> list[ShardResult]:
        packed = [pack_task(task, twice.chosen.model.model_dump_json()) for task in tasks]
        lost = [learn_payload(payload) for payload in packed]
        made = [learn_payload(payload) for payload in packed]
        assert made == lost
        return [unpack_result(payload) for payload in made]

    for number in range(2):
        once.learn(checkerboard(300, start=300 * number))
        twice.learn(checkerboard(300, start=300 * number), again)
    assert once.bits() == twice.bits()


def test_tasks_learned_twice_in_place_would_be_noticed() -> None:
    """The subject that must fail the comparison above: a task's rows are private copies, and learning changes them."""
    once, twice = (Lab(settings("model.name=mf", "model.shards=4")) for _ in range(2))
    once.learn(checkerboard(100))
    twice.learn(checkerboard(100), lambda tasks: [twice.one_by_one(tasks), twice.one_by_one(tasks)][1])
    assert once.bits() != twice.bits()


WEIGHED = ["mf", "bpr", "fm", "rating"]
RARE = np.where(np.arange(300) % 50 == 0, 1e-6, 1.0)  # as logs of uniform policies have it


@pytest.mark.parametrize("name", WEIGHED)
def test_a_propensity_next_to_nothing_weighs_no_more_than_the_clip(name: str) -> None:
    """One in a million: finite, and the same as the clipped weight."""
    clipped, weighted = (Lab(settings(f"model.name={name}", *sets)) for sets in (("model.propensity_clip=20",), ()))
    clipped.learn(replace(checkerboard(300), propensity=RARE))
    weighted.learn(replace(checkerboard(300), weight=np.where(RARE < 1.0, 20.0, 1.0)))
    assert clipped.head.digest == weighted.head.digest
    for block in clipped.learner.model.blocks():
        if block.width:
            assert np.isfinite(clipped.head.values(block.name)).all()


@pytest.mark.parametrize("name", WEIGHED)
def test_without_a_clip_propensities_are_not_looked_at(name: str) -> None:
    with_, without = (Lab(settings(f"model.name={name}")) for _ in range(2))
    with_.learn(replace(checkerboard(300), propensity=RARE))
    without.learn(checkerboard(300))
    assert with_.head.digest == without.head.digest
    clipped = Lab(settings(f"model.name={name}", "model.propensity_clip=20"))
    clipped.learn(replace(checkerboard(300), propensity=RARE))
    assert clipped.head.digest != without.head.digest  # with one they are


def test_weights_of_a_million_are_refused_where_few_rows_may_reach_the_norm_cap() -> None:
    """The rows of such events end at the cap, finite; how many may is a setting."""
    events = replace(checkerboard(300), weight=np.where(RARE < 1.0, 1e6, 1.0))
    with pytest.raises(BatchRefused) as refused:
        Lab(settings("model.name=mf", "model.max_norm=2", "guard.max_capped_share=0.01")).learn(events)
    assert refused.value.facts["reason"] == "capped"
