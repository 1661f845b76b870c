"""Learners, stores and readers with one thing put wrong: each must be caught, by the invariant it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import invariants
import numpy as np
import pytest
import shell
from actions import Check, Corrupt, Crash, ExpectError, Repair, Restart, Run, play
from shell import Process
from test_actions import AFTER, BEFORE, some

from freshet.errors import FreshetError, StateDamaged
from freshet.head import Head
from freshet.learner import Learner
from freshet.pipelines.assembly import new_head
from freshet.pipelines.rows import from_arrow
from freshet.settings import Settings
from freshet.store import commit, files
from freshet.store.parameters import load_arrow
from freshet.store.snapshots import History, Snapshot

AGAIN = (*BEFORE, Restart(), some(0), Run(), *AFTER)
LOST_WORD = (*BEFORE, Corrupt("commits", "lost"), Run(), *AFTER)
DAMAGED = (*BEFORE, Corrupt("parameters", "flip"), Run(), Repair(), *AFTER)


def caught(actions: Sequence[Any], kind: type[Process] = Process) -> str:
    """The story of how a list failed; one without a fault in it must not fail."""
    with pytest.raises(AssertionError) as failure:
        play(actions, seed=7, kind=kind)
    return str(failure.value)


@pytest.mark.parametrize("actions", [AGAIN, LOST_WORD, DAMAGED, (*BEFORE, some(8), Crash("after_parameters"), *AFTER)])
def test_a_sound_shell_passes_what_the_broken_ones_below_do_not(actions: Sequence[Any]) -> None:
    play(actions)


class Forgets(Process):
    """Does not read back which events it has learned."""

    remembers = False


class LearnsAgain(Process):
    """Does not look whether a batch was committed."""

    def learn(self, number: int) -> None:
        real = self.committer._done
        self.committer._done = lambda batch, read: real(batch, read) and None  # type: ignore[method-assign]
        super().learn(number)


class TakesTooMuch(Process):
    """Takes into its head what it is not sure was committed."""

    def learn(self, number: int) -> None:
        head: Head = self.opened.head
        super().learn(number)
        table = head.tables["user"]
        if number == 1:
            table.column("values")[0, 1] += np.float32(0.01)


def test_one_that_forgets_what_it_learned_is_caught() -> None:
    story = caught(AGAIN, Forgets)
    assert "Broken: I1" in story and "never hurt" in story
    assert "seed 7" in story and "-> Run" in story and "the last versions:" in story and "main learn epoch 2" in story


def test_one_that_learns_a_committed_batch_again_is_caught() -> None:
    assert "Broken: I1: micro-batches [0, 1, 1" in caught(LOST_WORD, LearnsAgain)


def test_a_head_that_left_what_was_committed_is_caught_by_the_oracle() -> None:
    assert "Broken: I1: ['rows of user by 0.01']" in caught(BEFORE, TakesTooMuch)


def test_an_event_that_is_counted_nowhere_is_caught(monkeypatch) -> None:
    real = commit.Writer.commit

    def silent(self: Any, attempt: Any, parts: Any, fields: Any, beside: Any = ()) -> Any:
        return real(self, attempt, parts, {**fields, **({"quarantined_count": 0} if "read_count" in fields else {})}, beside)

    monkeypatch.setattr(commit.Writer, "commit", silent)
    assert "Broken: I2: version 1 read 4" in caught((some(0, broken=True), Run(), Check()))


def test_rows_that_are_committed_without_their_number_are_caught(monkeypatch) -> None:
    real = commit.Writer._append_parts

    def half(self: Any, attempt: Any, parts: Any) -> Any:
        return real(self, attempt, [(one, {name: rows for name, rows in tables.items() if name != "events"}) for one, tables in parts])

    monkeypatch.setattr(commit.Writer, "_append_parts", half)
    assert "Broken: I2: 0 rows of events" in caught(BEFORE)


def test_versions_with_a_gap_and_of_the_wrong_parent_are_caught(monkeypatch) -> None:
    real = History.next_version
    with monkeypatch.context() as patch:
        patch.setattr(History, "next_version", lambda self: real(self) + (real(self) > 0))
        assert "Broken: I3: [0, 2" in caught(BEFORE)
    began = commit.Writer.begin
    monkeypatch.setattr(commit.Writer, "begin", lambda self, line=None: replace(began(self, line), parent=0))
    assert "Broken: I3: [0, 0, 0" in caught((some(0), Run(), Crash("before_plan"), some(4), *AFTER))


def unverified(reading: Any, settings: Settings, learner: Learner) -> Head:
    """The head as its rows give it, whatever digest they have."""
    head = new_head(learner.model, settings)
    for name, table in load_arrow(reading.tables, reading.history, reading.version).items():
        for rows in from_arrow(head.blocks[name], table.sort_by("key").combine_chunks()):
            head.put(name, rows)
    head.clock = reading.snapshot.event_clock or 0
    return head


def test_a_damaged_row_that_nobody_verifies_is_caught(monkeypatch) -> None:
    monkeypatch.setattr(shell, "load_head", unverified)
    assert "Broken: I3: damaged rows were opened" in caught((*BEFORE, Corrupt("parameters", "flip")))


@pytest.mark.parametrize(("value", "what"), [(np.nan, "not finite"), (50.0, "a row of item is 50")])
def test_a_row_that_is_no_number_or_beyond_the_cap_is_caught(value: float, what: str) -> None:
    head = play(BEFORE).looked[1]
    invariants.rows_are_sound(head)
    head.tables["item"].column("values")[0, 1] = value
    with pytest.raises(invariants.Broken, match=f"I4: .*{what}"):
        invariants.rows_are_sound(head)


def test_a_reader_of_rows_that_nobody_committed_is_caught(monkeypatch) -> None:
    monkeypatch.setattr(files, "_ids", lambda commits: ("commit_id", "is", False))
    assert "Broken: I3: Version 5 cannot be had" in caught((*BEFORE, some(8), Crash("after_parameters"), *AFTER))


def test_a_reader_that_goes_back_or_sees_a_mix_is_caught() -> None:
    world = play(BEFORE)
    live = [Snapshot(version, "", kind="start") for version in range(3)]
    sight = invariants.Sight(History(live), live, [], world.looked[1])
    invariants.readers_see_what_is_committed(world, sight)
    world.newest = 3
    with pytest.raises(invariants.Broken, match="I5: version 2 after 3"):
        invariants.readers_see_what_is_committed(world, sight)
    world.newest, sight.head.digest = 0, sight.head.digest ^ 1
    with pytest.raises(invariants.Broken, match=r"I5: .* which nobody committed"):
        invariants.readers_see_what_is_committed(world, sight)


def test_an_error_without_a_way_out_is_caught(monkeypatch) -> None:
    def helpless(what: str, *, remedy: str, **facts: Any) -> FreshetError:
        return StateDamaged(what, remedy="", **facts)

    monkeypatch.setattr("freshet.pipelines.opening.StateDamaged", helpless)
    assert "Broken: I6: StateDamaged says" in caught((*BEFORE, Corrupt("parameters", "flip"), Restart()))


def test_an_error_that_does_not_come_again_is_caught(monkeypatch) -> None:
    """A shell that refuses damaged rows once, and goes on with what it had when it is asked again."""
    refused, sound = list[StateDamaged](), list[Head]()
    real = shell.load_head

    def once(reading: Any, settings: Settings, learner: Learner) -> Head:
        if len(refused) == 2:  # by the reader that looks after the damage was done, and by the run after it
            return sound[-1]
        try:
            sound.append(real(reading, settings, learner))
        except StateDamaged as error:
            refused.append(error)
            raise
        return sound[-1]

    monkeypatch.setattr(shell, "load_head", once)
    story = caught(DAMAGED)
    assert "nothing was mended, and it did not say again" in story and "-> Run" in story and len(refused) == 2


def test_an_error_that_was_expected_and_did_not_come_is_caught() -> None:
    assert "SourceChanged was expected, and it ended with None" in caught((*BEFORE, ExpectError("SourceChanged"), Restart()))
