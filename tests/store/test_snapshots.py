"""The void rule, lines, paths and bases against definitions written out in full, on thousands of random histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.errors import StateDamaged
from freshet.store.snapshots import BASE, ROLLBACK, START, History, Snapshot, line

anything = st.builds(
    Snapshot, version=st.integers(0, 7), commit_id=st.sampled_from("abcdefgh"), epoch=st.integers(1, 3),
    branch=st.sampled_from(["main", "main@3"]),
)  # fmt: skip


def is_void(row: Snapshot, rows: list[Snapshot]) -> bool:
    return any(
        (other.version <= row.version and other.epoch > row.epoch)
        or (other.version == row.version and other.epoch == row.epoch and other.commit_id < row.commit_id)
        for other in rows
    )


@given(st.lists(anything, unique_by=lambda row: (row.version, row.epoch, row.commit_id)))
def test_a_row_lives_exactly_when_the_void_rule_spares_it(rows: list[Snapshot]) -> None:
    live = [row for row in rows if not is_void(row, rows)]
    history = History(rows)
    assert history.live() == sorted(live, key=lambda row: row.version)
    assert len({row.version for row in live}) == len(live)
    assert history.next_version() == max((row.version for row in live), default=-1) + 1
    ids = {row.commit_id for row in live}
    assert all(history.is_live(row.commit_id) == (row.commit_id in ids) for row in rows)
    assert all(history.since(version) == [row for row in history.live() if row.version >= version] for version in range(9))


@given(st.lists(anything, unique_by=lambda row: (row.version, row.epoch, row.commit_id)))
def test_added_one_by_one_is_the_same_as_read_at_once(rows: list[Snapshot]) -> None:
    grown = History([])
    for row in rows:
        grown.add(row)
    assert grown.live() == History(rows).live()
    assert grown.epoch == History(rows).epoch
    assert all(grown.is_live(row.commit_id) == History(rows).is_live(row.commit_id) for row in rows)
    assert sorted(map(repr, grown.rows)) == sorted(map(repr, rows))


class Story:
    """A history as one writer makes it, and beside it what every version consists of, kept as plain lists."""

    def __init__(self) -> None:
        self.history = History([Snapshot(0, "c0", kind=START)])
        self.made_of: dict[int, list[int]] = {0: [0]}
        self.head = 0
        self.epoch = 1

    def _add(self, row: Snapshot, before: list[int]) -> None:
        self.history.add(row)
        self.made_of[row.version] = [*before, row.version]
        self.head = row.version

    def learn(self, kind: str = "learn", **more: object) -> None:
        last = self.history.get(self.head)
        assert last is not None
        number = self.history.next_version()
        row = Snapshot(number, f"c{number}", branch=last.branch, path=last.path, kind=kind, parent=last.version, epoch=self.epoch, **more)  # type: ignore[arg-type]
        self._add(row, self.made_of[self.head])

    def start(self) -> None:
        self.epoch += 1
        self.learn(START)

    def roll_back(self, to: int) -> None:
        number, target = self.history.next_version(), to % self.history.next_version()
        path = (*self.history.path_of(target), (f"main@{number}", None))
        row = Snapshot(number, f"c{number}", branch=f"main@{number}", path=path, kind=ROLLBACK, parent=target, epoch=self.epoch)
        self._add(row, self.made_of[target])

    def base(self, of: int) -> None:
        self.learn(BASE, base_id=f"b{self.history.next_version()}", base_version=of % self.history.next_version())

    def zombie(self, back: int) -> None:
        """A row of a lower epoch that lands late: void, and nobody's parent."""
        if self.epoch > 1:
            version = max(self.head - back % 3, 1)
            if not any(row.epoch < self.epoch and row.version >= version for row in self.history.live()):
                self.history.add(Snapshot(version, f"z{version}", epoch=1, kind="learn"))


moves = st.lists(
    st.tuples(st.sampled_from(["learn", "learn", "start", "roll_back", "base", "zombie"]), st.integers(0, 30)), max_size=25
)


def tell(chosen: list[tuple[str, int]]) -> Story:
    story = Story()
    for move, number in chosen:
        if move in ("learn", "start"):
            getattr(story, move)()
        else:
            getattr(story, move)(number)
    return story


@given(moves)
def test_the_path_of_every_version_gives_what_it_was_made_of(chosen: list[tuple[str, int]]) -> None:
    story = tell(chosen)
    for version, parts in story.made_of.items():
        found = story.history.commits(version)
        assert [row.version for row in found] == parts
        assert not any(row.commit_id.startswith("z") for row in found)
        for other in story.made_of:
            assert story.history.on_path(version, other) == (other in parts)


@given(moves)
def test_the_newest_of_a_line_is_where_its_learner_stands(chosen: list[tuple[str, int]]) -> None:
    story = tell(chosen)
    newest = story.history.newest()
    assert newest is not None
    assert newest.version == story.head
    assert story.history.next_version() == story.head + 1


@given(moves)
def test_the_base_of_a_version_holds_the_newest_state_that_is_part_of_it(chosen: list[tuple[str, int]]) -> None:
    story = tell(chosen)
    bases = [row for row in story.history.live() if row.kind == BASE]
    for version, parts in story.made_of.items():
        usable = [row.base_version for row in bases if row.base_version in parts]
        found = story.history.newest_base(version)
        assert (found.base_version if found else None) == max((number for number in usable if number is not None), default=None)


def test_batches_are_found_by_checkpoint_and_number() -> None:
    first = Snapshot(0, "a", checkpoint_id="x", batch_id=4, fingerprint="f")
    second = Snapshot(1, "b", checkpoint_id="x", batch_id=5)
    history = History([first, second, Snapshot(2, "c")])
    assert history.of_batch("x", 4) == first
    assert history.of_batch("y", 4) is None
    assert history.of_batch(None, 4) is None
    assert history.last_of_checkpoint("x") == second
    assert history.last_streamed() == second


def test_a_version_that_is_not_there_is_told_by_name() -> None:
    with pytest.raises(StateDamaged) as caught:
        History([Snapshot(0, "a")]).path_of(3)
    assert caught.value.facts["version"] == 3


def test_a_branch_belongs_to_the_line_before_its_sign() -> None:
    assert (line("main"), line("main@151"), line("challenger@2")) == ("main", "main", "challenger")
