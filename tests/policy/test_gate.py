"""The gate: simulated pairs of a better, an equal and a worse head; each rule alone decides once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from freshet.policy.gate import ALL, COVERAGE, HOLD, NEW_USERS, PUBLISH, REFUSE, Paired, compare, judge, weigh
from freshet.settings import GateSettings, GuardMargins

RULES = GateSettings(publish="judged")


def batches(ratio: float, n: int = 40, events: int = 100, seed: int = 1, metric: str = "ndcg@10", slices: dict[str, float] | None = None) -> list[Paired]:
    """Micro-batches in which the head's value is `ratio` times the published one's, with noise that both share and some of its own."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        shared = random.normal(0.3, 0.05, events)
        own = random.normal(0.0, 0.03, (2, events))
        head, published = shared * ratio + own[0], shared + own[1]
        half = events // 2
        sums = {ALL: (head.sum(), published.sum(), events)}
        for name, part in (("new_user", slice(0, half)), ("known_user", slice(half, None))):
            by = (slices or {}).get(name, 1.0)
            sums[name] = (by * head[part].sum(), published[part].sum(), len(head[part]))
        found.append(Paired(metric, sums))
    return found


@pytest.mark.parametrize(
    ("ratio", "metric", "kind", "rule"),
    [(1.1, "ndcg@10", PUBLISH, "not worse"), (1.0, "ndcg@10", PUBLISH, "not worse"), (0.9, "ndcg@10", REFUSE, "worse"),
     (1.1, "mae", REFUSE, "worse"), (0.9, "mae", PUBLISH, "not worse"), (0.98, "ndcg@10", HOLD, "unsure")],
)
def test_better_and_equal_are_published_worse_is_refused(ratio: float, metric: str, kind: str, rule: str) -> None:
    verdict = weigh(batches(ratio, metric=metric), 10_000, 1.0, RULES)
    assert (verdict.kind, verdict.rule) == (kind, rule)
    better = ratio - 1 if metric == "ndcg@10" else 1 - ratio
    assert verdict.evidence["low"] < better < verdict.evidence["high"]


def test_each_rule_holds_alone() -> None:
    good = batches(1.1)
    held = [
        weigh(good[:9], 10_000, 1.0, RULES), weigh(good, 10_000, 5.0, RULES), weigh(batches(1.1, n=4, events=1000), 10_000, 1.0, RULES),
        weigh(batches(1.1, slices={"new_user": 0.5}), 10_000, 1.0, RULES), weigh([], 10_000, 1.0, RULES),
    ]
    assert [(verdict.kind, verdict.rule) for verdict in held] == [
        (HOLD, "sample"), (HOLD, "norm_growth"), (HOLD, "sample"), (HOLD, "slice new_user"), (HOLD, "sample")]
    assert weigh(good, 10_000, 1.0, RULES).kind == PUBLISH
    assert weigh(batches(0.5), 0, 1.0, RULES).rule == "first"  # whatever is better than nothing
    for growth in (1.0, 9.0):  # what is worse is worse, however it came to be
        assert weigh(batches(0.5), 10_000, growth, RULES).kind == REFUSE


def test_it_looks_at_the_least_sample_and_at_each_doubling() -> None:
    seen = batches(0.98, n=90)
    asked: list[int] = []

    def growth() -> float:  # takes all rows of items, so it is asked for at a look alone
        asked.append(1)
        return 1.0

    looks = [n for n in range(1, 91) if judge(seen[:n], 10_000, growth, RULES) is not None]
    assert looks == [10, 20, 40, 80] and len(asked) == 4


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Events of one micro-batch have something in common: an interval that took them as independent would be too narrow."""
    inside, narrow, random = 0, 0, np.random.default_rng(3)
    for _ in range(400):
        events = random.integers(50, 150, 12)
        gained = events * (0.5 + random.normal(0.0, 0.1, 12)) + random.normal(0.0, 0.1 * np.sqrt(events))
        pairs = [Paired("ndcg@10", {ALL: (float(n + gain), float(n), int(n))}) for n, gain in zip(events, gained, strict=True)]
        gap = compare(pairs, ALL, 0.95)
        inside += gap.low < 0.5 < gap.high
        narrow += abs(gap.gap - 0.5) < 1.96 * 0.1 / np.sqrt(events.sum())
    assert stats.binomtest(inside, 400, 0.95).pvalue > 0.001
    assert narrow < 200


def test_slices_without_events_have_no_bounds() -> None:
    gap = compare([Paired("mae", {ALL: (1.0, 2.0, 1), "new_user": (0.0, 0.0, 0)})], "new_user", 0.95)
    assert gap.events == 0 and gap.low == -np.inf and gap.high == np.inf


def with_guard(seen: list[Paired], name: str, ratio: float, count: int) -> list[Paired]:
    """The micro-batches with a guard of which the head has `ratio` times what the published version has, about."""
    random = np.random.default_rng(5)
    found = []
    for paired in seen:
        there = 0.4 * count * random.uniform(0.8, 1.2)
        found.append(Paired(paired.metric, paired.sums, {name: (ratio * there * random.uniform(0.95, 1.05), there, count)}))
    return found


@pytest.mark.parametrize(("name", "margins"), [(COVERAGE, {"coverage": 0.2}), (NEW_USERS, {"new_users": 0.2})])
def test_what_is_guarded_holds_a_better_head_back(name: str, margins: dict[str, float]) -> None:
    rules, good = GateSettings(publish="judged", guards=GuardMargins(**margins)), batches(1.1)
    verdict = weigh(with_guard(good, name, 0.5, 50), 10_000, 1.0, rules)
    assert (verdict.kind, verdict.rule) == (HOLD, name)
    assert verdict.evidence[name]["gap"] == pytest.approx(-0.5, abs=0.02) and " % worse" in verdict.reason
    for ratio in (0.9, 1.5):  # within the margin, or more than before
        verdict = weigh(with_guard(good, name, ratio, 50), 10_000, 1.0, rules)
        assert verdict.kind == PUBLISH and verdict.evidence[name]["gap"] == pytest.approx(ratio - 1, abs=0.03)
    # Without a margin nobody asks, and few micro-batches say nothing for certain.
    assert weigh(with_guard(good, name, 0.5, 50), 10_000, 1.0, RULES).kind == PUBLISH
    few = [*batches(1.1, n=36), *with_guard(batches(1.1, n=4), name, 0.5, 50)]
    assert weigh(few, 10_000, 1.0, rules).kind == PUBLISH
    # What is worse by the metric is refused, whatever it covers.
    assert weigh(with_guard(batches(0.5), name, 2.0, 50), 10_000, 1.0, rules).kind == REFUSE


def test_few_new_users_say_nothing_of_recall() -> None:
    rules = GateSettings(publish="judged", guards=GuardMargins(new_users=0.2))
    assert weigh(with_guard(batches(1.1), NEW_USERS, 0.5, 5), 10_000, 1.0, rules).kind == PUBLISH
