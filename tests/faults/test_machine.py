"""Faults as Hypothesis finds them: it shrinks a list that fails to the shortest that does."""

from __future__ import annotations

import os
from contextlib import ExitStack

from actions import (
    BASE,
    PLACES,
    TABLES,
    Add,
    Advance,
    Check,
    Corrupt,
    Crash,
    Fill,
    Free,
    Late,
    LoseReply,
    Repair,
    Restart,
    Run,
    TakeOver,
    World,
)
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from memory import in_memory
from schedules import DAMAGE
from shell import SECOND, WINDOW, Event

EVENTS = st.lists(
    st.builds(
        Event, st.integers(0, 30).map("e{}".format), st.integers(0, 3).map("u{}".format), st.integers(0, 4).map("i{}".format),
        st.integers(1, 5).map(float), st.integers(-2 * WINDOW, 300).map(lambda at: BASE + at), st.sampled_from((0, 0, 1, 2)),
        st.sampled_from((False, False, False, True))),
    min_size=1, max_size=4).map(tuple)  # fmt: skip


class Machine(RuleBasedStateMachine):
    """A world, to which any of the actions may be done at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        clock = self.open.enter_context(in_memory())
        clock.now = BASE * SECOND
        self.world = World(clock)

    @rule(events=EVENTS, run=st.booleans())
    def add(self, events, run) -> None:
        self.world.do(Add(events))
        if run:
            self.world.do(Run())

    @rule(files=st.integers(1, 2))
    def run(self, files) -> None:
        self.world.do(Run(files))

    @rule(place=st.sampled_from(PLACES), time=st.integers(1, 3))
    def crash(self, place, time) -> None:
        self.world.do(Crash(place, time))

    @rule()
    def restart(self) -> None:
        self.world.do(Restart())

    @rule(seconds=st.sampled_from((30, WINDOW, -900)))
    def advance(self, seconds) -> None:
        self.world.do(Advance(seconds))

    @rule(damage=st.sampled_from(DAMAGE))
    def corrupt(self, damage) -> None:
        self.world.do(Corrupt(*damage))

    @precondition(lambda self: self.world.damaged)
    @rule()
    def repair(self) -> None:
        self.world.do(Repair())

    @rule(room=st.integers(0, 6))
    def fill(self, room) -> None:
        self.world.do(Fill(room))

    @precondition(lambda self: self.world.disk.tables.room is not None)
    @rule()
    def free(self) -> None:
        self.world.do(Free())

    @rule(table=st.sampled_from((*TABLES, "snapshots")))
    def lose_reply(self, table) -> None:
        self.world.do(LoseReply(table))

    @rule()
    def take_over(self) -> None:
        self.world.do(TakeOver())

    @precondition(lambda self: self.world.elder is not None)
    @rule()
    def late(self) -> None:
        self.world.do(Late())

    def teardown(self) -> None:
        try:
            for action in (Free(), Repair(), Run(), Run(), Restart(), Check()):
                self.world.do(action)
        finally:
            self.open.close()


def test_no_list_of_actions_breaks_an_invariant() -> None:
    many = int(os.environ.get("FRESHET_SCHEDULES", "16"))
    run_state_machine_as_test(Machine, settings=settings(
        max_examples=many, stateful_step_count=10, deadline=None, derandomize=True, database=None,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck)))  # fmt: skip
