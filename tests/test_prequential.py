"""Ranking metrics against brute force: what a user already has, context inside the batch, unknown users and items."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from planted import ITEM_KEYS, SECOND, USER_KEYS, USERS, Lab, checkerboard, key, part, settings

from freshet.asking import ask, on_offer
from freshet.companions import advance
from freshet.leader import choices, leader
from freshet.models.contract import Events
from freshet.pipelines.assembly import half_lives
from freshet.prequential import SHRINKAGE, by_slice, popularity_values
from freshet.prequential import ranking_metrics as measured
from freshet.ranked import MetricSpec, sample_events
from freshet.schema import HISTORY, POPULARITY

K = 5
SPEC = MetricSpec(sample=0, k=K, max_items=1000, half_lives=(math.inf,), history_items=1000, seed=1)
STRANGERS, NOVELTIES = key(1, np.arange(900, 905)), key(2, np.arange(900, 905))


@pytest.fixture(params=["mf", "rating", "biases", "bpr", "history", "cooccurrence", "blend"])
def lab(request) -> Lab:
    one = Lab(settings(f"model.name={request.param}", "popularity.half_life=never", "popularity.also=[]", "model.init_scale=0.3"))
    # Few enough events that most users have not had most items.
    for number in range(2):
        one.learn(checkerboard(120, start=120 * number))
    return one


def ranking_metrics(lab: Lab, events: Events, positive: np.ndarray, spec: MetricSpec):
    """The metrics, with what the learner knows at each of the events."""
    context = advance(lab.head, events, positive, lab.learner.spec.companions).context
    return measured(lab.head, lab.learner.model, events, positive, context, spec)[0]


def arriving(n: int = 150) -> Events:
    """Events with users and items that nobody has met, some of them more than once."""
    events, random = checkerboard(n, start=10_000), np.random.default_rng(4)
    user, item = events.user_key.copy(), events.item_key.copy()
    user[::5], item[::7] = random.choice(STRANGERS, len(user[::5])), random.choice(NOVELTIES, len(item[::7]))
    return replace(events, user_key=user, item_key=item)


def had_before(lab: Lab) -> dict[int, list[int]]:
    had = defaultdict(list)
    for number in range(2):
        events = checkerboard(120, start=120 * number)
        for user, item in zip(events.user_key.tolist(), events.item_key.tolist(), strict=True):
            had[user].append(item)
    return had


def brute_force(lab: Lab, events: Events, positive: np.ndarray) -> dict[str, list[tuple[int, bool, bool]]]:
    """learner -> (rank or 0, user unknown, item unknown) of every ranked event, by sorting all items."""
    head, model = lab.head, lab.learner.model
    keys = head.tables[POPULARITY].keys.tolist()
    items = on_offer(head, model, np.arange(len(keys), dtype=np.int32), SPEC.half_lives)
    among = choices(model.mixes, half_lives(lab.chosen))
    mix = among[leader(head, among)].mix
    had, found = had_before(lab), defaultdict(list)
    for e, (user, item) in enumerate(zip(events.user_key.tolist(), events.item_key.tolist(), strict=True)):
        if positive[e] and item not in had[user]:
            # The user's own earlier events of the batch count, for his newest items as for what he has.
            recent = np.zeros((1, model.recent), np.int64)
            newest = had[user][::-1][: model.recent]
            recent[0, : len(newest)] = newest
            asked = ask(head, model, np.array([user]), recent, np.array([len(newest)], np.int32), np.empty((1, 0), np.int64))
            extras = model.extras(asked)
            more = {} if extras is None else dict(zip(extras.keys.tolist(), extras.values.tolist(), strict=True))
            dense = items.vectors @ model.queries(asked)[0] + items.bias
            logs = dict(zip(keys, items.log_count[0].tolist(), strict=True))
            scores = {
                model.name: {x: mix.dense * float(s) + mix.sparse * more.get(x, 0.0) + mix.popularity * logs[x]
                             for x, s in zip(keys, dense, strict=True)},
                "popularity": logs,
            }
            new_user = int(head.lookup(HISTORY, np.array([user]))[0]) < 0
            for learner, score in scores.items():
                order = sorted((x for x in keys if x not in had[user]), key=lambda x: (-score[x], x))
                found[learner].append((order.index(item) + 1 if item in score else 0, new_user, item not in score))
        had[user].append(item)
    return found


def sums(metrics) -> dict[tuple[str, str, str], tuple[float, int]]:
    return {(m.metric, m.learner, m.slice): (m.total, m.events) for m in metrics}


def test_every_ranking_metric_is_the_one_of_brute_force(lab) -> None:
    events = arriving()
    positive = lab.learner.model.positive(events)
    found = sums(ranking_metrics(lab, events, positive, SPEC))
    wanted = brute_force(lab, events, positive)
    for learner, ranked in wanted.items():
        assert 10 < sum(new for _, new, _ in ranked) < len(ranked) - 10
        slices = {"all": (True, False), "new_user": (True,), "known_user": (False,)}
        for name, wanted_new in slices.items():
            ranks = [rank for rank, new, _ in ranked if new in wanted_new]
            values = {
                f"recall@{K}": sum(1.0 for r in ranks if 1 <= r <= K),
                f"ndcg@{K}": sum(1 / math.log2(1 + r) for r in ranks if 1 <= r <= K),
                "mrr": sum(1 / r for r in ranks if r),
            }
            for metric, total in values.items():
                assert found[metric, learner, name] == (pytest.approx(total), len(ranks)), (metric, learner, name)
                assert name != "all" or 0 < total < len(ranks)
    model = lab.learner.model.name
    assert found["unknown_user", model, "all"] == (sum(new for _, new, _ in wanted[model]), len(wanted[model]))
    assert found["unknown_item", model, "all"] == (sum(new for _, _, new in wanted[model]), len(wanted[model]))
    assert found["unknown_item", model, "all"][0] > 5


def test_without_the_context_of_the_batch_the_answer_is_another(lab) -> None:
    """The subject that must fail the comparison above: each event measured as if it were alone."""
    events = arriving()
    positive = lab.learner.model.positive(events)
    whole = sums(ranking_metrics(lab, events, positive, SPEC))
    alone = [sums(ranking_metrics(lab, part(events, [e]), positive[[e]], SPEC)) for e in range(len(events))]
    metric = ("mrr", lab.learner.model.name, "all")
    assert sum(one[metric][1] for one in alone if one) > whole[metric][1]


def test_an_item_the_user_already_has_is_not_ranked_known_or_not(lab) -> None:
    [stranger, *_], [novelty, *_] = STRANGERS, NOVELTIES
    at = np.arange(4) * SECOND + 10**16
    for item in (novelty, ITEM_KEYS[0]):
        again = Events(np.full(4, stranger), np.full(4, item), np.full(4, 5.0), np.ones(4), at, np.arange(4))
        found = sums(ranking_metrics(lab, again, np.ones(4, bool), SPEC))
        assert found["mrr", "popularity", "all"][1] == 1


def test_the_sample_depends_on_the_events_and_not_on_their_places(lab) -> None:
    events, spec = arriving(), replace(SPEC, sample=20)
    positive = lab.learner.model.positive(events)
    chosen = sample_events(events, positive, spec)
    assert len(chosen) == 20 and positive[chosen].all() and (np.diff(chosen) > 0).all()
    hashes = set(events.event_hash[chosen].tolist())
    backwards = part(events, slice(None, None, -1))
    assert set(backwards.event_hash[sample_events(backwards, positive[::-1], spec)].tolist()) == hashes
    assert set(events.event_hash[sample_events(events, positive, replace(spec, seed=2))].tolist()) != hashes
    some = sums(ranking_metrics(lab, events, positive, spec))
    assert 0 < some["mrr", "popularity", "all"][1] <= 20


def test_ranked_against_a_sample_of_items_it_is_called_so_and_ranks_are_no_worse(lab) -> None:
    events = arriving()
    positive = lab.learner.model.positive(events)
    few, whole = replace(SPEC, max_items=10, sample=8), replace(SPEC, sample=8)
    full = sums(ranking_metrics(lab, events, positive, whole))
    sampled = sums(ranking_metrics(lab, events, positive, few))
    names = {name for name, _, _ in sampled} - {"unknown_user", "unknown_item"}
    assert names == {f"recall@{K}~sampled", f"ndcg@{K}~sampled", "mrr~sampled"}
    for learner in (lab.learner.model.name, "popularity"):
        assert sampled["mrr~sampled", learner, "all"][1] == full["mrr", learner, "all"][1]
    # One event: its own item is a candidate although the sample left it out, and no other.
    ten, rare = replace(SPEC, max_items=10), []
    for item in ITEM_KEYS:
        one = Events(STRANGERS[:1], np.array([item]), np.full(1, 5.0), np.ones(1), np.array([10**16]), np.array([1]))
        a = sums(ranking_metrics(lab, one, np.ones(1, bool), ten))["mrr~sampled", "popularity", "all"]
        b = sums(ranking_metrics(lab, one, np.ones(1, bool), SPEC))["mrr", "popularity", "all"]
        assert a[1] == b[1] == 1 and a[0] >= b[0] > 0 and a[0] >= 1 / 11
        rare.append(a[0] > b[0])
    assert any(rare)


def test_before_anything_is_known_nothing_is_ranked() -> None:
    lab = Lab(settings("model.name=bpr"))
    assert ranking_metrics(lab, checkerboard(10), np.ones(10, bool), SPEC) == []
    lab.learn(checkerboard(10))
    assert ranking_metrics(lab, checkerboard(10, start=20), np.zeros(10, bool), SPEC) == []


def test_popularity_answers_a_value_by_the_mean_of_the_item_leaning_to_the_mean_of_all() -> None:
    lab = Lab(settings("model.name=mf", "model.positive_from=null", "popularity.half_life=never"))
    assert popularity_values(lab.head, checkerboard(3)).tolist() == [0.0, 0.0, 0.0]
    events = checkerboard(400)
    lab.learn(events)
    mean = events.value.mean()
    asked = replace(checkerboard(2), item_key=np.array([ITEM_KEYS[3], NOVELTIES[0]]))
    mine = events.value[events.item_key == ITEM_KEYS[3]]
    wanted = [(mine.sum() + SHRINKAGE * mean) / (len(mine) + SHRINKAGE), mean]
    np.testing.assert_allclose(popularity_values(lab.head, asked), wanted, rtol=1e-5)


def test_sums_merge_and_slices_add_up() -> None:
    values, new = np.array([1.0, np.nan, 3.0, 4.0]), np.array([True, True, False, True])
    assert [(m.slice, m.total, m.events) for m in by_slice("x", "served", "mf", values, new)] == [
        ("all", 8.0, 3), ("new_user", 5.0, 2), ("known_user", 3.0, 1)]


def test_a_list_asked_for_and_the_metric_use_the_same_ranks(lab) -> None:
    """The first of a user's list has rank 1 in the metric."""
    from freshet.lists import shelf, top_items

    head, model = lab.head, lab.learner.model
    on = shelf(head, model, half_lives(lab.chosen), np.argsort(np.argsort(head.tables[POPULARITY].keys)))
    lists = top_items(head, model, on, USER_KEYS, 1, 1000)
    for n in range(0, USERS, 5):
        one = Events(USER_KEYS[n : n + 1], lists.items[n, :1], np.full(1, 5.0), np.ones(1), np.array([10**16]), np.array([1]))
        found = sums(ranking_metrics(lab, one, np.ones(1, bool), SPEC))
        assert found["mrr", model.name, "all"] == (1.0, 1)


