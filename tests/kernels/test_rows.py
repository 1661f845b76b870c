import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshet.kernels import memory
from freshet.kernels.rows import RowTable


def slow_insert(rows: dict[int, int], keys: list[int]) -> list[int]:
    return [rows.setdefault(key, len(rows)) for key in keys]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1)), max_size=30), max_size=12))
def test_table_equals_a_dict(batches: list[list[int]]) -> None:
    table, rows = RowTable({"count": (np.int64, 0)}), dict[int, int]()
    for batch in batches:
        keys = np.array(batch, dtype=np.int64)
        assert table.lookup(keys).tolist() == [rows.get(key, -1) for key in batch]
        assert table.insert(keys).tolist() == slow_insert(rows, batch)
        assert table.keys.tolist() == list(rows)
        assert len(table) == len(rows)


@pytest.mark.parametrize("step", [1, 7, 1000, 30_000])
def test_table_equals_a_dict_through_many_doublings(step: int) -> None:
    """Sequential and random keys, every size between doublings: also while two indexes stand side by side."""
    rng = np.random.default_rng(step)
    keys = np.concatenate([np.arange(3000), rng.integers(-(2**63), 2**63 - 1, size=3000 if step == 1 else 40_000)])
    table, rows = RowTable({"values": (np.float32, 3), "count": (np.int64, 0)}), dict[int, int]()
    for at in range(0, len(keys), step):
        some = keys[at : at + step]
        assert table.insert(some).tolist() == slow_insert(rows, some.tolist())
        table.column("count")[table.lookup(some)] += some
        probe = np.concatenate([keys[max(0, at - 50) : at + step], keys[at + step : at + step + 50]])
        assert table.lookup(probe).tolist() == [rows.get(key, -1) for key in probe.tolist()]
    assert table.lookup(keys).tolist() == [rows[key] for key in keys.tolist()]
    assert (table.column("count") == table.keys * np.bincount(table.lookup(keys))).all()
    assert not table.column("values").any()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_keys_that_are_not_there_have_no_row_and_leave_none(share: float) -> None:
    random, table, alone = np.random.default_rng(4), RowTable({}), RowTable({})
    for most in (50, 5000, 100_000):
        keys = random.integers(0, most, 20_000)
        there = random.random(len(keys)) < share
        found = table.insert(keys, there)
        assert found[there].tolist() == alone.insert(keys[there]).tolist()
        assert (found[~there] == -1).all() and (found[there] >= 0).all()
    assert table.keys.tolist() == alone.keys.tolist() and bool(len(table)) == bool(share)


def test_cells_survive_growth_and_new_ones_are_zero() -> None:
    columns = {"values": (np.float32, 5), "links": (np.int64, 2), "count": (np.int64, 0), "filled": (np.int32, 0)}
    table = RowTable(columns)
    for start in range(0, 20_000, 500):
        rows = table.insert(np.arange(start, start + 500))
        for name in ("values", "links", "count", "filled"):
            assert not table.column(name)[rows].any()
        table.column("values")[rows] = np.arange(start, start + 500)[:, None]
        table.column("links")[rows, 1] = np.arange(start, start + 500)
        table.column("count")[rows] = 1
    assert (table.column("values") == np.arange(20_000, dtype=np.float32)[:, None]).all()
    assert (table.column("links")[:, 1] == np.arange(20_000)).all()
    assert table.column("count").sum() == 20_000


def test_gather_copies_and_gives_zeros_for_unknown_rows() -> None:
    table = RowTable({"values": (np.float32, 2)})
    assert table.gather("values", np.array([-1, -1], np.int32)).tolist() == [[0, 0], [0, 0]]
    table.insert(np.array([5, 6]))
    table.column("values")[:] = [[1, 2], [3, 4]]
    cells = table.gather("values", np.array([1, -1, 0], np.int32))
    assert cells.tolist() == [[3, 4], [0, 0], [1, 2]]
    cells[:] = 9
    assert table.column("values").tolist() == [[1, 2], [3, 4]]


def test_a_view_kept_across_growth_is_refused_and_nothing_is_lost() -> None:
    table = RowTable({"count": (np.int64, 0)})
    table.insert(np.arange(10))
    kept = table.column("count")
    kept[:] = 7
    with pytest.raises(BufferError):
        table.insert(np.arange(10_000))
    assert len(table) == 10
    del kept
    assert len(set(table.insert(np.arange(10_000)).tolist())) == 10_000
    assert table.column("count").sum() == 70


def test_growth_where_memory_cannot_be_remapped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(memory.mmap.mmap):
        def resize(self, newsize: int) -> None:
            raise SystemError("mmap: resizing not available--no mremap()")

    monkeypatch.setattr(memory.mmap, "mmap", Fixed)
    table = RowTable({"values": (np.float32, 3)})
    table.insert(np.arange(900))
    table.column("values")[:] = 2
    table.insert(np.arange(5000))
    assert table.column("values").sum() == 900 * 3 * 2


def test_memory_is_counted_and_small() -> None:
    table = RowTable({"values": (np.float32, 19), "count": (np.int64, 0)})
    table.insert(np.arange(100_000))
    per_row = table.nbytes / 100_000
    assert 19 * 4 + 8 + 8 + 4 / 0.6 <= per_row <= 19 * 4 + 8 + 8 + 30


def test_a_table_without_columns_is_an_index() -> None:
    table = RowTable({})
    assert table.insert(np.array([3, 3, 4])).tolist() == [0, 0, 1]
    assert table.insert(np.empty(0, np.int64)).tolist() == []
