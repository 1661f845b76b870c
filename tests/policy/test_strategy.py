"""What is seen and what is done about it: every answer is a decision, once, and it does not swing to and fro."""

from __future__ import annotations

import pytest

from freshet.detectors import SETTLED, Alarm, Shift
from freshet.errors import SettingsError
from freshet.policy.strategy import Counts, State, Strategy, readings
from freshet.report import Metric
from freshet.settings import Change, StrategySettings, load

CHANGE = "learning rate 3 for 4 micro-batches"


class Told:
    """A series that raises an alarm when it is given a 1; of `falling` that of one that stays."""

    def __init__(self, detector: str = "adwin") -> None:
        self.detector = detector
        self.recovered = False

    def update(self, total: float, events: int) -> Alarm | None:
        return Alarm("metric", self.detector, -0.3, -0.2, 0.01, 99) if total == 1.0 else None


def strategy(signal: str = "metric", detector: str = "adwin", **rules: object) -> Strategy:
    return Strategy(StrategySettings(detectors=("adwin",), **rules), {signal: Told(detector)})


def run(made: Strategy, told: str) -> list[list[str]]:
    """The kinds of decisions of each micro-batch; x: an alarm is raised in it."""
    return [[one.kind for one in made.look({"metric": (float(sign == "x"), 1)})] for sign in told]


def test_an_alarm_is_told_and_nothing_is_done_by_default() -> None:
    made = strategy()
    [one] = made.look({"metric": (1.0, 1)})
    assert (one.kind, one.actions, one.evidence["done"], one.evidence["seen"]) == ("alarm", (), [], "drift")
    assert one.reason == "drift: metric from 0.3 to 0.2, 10.0 times its noise (adwin)"
    assert made.change is None and run(made, ".....") == [[]] * 5


def test_the_learning_rate_is_changed_for_so_many_micro_batches() -> None:
    made = strategy(drift=(CHANGE,))
    factors = []
    kinds = []
    for sign in "x.....":
        kinds += run(made, sign)
        factors.append(made.change and made.change.factor)
    assert factors == [3.0, 3.0, 3.0, 3.0, None, None]  # of the micro-batch after: four are learned with 3
    assert kinds == [["alarm", "adapt"], [], [], [], ["adapt"], []]


def test_the_same_answer_waits_and_two_changes_do_not_overlap() -> None:
    made = strategy(drift=(CHANGE, "retrain"), cool_down=6)
    assert run(made, "xx....xx") == [
        ["alarm", "adapt", "retrain"], ["alarm"], [], [], ["adapt"], [], ["alarm", "adapt", "retrain"], ["alarm"]]
    made = strategy(drift=(CHANGE, "retrain"), cool_down=2)
    assert run(made, "x.x") == [["alarm", "adapt", "retrain"], [], ["alarm", "retrain"]]
    assert made.change == Change(3.0, 4)


def test_a_freeze_ends_when_what_was_lost_is_regained_or_after_its_time() -> None:
    made = strategy(drift=("freeze for 4 micro-batches",), cool_down=1)
    assert run(made, "x...") == [["alarm", "adapt"], [], [], []] and made.change == Change(0.0, 4, "freeze")
    [end] = made.look({"metric": (0.0, 1)})
    assert (end.kind, end.reason, made.change) == ("adapt", "it is learned again", None)
    assert run(made, "x.") == [["alarm", "adapt"], []]
    made.series["metric"].recovered = True
    [end] = made.look({"metric": (0.0, 1)})
    assert end.reason == "metric has recovered: it is learned again" and end.evidence["batches"] == 0 and made.change is None
    # Of what else is changed for a while it is no end.
    made = strategy(drift=("forget 4 times faster for 3 micro-batches",))
    made.series["metric"].recovered = True
    assert run(made, "x...") == [["alarm", "adapt"], [], [], ["adapt"]]


def test_a_freeze_for_lag_ends_when_it_is_well_again() -> None:
    made = strategy(max_lag=60.0, lag=("freeze for 9 micro-batches",))
    told = [[one.kind for one in made.look({}, lag)] for lag in (70.0, 50.0, 20.0, 20.0)]
    assert told == [["alarm", "adapt"], [], ["recovered", "adapt"], []]


def test_a_restart_goes_on_with_what_is_in_force() -> None:
    rules = StrategySettings(detectors=("adwin",), drift=(CHANGE,), cool_down=6)
    whole, made = (Strategy(rules, {"metric": Told()}, state) for state in (None, State({"drift": 5}, Change(3.0, 4), 3)))
    assert run(made, "...x.x") == run(whole, "x....x.x")[2:] == [[], [], ["adapt"], ["alarm"], [], ["alarm", "adapt"]]


def test_a_loss_that_stays_is_answered_by_itself() -> None:
    made = strategy(detector=SETTLED, falling_metric=("retrain", "alert"), command=("true",))
    told = made.look({"metric": (1.0, 1)})
    assert [(one.kind, one.actions) for one in told] == [("alarm", ("alert",)), ("retrain", ())]
    assert "still at" in told[0].reason
    assert strategy("refusals", SETTLED).look({"refusals": (1.0, 1)}) == []  # of shares nobody asks


