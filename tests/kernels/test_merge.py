from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from freshet.errors import UnknownName
from freshet.kernels.merge import RULES, Part, Span, add_counts, decay, merge_parts

Merge = Callable[..., np.ndarray]


def merge_rows(rule: str, base: Any, rows: Any, news: Any, a: Any, counts: Any, base_counts: Any) -> np.ndarray:
    """merge_parts of contributions sorted by (row, shard): the first of every row from one shard, the second from the next, .."""
    out, which = base.copy(), np.arange(len(rows)) - np.searchsorted(rows, rows)
    shards = [np.flatnonzero(which == shard) for shard in range(which.max(initial=-1) + 1)]
    parts = [Part(*(np.ascontiguousarray(column[at]) for column in (rows, news, a, counts))) for at in shards]
    merge_parts(rule, out, parts, [Span(0, base.shape[1], 1.0, 0.0)], base_counts)
    return out


def slow_merge(rule: str, base: Any, rows: Any, news: Any, a: Any, counts: Any, base_counts: Any) -> np.ndarray:
    """The table of the module, row by row."""
    out = base.copy()
    for row in sorted(set(rows.tolist())):
        of_row = np.flatnonzero(rows == row)
        if len(of_row) == 1:
            out[row] = news[of_row[0]]
            continue
        d = news[of_row].astype(np.float64) - base[row].astype(np.float64)
        ap, n0, n = a[of_row], base_counts[row], counts[of_row]
        if rule == "sum":
            change = d.sum(axis=0)
        elif rule == "average":
            change = d.mean(axis=0)
        elif rule == "mean":
            change = (d * (n0 + n)[:, None]).sum(axis=0) / (n0 + n.sum())
        else:
            weight = np.array([x / -np.expm1(-x) if x > 0 else 1.0 for x in ap])
            whole = ap.sum()
            change = (-np.expm1(-whole) / whole if whole > 0 else 1.0) * summed(rule, weight[:, None], d)
        out[row] = base[row].astype(np.float64) + change
    return out


