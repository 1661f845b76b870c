"""What is told of events one by one: the prequential `served` metrics of the same events, scikit-learn, and what slices add up to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import Lab, checkerboard, key, part, settings
from sklearn import metrics as theirs

from freshet.evaluation.by_event import Subject, Terms, predicted, ranked
from freshet.evaluation.measures import label_parts, reliability, value_parts
from freshet.evaluation.observations import Figure, Observations, figures
from freshet.evaluation.parting import MOST_TEXTS, text_slices
from freshet.models.contract import Events

K = 5
STRANGERS, NOVELTIES = key(1, np.arange(900, 905)), key(2, np.arange(900, 905))


def arriving(n: int = 150) -> Events:
    """Events with users and items that nobody has met."""
    events, random = checkerboard(n, start=10_000), np.random.default_rng(4)
    user, item = events.user_key.copy(), events.item_key.copy()
    user[::5], item[::7] = random.choice(STRANGERS, len(user[::5])), random.choice(NOVELTIES, len(item[::7]))
    return replace(events, user_key=user, item_key=item)


@pytest.fixture(params=["mf", "fm", "blend", "cooccurrence"])
def lab(request) -> Lab:
    one = Lab(settings(f"model.name={request.param}", f"metrics.k={K}"))
    for number in range(2):
        one.learn(checkerboard(120, start=120 * number))
    return one


def subject(lab: Lab, name: str | None = None) -> Subject:
    return Subject(name or lab.learner.model.name, lab.head, lab.learner)


def test_it_is_what_the_stream_says_of_the_same_events_as_one_micro_batch(lab) -> None:
    events = arriving()
    served = {
        (m.learner, m.metric, m.slice): m.mean for m in lab.learner.learn(lab.head, events, lab.one_by_one).metrics if m.scoring == "served"
    }
    found: dict = {}
    said = predicted([subject(lab)], events, Terms(K))
    for one in (ranked([subject(lab)], events, Terms(K)), None if said is None else said[0]):
        found |= {(f.learner, f.metric, f.slice): f.value for f in (figures(one, 1) if one else [])}
    wanted = {name: value for name, value in served.items() if name in found}
    assert {metric for _, metric, _ in wanted} >= {f"recall@{K}", f"ndcg@{K}", "mrr"}
    assert len({who for who, _, _ in wanted}) == 2 and len({where for _, _, where in wanted}) == 3
    model = lab.learner.model
    assert {metric for _, metric, _ in wanted} >= {"mf": {"rmse", "mae"}, "fm": {"logloss", "auc", "calibration"}}.get(model.name, set())
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_slices_add_up_to_the_whole(lab) -> None:
    events = arriving()
    of_type = text_slices("event_type", ["view", "buy"], np.arange(len(events)) % 2)
    found = figures(ranked([subject(lab)], events, Terms(K), [of_type]), 1)
    mine = {f.slice: f for f in found if f.learner == lab.learner.model.name and f.metric == f"recall@{K}"}
    for names in (("new_user", "known_user"), ("new_item", "known_item"), ("event_type=view", "event_type=buy"),
                  ("activity 0 to 4", "activity 5 to 19"), ("new_item", "popular items", "middling items", "rare items")):
        parts = [mine[name] for name in names]
        assert sum(one.observations for one in parts) == mine["all"].observations
        assert sum(one.value * one.observations for one in parts) == pytest.approx(mine["all"].value * mine["all"].observations)
    assert mine["new_item"].value == 0.0 < mine["known_item"].value


def test_texts_beyond_the_most_frequent_are_one_slice() -> None:
    codes = np.concatenate([np.repeat(np.arange(30), np.arange(30, 0, -1)), [-1]])
    made = text_slices("page", [f"p{n}" for n in range(30)], codes)
    assert made.names[0] == "page=p0" and made.names[-1] == "page: others" and len(made.names) == MOST_TEXTS + 1
    assert (made.codes == MOST_TEXTS).sum() == sum(range(1, 11)) and made.codes[-1] == -1


def test_two_snapshots_are_held_against_each_other_on_the_same_events() -> None:
    labs = [Lab(settings("model.name=mf", "model.init_scale=0.3")) for _ in range(2)]
    for number in range(8):
        labs[0].learn(checkerboard(300, start=300 * number))
    labs[1].learn(checkerboard(300))
    events = checkerboard(400, start=10_000)
    both = [subject(labs[0], "mf"), subject(labs[1], "version 0")]
    found = {(f.learner, f.metric): f for f in figures(predicted(both, events, Terms(K))[0], 1) if f.slice == "all"}
    apart, mine, other = (found[who, "rmse"] for who in ("mf - version 0", "mf", "version 0"))
    assert apart.value == pytest.approx(mine.value - other.value) and apart.low < apart.value < apart.high < 0.0
    same = predicted([both[0], replace(both[0], name="again")], events, Terms(K))[0]
    zero = next(f for f in figures(same, 1) if (f.learner, f.metric, f.slice) == ("mf - again", "rmse", "all"))
    assert (zero.value, zero.low, zero.high) == (0.0, 0.0, 0.0)  # paired: what both share is no uncertainty


def test_a_sample_of_the_items_and_of_the_events_is_said(lab) -> None:
    events = arriving()
    whole, few = ranked([subject(lab)], events, Terms(K)), ranked([subject(lab)], events, Terms(K, candidates=4, sample=20))
    names = set(few.parts[lab.learner.model.name])
    assert names == {f"{name}~sampled" for name in whole.parts[lab.learner.model.name]} and len(few) <= 20 < len(whole)
    easier = few.values()[lab.learner.model.name][f"recall@{K}~sampled"]
    assert easier >= whole.values()[lab.learner.model.name][f"recall@{K}"]


def test_an_event_is_ranked_alike_however_many_are_ranked_at_once(lab, monkeypatch) -> None:
    events = arriving()
    whole = ranked([subject(lab)], events, Terms(K)).values()
    monkeypatch.setattr("freshet.ranked.RANKED_AT_ONCE", 7)
    assert ranked([subject(lab)], events, Terms(K)).values() == whole


def test_nothing_is_said_of_no_events_and_by_an_empty_head(lab) -> None:
    assert ranked([subject(lab)], part(arriving(), slice(0, 0)), Terms(K)) is None
    assert ranked([subject(Lab(lab.chosen))], arriving(), Terms(K)) is None


def values(parts) -> dict[str, float]:
    n = len(next(iter(parts.values()))[0])
    return Observations(np.zeros(n, np.int64), {"it": parts}).values()["it"]


def test_labels_equal_scikit_learn() -> None:
    random = np.random.default_rng(2)
    positive, score = random.random(500) < 0.3, random.normal(size=500) * 3
    chance = 1 / (1 + np.exp(-score))
    for threshold in (None, 0.2):
        found, said = values(label_parts(score, positive, True, threshold)), chance >= (threshold or 0.5)
        assert found == pytest.approx({
            "logloss": theirs.log_loss(positive, chance), "calibration": chance.sum() / positive.sum(),
            "accuracy": theirs.accuracy_score(positive, said), "precision": theirs.precision_score(positive, said),
            "recall": theirs.recall_score(positive, said), "f1": theirs.f1_score(positive, said),
        })
    seen = Observations(np.arange(500), {}, scores={"it": score}, positive=positive)
    assert seen.values()["it"]["auc"] == pytest.approx(theirs.roc_auc_score(positive, score))
    hinge = values(label_parts(score, positive, False, None))
    assert set(hinge) == {"accuracy", "precision", "recall", "f1"} and hinge["f1"] == pytest.approx(theirs.f1_score(positive, score >= 0))
    extreme = values(label_parts(np.array([-1e3, 1e3]), np.array([True, False]), True, None))
    assert extreme["logloss"] == 1e3


def test_values_equal_scikit_learn() -> None:
    random = np.random.default_rng(3)
    value, prediction = random.integers(1, 6, 300).astype(float), random.normal(3, 1, 300)
    found = values(value_parts(prediction, value, 4.0))
    assert found == pytest.approx({
        "rmse": theirs.root_mean_squared_error(value, prediction), "mae": theirs.mean_absolute_error(value, prediction),
        "accuracy": theirs.accuracy_score(value >= 4, prediction >= 4), "precision": theirs.precision_score(value >= 4, prediction >= 4),
        "recall": theirs.recall_score(value >= 4, prediction >= 4), "f1": theirs.f1_score(value >= 4, prediction >= 4),
    })
    assert set(value_parts(prediction, value, None)) == {"rmse", "mae"}


def test_reliability() -> None:
    chance = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    rows, error = reliability(chance, np.array([False, False, True, True, False]))
    assert [(row["from"], row["events"]) for row in rows] == [(0.0, 2), (0.9, 3)]
    assert rows[1]["observed"] == pytest.approx(2 / 3) and rows[1]["expected"] == pytest.approx(2.9 / 3)
    assert error == pytest.approx((0.1 + 0.9) / 5)


def test_what_was_never_said_has_no_precision() -> None:
    seen = Observations(np.arange(4), {"it": label_parts(np.full(4, -5.0), np.array([True, False, False, False]), True, None)})
    named = {f.metric: f for f in figures(seen, 1)}
    assert "precision" not in named and named["recall"].value == 0.0
    one = Figure("auc", "all", "it", 0.5, float("nan"), float("nan"), 1, 1)
    assert one.record()["low"] is None and one.record()["value"] == 0.5
