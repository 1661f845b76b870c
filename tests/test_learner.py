"""One micro-batch as a pure function: digests that can be recomputed, who ran a shard does not matter, refusals change nothing."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from planted import Lab, checkerboard, part, settings

from freshet.companions import advance
from freshet.errors import BatchRefused, UnknownName
from freshet.head import TOTALS, digests
from freshet.kernels.digest import as_hex, fold
from freshet.learner import by_propensity, rounds
from freshet.models import MODELS as MODEL_NAMES
from freshet.models.contract import Events, Examples
from freshet.pipelines.assembly import new_head, new_learner
from freshet.schema import HISTORY, HISTORY_ARCHIVE, INTEREST, MIX, POPULARITY, WINDOW
from freshet.workspace import Workspace, starts

MODELS = pytest.mark.parametrize("model", ["mf", "bpr", "rating"])
SHARDS = ("model.shards=4", "model.round_events=150")


def lab(*sets: str) -> Lab:
    return Lab(settings(*sets))


def examples_of(one: Lab, events: Events) -> Examples:
    context = advance(one.head, events, one.learner.model.positive(events), one.learner.spec.companions).context
    return one.learner.model.examples(events, context)


def recomputed(one: Lab) -> int:
    """The digest of everything in the head, from the rows alone."""
    total = 0
    for name, table in one.head.tables.items():
        rows, _ = one.head.gather(name, table.keys.copy())
        total ^= fold(digests(one.head.blocks[name], rows))
    return total


FORGET = "model.optimizer.forget={user: 10 minutes}"


@MODELS
def test_rows_forget_before_they_are_learned_again_and_only_then(model: str) -> None:
    """A row that was met an hour ago has 2^-6 of what it knew; a list made meanwhile has all of it."""
    plain, forgetful = (lab(f"model.name={model}", *sets) for sets in ((), (FORGET,)))
    first, later = checkerboard(400), checkerboard(8, start=4000)
    for one in (plain, forgetful):
        one.learn(first)
    whole = forgetful.bits()
    assert whole == plain.bits()  # nobody was away for long enough to tell
    examples = examples_of(forgetful, later)
    task = Workspace(forgetful.head, forgetful.learner.model.blocks(), examples, 1)
    task.forget({"user": 600e6}, later.event_at)
    sheet = task.sheets["user"]
    age = (later.event_at[examples.event[0]] - sheet.rows.last_at[0]) / 600e6
    before, _ = forgetful.head.gather("user", sheet.rows.keys)
    block = forgetful.head.blocks["user"]
    begun = np.pad(starts(block, sheet.rows.keys, 1), ((0, 0), (0, block.slots)))
    assert age > 5 and np.allclose((sheet.rows.values - begun)[0], (before.values - begun)[0] * 0.5**age, atol=1e-7)
    assert forgetful.bits() == whole
    metrics = [{(m.metric, m.slice): m.total for m in one.learn(later).metrics if m.scoring == "served"} for one in (plain, forgetful)]
    assert metrics[0] == metrics[1] and plain.bits()["user"] != forgetful.bits()["user"]
    unmet = set(whole["user"]) - set(later.user_key.tolist())
    assert all(forgetful.bits()["user"][key] == whole["user"][key] for key in unmet)


def test_a_block_that_cannot_forget_is_refused_with_those_that_can() -> None:
    with pytest.raises(UnknownName, match=r"block in model.optimizer.forget 'users'; known: item, user"):
        lab("model.name=bpr", "model.optimizer.forget={users: 1 day}")
    with pytest.raises(UnknownName, match="neighbours"):
        lab("model.name=cooccurrence", "model.optimizer.forget={neighbours: 1 day}")


@MODELS
def test_the_digest_that_is_kept_is_the_digest_recomputed(model: str) -> None:
    one = lab(f"model.name={model}", *SHARDS)
    for number in range(4):
        before = one.head.digest
        one.learn(checkerboard(400, start=400 * number))
        assert one.head.digest == recomputed(one) != before
        assert one.head.hex_digest == as_hex(recomputed(one))
    one.head.tables[POPULARITY].column("values")[0, 0] += np.float32(1)
    assert one.head.digest != recomputed(one)


def test_one_bit_of_any_column_of_any_block_changes_the_digest() -> None:
    one = lab("model.name=blend", "history.items=32")
    for number in range(4):
        one.learn(checkerboard(400, start=400 * number))
    whole = recomputed(one)
    for name, table in one.head.tables.items():
        assert len(table), name
        block = one.head.blocks[name]
        for column in ("values",) * bool(block.width) + ("links",) * bool(block.links) + ("count", "last_at"):
            cells = table.column(column).reshape(len(table), -1).view(np.uint8)
            cells[0, 0] ^= 1
            assert recomputed(one) != whole, (name, column)
            cells[0, 0] ^= 1
    assert recomputed(one) == whole


def test_a_head_put_together_in_any_order_has_the_same_digest() -> None:
    one = lab("model.name=bpr")
    one.learn(checkerboard(500))
    other = new_head(one.learner.model, one.chosen)
    for name, table in reversed(one.head.tables.items()):
        keys = table.keys[::-1].copy()
        for half in (keys[::2], keys[1::2]):
            rows, _ = one.head.gather(name, half.copy())
            other.put(name, rows, digests(other.blocks[name], rows))
    assert other.digest == one.head.digest


@MODELS
def test_who_runs_a_shard_and_when_does_not_matter(model: str) -> None:
    plain, shuffled, threads = (lab(f"model.name={model}", *SHARDS) for _ in range(3))

    def in_any_order(tasks):
        order = list(range(len(tasks)))
        random.Random(3).shuffle(order)
        done = {at: shuffled.learner.model.learn(tasks[at]) for at in order}
        return [done[at] for at in range(len(tasks))]

    with ThreadPoolExecutor(4) as pool:
        for number in range(3):
            events = checkerboard(600, start=600 * number)
            plain.learn(events)
            shuffled.learn(events, in_any_order)
            threads.learn(events, lambda tasks: list(pool.map(threads.learner.model.learn, tasks)))
            assert plain.bits() == shuffled.bits() == threads.bits()


def test_results_given_back_in_another_order_are_noticed_by_the_comparison() -> None:
    """The subject that must fail the comparison above."""
    plain, wrong = lab("model.name=mf", *SHARDS), lab("model.name=mf", *SHARDS)
    plain.learn(checkerboard(150))
    with pytest.raises((AssertionError, ValueError, IndexError)):
        wrong.learn(checkerboard(150), lambda tasks: wrong.one_by_one(tasks)[::-1])
        assert plain.bits() == wrong.bits()


def test_two_batches_and_one_differ_only_in_the_rounding_of_popularity() -> None:
    """`mf` draws nothing from the batch, so with rounds as long as the batches all its rows are equal; histories and the
    window do not depend on batches; decayed sums are rounded to float32 once a batch."""
    events = checkerboard(600)
    sets = ("model.name=mf", "model.shards=4", "model.round_events=300", "popularity.half_life=60 seconds")
    once, twice, longer = lab(*sets), lab(*sets), lab(*sets, "model.round_events=600")
    once.learn(events)
    longer.learn(events)
    for half in (slice(0, 300), slice(300, 600)):
        twice.learn(part(events, half))
    for name in ("mean", "user", "item", HISTORY, HISTORY_ARCHIVE, WINDOW):
        assert once.bits()[name] == twice.bits()[name], name
    for name in (POPULARITY, "totals"):
        keys = once.head.tables[name].keys.copy()
        (a, _), (b, _) = once.head.gather(name, keys), twice.head.gather(name, keys)
        np.testing.assert_allclose(a.values, b.values, rtol=1e-6)
        assert np.array_equal(a.count, b.count) and np.array_equal(a.last_at, b.last_at)
    assert once.bits()[POPULARITY] != twice.bits()[POPULARITY]
    assert once.bits()["item"] != longer.bits()["item"]


def test_another_shard_number_another_seed_another_order_give_other_rows() -> None:
    events = checkerboard(400)
    found = set()
    for sets in ((), ("model.shards=3",), ("model.seed=2",), ("model.round_events=50", "model.shards=3")):
        one = lab("model.name=bpr", *sets)
        one.learn(events)
        found.add(one.head.digest)
    backwards = lab("model.name=bpr")
    backwards.learn(part(events, slice(None, None, -1)))
    assert len(found | {backwards.head.digest}) == 5


@pytest.mark.parametrize("model", ["mf", "bpr"])
@pytest.mark.parametrize(("sets", "reason"), [
    (("model.max_norm=0.01", "guard.max_capped_share=0.1"), "capped"),
    (("model.optimizer.name=sgd", "model.optimizer.bias_rate=1e38", "model.max_norm=1e30"), "not finite"),
])
def test_a_refused_batch_leaves_the_head_untouched(model: str, sets: tuple[str, ...], reason: str) -> None:
    name = f"model.name={model}"
    one = lab(name, *SHARDS)
    one.learn(checkerboard(300))
    before, digest, memory = one.bits(), one.head.digest, one.head.nbytes
    wild = lab(name, *SHARDS, *sets).learner
    with pytest.raises(BatchRefused) as refused:
        wild.learn(one.head, checkerboard(300, start=300), lambda tasks: [wild.model.learn(task) for task in tasks])
    assert refused.value.facts["reason"] == reason
    assert refused.value.remedy
    assert (one.bits(), one.head.digest, one.head.nbytes) == (before, digest, memory)
    one.learn(checkerboard(300, start=300))
    assert one.head.digest == recomputed(one) != digest


def test_learning_without_taking_changes_nothing_and_gives_the_same_twice() -> None:
    one = lab("model.name=bpr", *SHARDS)
    one.learn(checkerboard(300))
    before = one.bits()
    first, second = (one.learner.learn(one.head, checkerboard(300, start=300), one.one_by_one) for _ in range(2))
    assert one.bits() == before
    assert first.digest == second.digest != one.head.digest
    assert json.dumps([vars(m) for m in first.metrics]) == json.dumps([vars(m) for m in second.metrics])


def test_a_head_that_left_the_committed_digest_says_so() -> None:
    one = lab("model.name=mf")
    learned = one.learner.learn(one.head, checkerboard(50), one.one_by_one)
    with pytest.raises(AssertionError, match="digest"):
        one.head.apply(learned.changes, learned.digest ^ 1)


@pytest.mark.parametrize(("events", "before", "wanted", "sets"), [
    (2500, 0, [1000, 1000, 500], ()),
    (7000, 30_000, [3000, 3300, 700], ()),
    (12_000, 1_000_000, [5000, 5000, 2000], ()),
    (6000, 0, [5000, 1000], ("model.round_share=null",)),
    (2500, 0, [800, 800, 800, 100], ("model.round_events=800",)),
], ids=["young", "growing", "grown", "no share", "small"])  # fmt: skip
def test_rounds_grow_with_what_was_learned(events: int, before: int, wanted: list[int], sets: tuple[str, ...]) -> None:
    spec = lab("model.round_events=5000", *sets).learner.spec
    found = [stop - start for start, stop in rounds(np.arange(events), np.ones(events, bool), before, spec)]
    assert found == wanted


def test_rounds_grow_by_positive_events_alone() -> None:
    spec = lab("model.round_events=5000").learner.spec
    found = [stop - start for start, stop in rounds(np.arange(7000), np.zeros(7000, bool), 30_000, spec)]
    assert found == [3000, 3000, 1000]


def test_the_share_of_a_round_is_part_of_what_is_learned() -> None:
    young, blind, again = (lab("model.name=mf", "model.shards=4", *sets) for sets in ((), ("model.round_share=null",), ()))
    for one in (young, blind, again):
        one.learn(checkerboard(2500))
    assert young.bits() == again.bits() != blind.bits()


def test_a_rare_impression_weighs_more_and_no_more_than_the_clip() -> None:
    events = replace(checkerboard(4), propensity=np.array([0.5, 0.01, np.nan, 1.0]), weight=np.array([1.0, 2.0, 3.0, 1.0]))
    assert by_propensity(events, 10.0).weight.tolist() == [2.0, 20.0, 3.0, 1.0]
    assert by_propensity(events, None) is events


def test_the_clip_is_part_of_what_is_learned() -> None:
    events = replace(checkerboard(300), propensity=np.where(np.arange(300) % 2, 0.1, 1.0))
    plain, weighted, whole = lab("model.name=fm"), lab("model.name=fm", "model.propensity_clip=5"), lab("model.name=fm")
    plain.learn(events)
    weighted.learn(events)
    whole.learn(replace(events, weight=np.where(np.arange(300) % 2, 5.0, 1.0)))
    assert weighted.head.digest == whole.head.digest != plain.head.digest


@pytest.mark.parametrize("model", ["mf", "bpr"])
def test_a_factor_of_the_rates_is_as_other_rates(model: str) -> None:
    """And 1 is as none."""
    plain, one, other = lab(f"model.name={model}"), lab(f"model.name={model}", "model.optimizer.rate_factor=1.0"), lab(
        f"model.name={model}", "model.optimizer.rate_factor=2.0")
    rate, bias = plain.learner.model.step.rate, plain.learner.model.bias_step.rate
    same = lab(f"model.name={model}", f"model.optimizer.learning_rate={2 * rate!r}", f"model.optimizer.bias_rate={2 * bias!r}")
    for each in (plain, one, other, same):
        each.learn(checkerboard(300))
    assert plain.bits() == one.bits() and other.bits() == same.bits() != plain.bits()


def moved(one: Lab, events: Events) -> set[str]:
    """The blocks of which a row changes with these events."""
    before = one.bits()
    one.learn(events)
    return {name for name, rows in one.bits().items() if rows != before[name]}


@pytest.mark.parametrize("model", list(MODEL_NAMES))
def test_a_frozen_model_counts_and_learns_nothing(model: str) -> None:
    """No row of its own, nor of what leads among its mixes and decays; one that is not frozen moves both."""
    one = lab(f"model.name={model}", "model.query.also=[0.5]")
    one.learn(checkerboard(600))
    free, frozen = one.learner, new_learner(one.chosen.with_frozen(True))
    own = {block.name for block in free.model.blocks()} | {MIX, INTEREST}
    one.learner = frozen
    assert moved(one, checkerboard(200, start=600)) == {HISTORY, HISTORY_ARCHIVE, POPULARITY, TOTALS, WINDOW}
    assert one.head.digest == recomputed(one)
    told = frozen.learn(one.head, checkerboard(200, start=800), one.one_by_one)
    assert told.examples == 0 and {metric.scoring for metric in told.metrics} == {"served"}
    as_free = [metric for metric in free.learn(one.head, checkerboard(200, start=800), one.one_by_one).metrics if metric.scoring == "served"]
    assert list(told.metrics) == as_free  # it is judged as it stands
    one.learner = free
    assert moved(one, checkerboard(200, start=800)) & own


@pytest.mark.parametrize("name", ["mf", "rating", "bpr", "blend", "cooccurrence", "fm"])
def test_a_correction_is_learned_and_changes_no_count_and_no_metric(name) -> None:
    """The same events, not marked as corrections, change all of that: what is compared can differ."""
    said = checkerboard(60)
    again = replace(part(said, slice(20, 40)), value=6.0 - part(said, slice(20, 40)).value)
    counts = (POPULARITY, "totals", HISTORY, "history_archive", "window", "neighbours")
    for corrects in (True, False):
        lab = Lab(settings(f"model.name={name}", "model.positive_from=0.5"))
        lab.learn(said)
        before = lab.bits()
        learned = lab.learn(replace(again, corrects=np.full(20, corrects)))
        same = {block: rows == lab.bits()[block] for block, rows in before.items()}
        kept = [same[block] for block in counts if block in same]
        steps = [same[block] for block in same if block not in (*counts, "mix", "interest")]
        assert all(kept) if corrects else not any(same[block] for block in (POPULARITY, "totals", HISTORY))
        assert name == "cooccurrence" or not all(steps)
        measured = sum(one.events for one in learned.metrics if one.learner == lab.learner.model.name)
        assert (measured == 0) == corrects or name == "cooccurrence"