def summed(rule: str, weight: np.ndarray, d: np.ndarray) -> np.ndarray:
    """What a rule of kernels.robust makes of the shards' changes d of one row; of other rules their sum."""
    if rule == "clipped" and len(d) > 2:
        norms = [float(np.linalg.norm(one)) for one in d]
        d = np.stack([one * min(1.0, 2 * float(np.median(norms)) / norm) for one, norm in zip(d, norms, strict=True)])
    if rule == "trimmed" and len(d) > 2:
        cut = max(len(d) // 4, 1)
        return np.asarray(len(d) * np.sort(weight * d, axis=0)[cut : len(d) - cut].mean(axis=0))
    return np.asarray((weight * d).sum(axis=0))


def contributions(seed: int = 0, r: int = 20, m: int = 50, w: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "base": rng.normal(size=(r, w)).astype(np.float32),
        "rows": np.sort(rng.integers(0, r, size=m)).astype(np.int32),
        "news": rng.normal(size=(m, w)).astype(np.float32), "a": rng.gamma(1.0, 1.0, size=m),
        "counts": rng.integers(1, 9, size=m), "base_counts": rng.integers(0, 9, size=r),
    }


def pair(a: float, d: tuple[float, float] = (0.25, 0.5)) -> dict[str, Any]:
    """Two shards on one row at 1, with changes d."""
    return {
        "base": np.ones((1, 1), np.float32), "rows": np.zeros(2, np.int32), "a": np.array([a, a]),
        "news": np.array([[1 + d[0]], [1 + d[1]]], np.float32),
        "counts": np.ones(2, np.int64), "base_counts": np.zeros(1, np.int64),
    }


# The contract: each check takes a rule and what merges; it knows no names.

def check_one_shard_is_taken_as_it_is(merge: Merge, rule: str) -> None:
    given = contributions(m=20) | {"rows": np.arange(20, dtype=np.int32)}
    assert merge(rule, **given).tobytes() == given["news"].tobytes()


def check_untouched_rows_stay(merge: Merge, rule: str) -> None:
    given = contributions(m=3) | {"rows": np.array([4, 4, 9], np.int32)}
    rest = np.setdiff1d(np.arange(20), [4, 9])
    assert (merge(rule, **given)[rest] == given["base"][rest]).all()


def check_disjoint_rows_are_summed(merge: Merge, rule: str) -> None:
    """Shards on different rows: base plus every change, whatever the order in which shards come."""
    given = contributions(m=10) | {"rows": np.arange(10, dtype=np.int32)}
    summed = given["base"].astype(np.float64)
    summed[:10] += given["news"].astype(np.float64) - given["base"][:10]
    assert np.allclose(merge(rule, **given), summed, atol=1e-6)


def check_same_order_same_bits(merge: Merge, rule: str) -> None:
    given = contributions(1)
    assert merge(rule, **given).tobytes() == merge(rule, **given).tobytes()


def check_rows_do_not_meet(merge: Merge, rule: str) -> None:
    """Any split of the rows gives the same bits."""
    given = contributions(2)
    low = given["rows"] < 10
    whole = merge(rule, **given)
    for part in (low, ~low):
        some = given | {name: given[name][part] for name in ("rows", "news", "a", "counts")}
        touched = np.unique(some["rows"])
        assert merge(rule, **some)[touched].tobytes() == whole[touched].tobytes()


def check_no_change_is_no_change(merge: Merge, rule: str) -> None:
    given = contributions(3)
    assert (merge(rule, **given | {"news": given["base"][given["rows"]]}) == given["base"]).all()


def check_input_is_left_alone(merge: Merge, rule: str) -> None:
    """A part may have its rows in common with whoever handed it in: each is written only by who owns it."""
    given = contributions(4)
    for name in ("news", "a", "counts", "base_counts"):
        given[name].flags.writeable = False
    before = given["base"].copy()
    merge(rule, **given)
    assert (given["base"] == before).all()


CHECKS = [
    check_one_shard_is_taken_as_it_is, check_untouched_rows_stay, check_disjoint_rows_are_summed,
    check_same_order_same_bits, check_rows_do_not_meet, check_no_change_is_no_change, check_input_is_left_alone,
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("check", CHECKS)
def test_contract(check: Callable[[Merge, str], None], rule: str) -> None:
    check(merge_rows, rule)


def broken_recomputes(rule: str, base: Any, rows: Any, news: Any, **_: Any) -> np.ndarray:
    out = base + np.float32(0)
    np.add.at(out, rows, (news - base[rows]) * np.float32(0.999))
    return out


def broken_drifts(rule: str, base: Any, **more: Any) -> np.ndarray:
    return slow_merge(rule, base, **more) + np.float32(0.01)


_calls = [0]


def broken_by_call(rule: str, base: Any, **more: Any) -> np.ndarray:
    _calls[0] += 1
    return slow_merge(rule, base, **more) * np.float32(1 + 1e-6 * _calls[0])


def broken_by_company(rule: str, base: Any, rows: Any, **more: Any) -> np.ndarray:
    return slow_merge(rule, base, rows, **more) / np.float32(len(rows))


def broken_in_place(rule: str, base: Any, **more: Any) -> np.ndarray:
    base += 1
    return base


@pytest.mark.parametrize(("check", "broken"), [
    (check_one_shard_is_taken_as_it_is, broken_recomputes),
    (check_untouched_rows_stay, broken_drifts),
    (check_disjoint_rows_are_summed, broken_drifts),
    (check_same_order_same_bits, broken_by_call),
    (check_rows_do_not_meet, broken_by_company),
    (check_no_change_is_no_change, broken_drifts),
    (check_input_is_left_alone, broken_in_place),
])
def test_every_check_fails_on_a_broken_rule(check: Callable[[Merge, str], None], broken: Merge) -> None:
    with pytest.raises(AssertionError):
        check(broken, "sum")


def test_every_check_has_a_broken_rule() -> None:
    mark = next(iter(test_every_check_fails_on_a_broken_rule.pytestmark))  # type: ignore[attr-defined]
    assert {check for check, _ in mark.args[1]} == set(CHECKS)


@pytest.mark.parametrize("rule", RULES)
def test_rules_equal_the_twin(rule: str) -> None:
    for seed in range(5):
        given = contributions(seed)
        assert np.allclose(merge_rows(rule, **given), slow_merge(rule, **given), rtol=1e-6, atol=1e-6)


def parts_of(seed: int, shards: int = 4, r: int = 20, w: int = 5) -> list[Part]:
    """Some rows of each shard, in any order; of some of them the shard met no event."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(shards):
        m = int(rng.integers(0, r))
        rows, news = rng.permutation(r)[:m].astype(np.int32), rng.normal(size=(m, w)).astype(np.float32)
        made.append(Part(rows, news, rng.gamma(1.0, 1.0, m), rng.integers(0, 3, m)))
    return made


@pytest.mark.parametrize("rule", RULES)
def test_parts_of_shards_are_merged_column_by_column(rule: str) -> None:
    """Each span of columns is what merge_rows makes of it, to the bit, with the contraction of the span."""
    for seed in range(5):
        parts, given = parts_of(seed), contributions(seed)
        values, before = given["base"].copy(), given["base_counts"]
        merge_parts(rule, values, parts, [Span(0, 3, 1.0, 0.0), Span(3, 4, 2.0, 0.0), Span(4, 5, 0.0, 0.25)], before)
        rows, news, a, counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(rows, kind="stable")
        order = order[counts[order] > 0]
        rows, news, a, counts = (column[order] for column in (rows, news, a, counts))
        for at, own in ((slice(0, 3), a), (slice(3, 4), 2.0 * a), (slice(4, 5), 0.25 * counts)):
            base, made = (np.ascontiguousarray(part[:, at]) for part in (given["base"], news))
            same = rule if at.start == 0 or rule not in ("clipped", "trimmed") else "contraction"  # those are for vectors alone
            wanted = merge_rows(same, base, rows, made, own, counts, before)
            assert values[:, at].tobytes() == wanted.tobytes()
            assert np.allclose(wanted, slow_merge(same, base, rows, made, own, counts, before), rtol=1e-6, atol=1e-6)


def test_what_a_shard_met_no_event_of_says_nothing() -> None:
    values = np.ones((2, 1), np.float32)
    silent = Part(np.array([0, 1], np.int32), np.full((2, 1), np.nan, np.float32), np.zeros(2), np.zeros(2, np.int64))
    heard = Part(np.array([1], np.int32), np.full((1, 1), 5.0, np.float32), np.ones(1), np.ones(1, np.int64))
    merge_parts("contraction", values, [silent, heard], [Span(0, 1, 1.0, 0.0)], np.zeros(2, np.int64))
    assert values.tolist() == [[1.0], [5.0]]


def test_counts_add_up_over_the_parts() -> None:
    parts = parts_of(1)
    to, also, wanted = np.arange(20), np.zeros(20, np.int64), np.zeros(20, np.int64)
    for part in parts:
        add_counts(part.rows, part.counts, to, also)
        wanted[part.rows] += part.counts
    assert also.tolist() == wanted.tolist() and to.tolist() == (np.arange(20) + wanted).tolist() and wanted.any()


def test_contraction_between_its_limits() -> None:
    assert merge_rows("contraction", **pair(0.0)) == pytest.approx(1.75, abs=0)
    assert merge_rows("contraction", **pair(1e-9)) == pytest.approx(1.75, rel=1e-7)
    assert merge_rows("contraction", **pair(1e6)) == pytest.approx(1.375, rel=1e-7)
    # a = 1 twice: (1-e^-2)/2 * 2 * 1/(1-e^-1) * ... = 0.75 * (1+e^-1)/2
    assert merge_rows("contraction", **pair(1.0)) == pytest.approx(1 + 0.75 * (1 + np.exp(-1)) / 2, rel=1e-6)


def test_mean_is_the_mean_over_all_events() -> None:
    rng = np.random.default_rng(5)
    values = [rng.normal(size=n) for n in (4, 3, 6)]  # before the batch, first shard, second shard
    news = [np.concatenate([values[0], own]).mean() for own in values[1:]]
    given = pair(0.0) | {
        "base": np.array([[values[0].mean()]], np.float32), "news": np.array(news, np.float32)[:, None],
        "counts": np.array([3, 6]), "base_counts": np.array([4]),
    }
    assert merge_rows("mean", **given)[0, 0] == pytest.approx(np.concatenate(values).mean(), abs=1e-6)


@pytest.mark.parametrize("a", [0.0, 1e-300, 1e-12, 1e-3, 0.1249, 0.125, 0.13, 1.0, 7.7, 40.0, 64.0, 65.0, 1e9])
def test_decay_equals_expm1(a: float) -> None:
    assert decay(a) == pytest.approx(-np.expm1(-a), rel=1e-14, abs=0)


def test_refusals() -> None:
    with pytest.raises(UnknownName) as refused:
        merge_rows("contracton", **pair(0.0))
    assert refused.value.facts["nearest"] == "contraction"
    for rows in ([0, 20], [-1, 0]):
        with pytest.raises(ValueError):
            merge_rows("sum", **contributions(m=2) | {"rows": np.array(rows, np.int32)})


def test_rows_of_width_zero_and_no_contribution() -> None:
    assert merge_rows("sum", **contributions(w=0)).shape == (20, 0)
    given = contributions(m=0)
    assert (merge_rows("sum", **given) == given["base"]).all()


@pytest.mark.parametrize("far", [10.0, 1000.0])
def test_one_shard_pulls_a_row_no_farther_by_a_robust_rule_however_far_it_wants(far: float) -> None:
    """Seven shards want about 1, one wants to go far away; each alone moves the row by next to nothing of what it lacks."""
    near = np.linspace(0.9, 1.1, 7)
    given = {
        "base": np.zeros((1, 1), np.float32), "rows": np.zeros(8, np.int32), "a": np.full(8, 1e-3),
        "news": np.append(near, far).astype(np.float32)[:, None], "counts": np.ones(8, np.int64), "base_counts": np.zeros(1, np.int64),
    }
    pulled = {rule: float(merge_rows(rule, **given)[0, 0]) for rule in ("contraction", "clipped", "trimmed")}
    assert pulled["contraction"] > 0.9 * far
    assert 7 < pulled["clipped"] < 9.5 and 7.5 < pulled["trimmed"] < 8.5
    for wild in (np.inf, -np.inf, np.nan):  # that is for the guard to see, not for a rule to hide
        lost = {**given, "news": np.append(near, wild).astype(np.float32)[:, None]}
        assert not any(np.isfinite(merge_rows(rule, **lost)).all() for rule in ("contraction", "clipped", "trimmed"))