def of_labels(scored: str, size: int) -> dict[tuple[str, str, str], list[float]]:
    """Sums of the metrics of a stream of labels, in micro-batches of a size; no weight ever moves."""
    one = Lab(settings("model.name=linear", "model.optimizer.name=sgd", "model.optimizer.bias_rate=1e-12"))
    found = defaultdict(lambda: [0.0, 0])
    for start in range(0, 400, size):
        for metric in one.learn(checkerboard(size, start=start)).metrics:
            if metric.scoring == scored:
                total = found[metric.metric, metric.learner, metric.slice]
                total[0], total[1] = total[0] + metric.total, total[1] + metric.events
    return found


def test_what_is_said_of_labels_is_right_and_adds_up() -> None:
    """A model that says even chances of everything wins half of its pairs and expects half of the events to be positive."""
    positives = sum(int((checkerboard(100, start=start).value > 3).sum()) for start in range(0, 400, 100))
    found = of_labels("sequential", 100)
    won, pairs = found["auc", "linear", "all"]
    assert 0 < pairs < positives * (400 - positives) and won / pairs == pytest.approx(0.5, abs=0.1)
    expected, there = found["calibration", "linear", "all"]
    assert there == positives and expected == pytest.approx(200)
    assert found["logloss", "linear", "all"][0] == pytest.approx(400 * math.log(2))
    for slices in (found["calibration", "linear", name] for name in ("new_user", "known_user")):
        expected, there = expected - slices[0], there - slices[1]
    assert expected == pytest.approx(0) and there == 0
    assert ("auc", "popularity", "all") in of_labels("served", 100)


def test_no_auc_of_what_is_no_label() -> None:
    for name in ("mf", "bpr"):
        one = Lab(settings(f"model.name={name}"))
        one.learn(checkerboard(100))
        metrics = {metric.metric for metric in one.learn(checkerboard(100, start=100)).metrics}
        assert metrics and not metrics & {"auc", "calibration"}
