import numpy as np
import pytest

from freshet.errors import UnknownName
from freshet.kernels.seeds import combine, initial_rows, mix
from freshet.registry import pick

MASK = 2**64 - 1


def slow_mix(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def slow_coordinate(seed: int, key: int, coordinate: int, scale: float) -> np.float32:
    state = slow_mix(slow_mix(seed) ^ (key & MASK))
    h = slow_mix((state + coordinate * 0x9E3779B97F4A7C15) & MASK)
    lanes = sum((h >> shift) & 0xFFFF for shift in (0, 16, 32, 48))
    return np.float32((lanes - 131070) * (scale / ((2**32 - 1) / 3) ** 0.5))


def test_mix_equals_the_published_sequence_and_the_twin() -> None:
    assert mix(0) == 0xE220A8397B1DCDAF  # first output of splitmix64 seeded with 0
    assert mix(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4  # second
    for x in (1, 42, 2**63 - 1, 2**63, MASK):
        assert mix(x) == slow_mix(x)
        assert combine(x, 7) == slow_mix(slow_mix(x) ^ 7)
    assert combine(1, 2) != combine(2, 1)
    many = np.array([0, 1, MASK], dtype=np.uint64)
    assert mix(many).tolist() == [slow_mix(x) for x in many.tolist()]


def test_initial_rows_equal_the_twin_to_the_bit() -> None:
    keys = np.array([0, 1, -1, 2**63 - 1, -(2**63)], dtype=np.int64)
    out = np.full((5, 5), 9.0, dtype=np.float32)
    initial_rows(keys, out, 0.1, -3, first=1)
    assert (out[:, 0] == 0).all()
    for i, key in enumerate(keys.tolist()):
        for c in range(1, 5):
            assert out[i, c].tobytes() == slow_coordinate(-3 & MASK, key, c, 0.1).tobytes()


def test_initial_rows_do_not_depend_on_order_or_split() -> None:
    keys = np.arange(-50, 50, dtype=np.int64)
    whole = np.zeros((100, 4), dtype=np.float32)
    initial_rows(keys, whole, 1.0, 5)
    part = np.zeros((30, 4), dtype=np.float32)
    initial_rows(np.ascontiguousarray(keys[40:70][::-1]), part, 1.0, 5)
    assert (part[::-1] == whole[40:70]).all()


def test_initial_rows_are_nearly_normal_and_uncorrelated() -> None:
    out = np.zeros((20_000, 4), dtype=np.float32)
    initial_rows(np.arange(20_000, dtype=np.int64), out, 0.5, 1)
    assert abs(out.mean()) < 0.01
    assert out.std() == pytest.approx(0.5, rel=0.02)
    assert np.abs(np.corrcoef(out.T) - np.eye(4)).max() < 0.04
    assert (np.abs(out) < 0.5).mean() == pytest.approx(0.68, abs=0.02)
    other = np.zeros((20_000, 4), dtype=np.float32)
    initial_rows(np.arange(20_000, dtype=np.int64), other, 0.5, 2)
    assert abs(np.corrcoef(out.ravel(), other.ravel())[0, 1]) < 0.02


def test_read_only_keys_are_taken_and_nothing_compiles_again() -> None:
    keys = np.arange(3, dtype=np.int64)
    keys.flags.writeable = False
    initial_rows(keys, np.zeros((3, 2), dtype=np.float32), 1.0, 1)
    from freshet.kernels import seeds

    assert len(seeds.fill_initial_rows.signatures) == 1  # type: ignore[attr-defined]


def test_pick_names_the_known_and_the_nearest() -> None:
    assert pick("rule", "sum", {"sum": 3}) == 3
    with pytest.raises(UnknownName) as refused:
        pick("rule", "averge", {"sum": 1, "average": 2})
    assert refused.value.facts == {"kind": "rule", "name": "averge", "known": ["average", "sum"], "nearest": "average"}
    with pytest.raises(UnknownName) as refused:
        pick("rule", "zzz", {"sum": 1})
    assert refused.value.facts["nearest"] == ""
