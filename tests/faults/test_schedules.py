"""Faults by chance: schedules from seeds. FRESHET_SCHEDULES says how many (default 16), FRESHET_FIRST_SEED where they begin."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache

import pytest
from actions import play
from schedules import schedule

FIRST = int(os.environ.get("FRESHET_FIRST_SEED", "0"))
COUNT = int(os.environ.get("FRESHET_SCHEDULES", "16"))
# What faults end with; a lost reply of the row that commits ends with nothing, and with the same state.
ENDS = {"Injected", "StoreFailed", "StateDamaged", "SourceChanged", "CheckpointRefused", "Fenced", "lost snapshots"}


@cache
def happened(seed: int) -> Counter[str]:
    """What the faults of a schedule have done."""
    return play(schedule(seed), seed).happened


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_a_schedule_of_faults_ends_as_if_there_had_been_none(seed: int) -> None:
    happened(seed)


def test_every_kind_of_fault_takes_effect() -> None:
    together = sum((happened(seed) for seed in range(16)), Counter[str]())
    assert {name for name in together if together[name]} >= ENDS, together
    assert together["Injected"] > 16


def test_one_seed_is_one_schedule() -> None:
    assert [schedule(3), schedule(4)] == [schedule(3), schedule(4)]
    assert schedule(3) != schedule(4)