def test_shares_that_shifted_are_answered_with_their_buckets() -> None:
    class Shifted(Told):
        def update(self, total: dict[str, float], events: int) -> Alarm | None:
            return Shift("items", "psi", 0.02, 0.4, 0.01, 60, (("7", 0.1, 0.3),))

    made = Strategy(StrategySettings(detectors=("psi",), inputs=("retrain",)), {"items": Shifted()})
    told = made.look({"items": ({"7": 3.0}, 3)})
    assert [one.kind for one in told] == ["alarm", "retrain"]
    assert told[0].reason == "inputs: PSI of items from 0.02 to 0.4, 38.0 times its noise (psi)"
    assert told[0].evidence["moved"] == (("7", 0.1, 0.3),)


def test_lag_is_told_once_until_it_is_well_again() -> None:
    made = strategy(max_lag=60.0, lag=("alert",), command=("true",))
    lags = [10.0, 70.0, 80.0, 40.0, 65.0, 20.0, 70.0]
    told = [[one.kind for one in made.look({}, lag)] for lag in lags]
    assert told == [[], ["alarm"], [], [], [], ["recovered"], ["alarm"]]
    assert strategy().look({}, 1e9) == []


def test_what_is_read_of_a_micro_batch() -> None:
    metrics = [
        Metric("ndcg@10~sampled", "served", "blend", "all", 12.0, 40), Metric("ndcg@10", "served", "popularity", "all", 1.0, 40),
        Metric("ndcg@10", "served", "blend", "new_user", 2.0, 4), Metric("mae", "sequential", "mf", "all", 9.0, 9),
        Metric("mae", "served", "mf", "all", 7.0, 9),
    ]
    counts = Counts(100, 90, 10, 5, 3)
    shares = {"refusals": (10.0, 100), "new_users": (5.0, 90), "new_items": (3.0, 90)}
    assert readings(metrics, "ndcg@10", "blend", counts) == {**shares, "metric": (-12.0, 40)}
    assert readings(metrics, "mae", "mf", counts) == {**shares, "metric": (7.0, 9)}
    grown = Metric("growth", "learned", "mf", "all", 0.5, 3)
    assert readings([*metrics, grown], "mae", "mf", counts) == {**shares, "metric": (7.0, 9), "growth": (0.5, 3)}
    assert readings((), "mae", "mf", Counts(5, 0, 5, 0, 0)) == {"refusals": (5.0, 5)}


@pytest.mark.parametrize(
    ("sets", "what"),
    [
        (["strategy.drift=[panic]"], "go on"),
        (["strategy.drift=[learning rate 0 for 3 micro-batches]"], "learning rate 3 for 20"),
        (["strategy.drift=[learning rate 2 for 3 micro-batches, learning rate 3 for 3 micro-batches]"], "go on"),
        (["strategy.lag=[alert]"], "a command for alert"),
        (["strategy.drift=[roll back]"], "judged or manual"),
        (["strategy.drift=[learning rate 2 for 3 micro-batches]", "model.name=rating"], "learns by steps"),
        (["strategy.drift=[learning rate 2 for 3 micro-batches]", "model.optimizer.name=ftrl"], "another optimizer"),
        (["strategy.detectors=[adwim]"], "adwin"),
        (["strategy.drift=[freeze for 0 micro-batches]"], "freeze for 20"),
        (["strategy.drift=[forget 1 times faster for 3 micro-batches]"], "forget 4 times faster"),
        (["strategy.drift=[freeze for 3 micro-batches, forget 2 times faster for 3 micro-batches]"], "go on"),
        (["strategy.drift=[forget 2 times faster for 3 micro-batches]", "popularity.half_life=never", "model.neighbours.half_life=never"], "a half-life"),
    ],
)
def test_what_cannot_be_is_refused(sets: list[str], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        load([], {}, ["source.path=x", *sets])


def test_a_factor_is_part_of_the_settings_and_1_changes_nothing() -> None:
    chosen = load([], {}, ["source.path=x"])[0]
    assert chosen.with_rates(3.0).model.optimizer.rate_factor == 3.0
    assert chosen.with_rates(1.0) == chosen
    assert chosen.with_change(Change(3.0, 4)) == chosen.with_rates(3.0)


def test_what_a_change_of_learning_changes_in_the_settings() -> None:
    chosen = load([], {}, ["source.path=x", "popularity.half_life=never"])[0]
    frozen, faster = chosen.with_change(Change(0.0, 4, "freeze")), chosen.with_change(Change(4.0, 4, "forget"))
    assert frozen.model.frozen and frozen.with_frozen(False) == chosen == chosen.with_change(None)
    assert faster.popularity.half_life is None
    assert faster.model.neighbours.half_life == chosen.model.neighbours.half_life / 4
