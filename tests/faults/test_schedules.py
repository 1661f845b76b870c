"""Faults by chance: schedules from seeds. FRESHET_SCHEDULES says how many (default 16), FRESHET_FIRST_SEED where they begin."""

from __future__ import annotations

import os

import pytest
from actions import play
from schedules import schedule

FIRST = int(os.environ.get("FRESHET_FIRST_SEED", "0"))
COUNT = int(os.environ.get("FRESHET_SCHEDULES", "16"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_a_schedule_of_faults_ends_as_if_there_had_been_none(seed: int) -> None:
    play(schedule(seed), seed)


def test_one_seed_is_one_schedule() -> None:
    assert [schedule(3), schedule(4)] == [schedule(3), schedule(4)]
    assert schedule(3) != schedule(4)
