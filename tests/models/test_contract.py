"""Every registered model keeps the contract. The checks know no names; each has a broken subject that it must catch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import broken_models as broken
import numpy as np
import pytest
from planted import ATTRIBUTES, ITEM_KEYS, ITEMS, USER_KEYS, USERS, Lab, checkerboard, likes, part, settings

from freshet.asking import ask, item_rows, last_context, newest, on_offer
from freshet.companions import advance
from freshet.kernels.optimizers import OPTIMIZERS
from freshet.kernels.shards import members, shard_of
from freshet.models import MODELS
from freshet.models.contract import ATTRIBUTE, FEATURE, ITEM, USER, Block, Events, Examples, ShardTask
from freshet.pipelines.assembly import half_lives, new_head
from freshet.schema import POPULARITY
from freshet.settings import Settings
from freshet.shipping import learn_payload, pack_task, unpack_result
from freshet.workspace import Workspace

BATCH = 300


@dataclass
class Subject:
    """A model under test: a name of the registry, its settings, and what is done to it to break it."""

    name: str
    sets: tuple[str, ...] = ()
    breaking: Callable[[Any], Any] = lambda model: model

    def settings(self, *sets: str) -> Settings:
        return settings(f"model.name={self.name}", *self.sets, *sets)

    def lab(self, *sets: str) -> Lab:
        chosen = self.settings(*sets)
        return Lab(chosen, self.breaking(MODELS[self.name](chosen.model)))

    def task(self, lab: Lab, n: int = BATCH) -> tuple[ShardTask, Examples]:
        """A shard of everything: the first n events and private copies of the rows they touch, counts included."""
        examples = examples_of(lab, n)
        chosen = np.arange(len(examples))
        return Workspace(lab.head, lab.learner.model.blocks(), examples, lab.learner.spec.seed).task(chosen)[0], examples


def examples_of(lab: Lab, given: int | Events) -> Examples:
    model, events = lab.learner.model, lab.seen(checkerboard(given) if isinstance(given, int) else given)
    return model.examples(events, advance(lab.head, events, model.positive(events), lab.learner.spec.companions).context)


def same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def check_gradient(subject: Subject) -> None:
    """The step of plain descent is the derivative of the loss through `score`, at small and at large rows."""
    rate = 1e-3
    lab = subject.lab("model.optimizer.name=sgd", f"model.optimizer.learning_rate={rate}",
                      f"model.optimizer.bias_rate={rate}", "model.max_norm=1e6")
    model = lab.learner.model
    random, steepest = np.random.default_rng(5), dict[str, float]()
    averaged = {block.name for block in model.blocks() if block.merge == "mean"}  # running means do not descend
    for scale, e in ((0.2, 0), (0.4, 1), (0.7, 2), (0.7, 3)):
        examples = examples_of(lab, BATCH)
        space = Workspace(lab.head, model.blocks(), examples, lab.learner.spec.seed)
        one, _ = space.task(np.array([-(e + 1) % len(examples)]))  # the last ones: their users have a history
        one = replace(one, rows={name: random.normal(0, scale, rows.shape).astype(np.float32) for name, rows in one.rows.items()})
        after = model.learn(copy.deepcopy(one)).rows
        for name in one.rows.keys() - averaged:
            wanted = np.zeros_like(one.rows[name], dtype=np.float64)
            for cell in np.ndindex(wanted.shape):
                wanted[cell] = _derivative(model, one, name, cell)
            found = (one.rows[name].astype(np.float64) - after[name]) / rate
            np.testing.assert_allclose(found, wanted, atol=5e-3, rtol=5e-3)
            steepest[name] = max(steepest.get(name, 0.0), float(np.abs(wanted).max()))
    assert steepest and all(slope > 0.01 for slope in steepest.values()), f"a block does not matter to the loss: {steepest}"


def _derivative(model: Any, task: ShardTask, name: str, cell: tuple[int, ...]) -> float:
    step, loss = 1e-2, []
    for sign in (1, -1):
        moved = copy.deepcopy(task)
        moved.rows[name][cell] += np.float32(sign * step)
        loss.append(float(model.score(moved)[1][0]))
    return (loss[0] - loss[1]) / (2 * step)


def check_tails(subject: Subject) -> None:
    """Rows of extreme size give finite scores and losses and learn to finite rows within the cap."""
    lab = subject.lab()
    for sign in (1.0, -1.0):
        task, examples = subject.task(lab)
        for block in learned_blocks(lab.learner.model, examples):
            task.rows[block.name][:, : block.width] = np.float32(sign * 20.0)
        prediction, loss = lab.learner.model.score(task)
        assert np.isfinite(prediction).all() and np.isfinite(loss).all()
        assert all(np.isfinite(rows).all() for rows in lab.learner.model.learn(task).rows.values())


def check_unknown(subject: Subject) -> None:
    """Scores before any learning and for unknown keys are finite numbers, one per example; the loss too."""
    lab = subject.lab()
    model, examples = lab.learner.model, examples_of(lab, BATCH)
    task = Workspace(new_head(model, lab.chosen), model.blocks(), examples, 1).snapshot_task()
    assert all((refs < 0).all() for refs in task.refs.values())
    for rows in (task.rows, {name: rows[:0] for name, rows in task.rows.items()}):
        for array in model.score(replace(task, rows=rows)):
            assert array.shape == (len(examples),) and array.dtype == np.float64 and np.isfinite(array).all()


def check_scoring_is_pure(subject: Subject) -> None:
    """Scoring adds no rows, changes none, and says the same twice."""
    lab = subject.lab()
    lab.learn(checkerboard(BATCH))
    before, digest = lab.bits(), lab.head.digest
    model, examples = lab.learner.model, examples_of(lab, BATCH)
    space = Workspace(lab.head, model.blocks(), examples, 1)
    task = space.snapshot_task()
    rows = copy.deepcopy(task.rows)
    first, second = model.score(task), model.score(task)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert same_bits(rows, task.rows) and lab.bits() == before and lab.head.digest == digest


def check_score_is_what_learning_sees(subject: Subject) -> None:
    """For one example `learn` reports the score and the loss that `score` gives."""
    lab = subject.lab()
    lab.learn(checkerboard(BATCH))
    whole, _ = subject.task(lab)
    for e in range(0, len(whole.target), 50):
        one = replace(whole, rows=copy.deepcopy(whole.rows), refs={name: refs[e : e + 1] for name, refs in whole.refs.items()},
                      target=whole.target[e : e + 1], weight=whole.weight[e : e + 1])
        scored = lab.learner.model.score(one)
        learned = lab.learner.model.learn(one)
        np.testing.assert_allclose((scored[0][0], scored[1][0]), (learned.prediction[0], learned.loss[0]), rtol=1e-5, atol=1e-6)


def check_empty(subject: Subject) -> None:
    """A micro-batch without events changes nothing, before and after learning."""
    lab = subject.lab()
    for _ in range(2):
        before, digest = lab.bits(), lab.head.digest
        learned = lab.learn(part(checkerboard(4), slice(0, 0)))
        assert learned.changes == {} and learned.examples == 0
        assert lab.bits() == before and lab.head.digest == digest
        lab.learn(checkerboard(BATCH))


def check_planted(subject: Subject) -> None:
    """The planted answer is found, and the best constant predictor is beaten on events not yet learned: a checkerboard, or its
    first row for everybody where a model has no vectors to tell users apart."""
    lab = subject.lab("model.init_scale=0.3")
    model = lab.learner.model
    for number in range(12):
        events = planted(model, checkerboard(1000, start=1000 * number))
        # What is clicked is liked: models that rank see nothing else.
        events = part(events, model.positive(events)) if model.negatives else events
        examples = examples_of(lab, events)
        learned = lab.learn(events)
    scores = dense_scores(lab)
    liked = likes(np.arange(USERS)[:, None] * bool(model.factors), np.arange(ITEMS)[None, :])
    right = [np.mean(row[mask][:, None] > row[~mask][None, :]) for row, mask in zip(scores, liked, strict=True)]
    assert np.mean(right) > 0.95
    name = (model.loss_metric, "served", model.name, "all")
    [loss] = [m for m in learned.metrics if (m.metric, m.scoring, m.learner, m.slice) == name]
    constant = 4.0 if model.loss_metric == "rmse" else best_constant(lab, examples)  # variance of 1 and 5
    assert loss.total / loss.events < 0.7 * constant


def best_constant(lab: Lab, examples: Examples) -> float:
    """The smallest loss of giving every item the same score: of a tie, or the entropy of a coin, where that is all it says."""
    model, space = lab.learner.model, Workspace(lab.head, lab.learner.model.blocks(), examples, 1)
    task, losses = space.task(np.arange(len(examples)))[0], []
    for bias in np.linspace(-4, 4, 17):
        rows = {name: np.zeros_like(rows) for name, rows in task.rows.items()}
        rows[ITEM][:, 0] = bias
        losses.append(model.score(replace(task, rows=rows))[1].mean())
    return float(min(losses))


def planted(model: Any, events: Events) -> Events:
    if model.factors:
        return events
    item = np.argsort(ITEM_KEYS)[np.searchsorted(np.sort(ITEM_KEYS), events.item_key)]
    said = likes(0, item) ^ (events.event_hash % 10 == 0)  # an item that nobody ever liked would not be on offer
    return replace(events, value=np.where(said, 5.0, 1.0))


def dense_scores(lab: Lab) -> np.ndarray:
    """query . vector + bias of every planted user and item."""
    head, model = lab.head, lab.learner.model
    asked = ask(head, model, USER_KEYS, *newest(head, USER_KEYS, model.recent), last_context(head, USER_KEYS))
    assert model.known(asked).all()
    items = on_offer(head, model, head.lookup(POPULARITY, ITEM_KEYS), half_lives(lab.chosen))
    return model.queries(asked) @ items.vectors.T + items.bias


def check_parts(subject: Subject) -> None:
    """The parts of a score add up to it, whoever asks for whatever item."""
    lab = subject.lab()
    for number in range(3):
        lab.learn(checkerboard(BATCH, start=BATCH * number))
    head, model = lab.head, lab.learner.model
    scores = dense_scores(lab)
    assert np.abs(scores).max() > 0.01
    for user in range(0, USERS, 7):
        mine = USER_KEYS[user : user + 1]
        asked = ask(head, model, mine, *newest(head, mine, model.recent), last_context(head, mine))
        extras = model.extras(asked)
        for item in range(0, ITEMS, 5):
            row = head.lookup(POPULARITY, ITEM_KEYS[item : item + 1])
            dense, sparse = model.parts(asked, int(ITEM_KEYS[item]), item_rows(head, model, row))
            np.testing.assert_allclose(sum(part.amount for part in dense), scores[user, item], rtol=1e-3, atol=1e-5)
            wanted = 0.0 if extras is None else extras.values[extras.keys == ITEM_KEYS[item]].sum()
            np.testing.assert_allclose(sum(part.amount for part in sparse), wanted, rtol=1e-3, atol=1e-5)
            for one in (*dense, *sparse):
                assert one.row < len(head.tables[one.block])


def _rows(lab: Lab, block: str, keys: np.ndarray) -> np.ndarray:
    return lab.head.gather(block, keys)[0].values


def check_keys(subject: Subject) -> None:
    """After learning the model's blocks have exactly the keys of the examples, none but those of events."""
    lab = subject.lab()
    model, events = lab.learner.model, lab.seen(checkerboard(BATCH))
    examples = examples_of(lab, BATCH)
    lab.learn(events)
    seen = {USER: events.user_key, ITEM: events.item_key, FEATURE: events.features, ATTRIBUTE: ATTRIBUTES}
    for block in learned_blocks(model, examples):
        present = examples.present.get(block.name, np.ones(examples.keys[block.name].shape, bool))
        assert set(lab.head.tables[block.name].keys.tolist()) == set(examples.keys[block.name][present].tolist())
        if block.ids is not None:
            assert set(lab.head.tables[block.name].keys.tolist()) <= set(seen[block.ids].ravel().tolist())
            assert len(lab.head.tables[block.name]) > (4 if block.ids in (FEATURE, ATTRIBUTE) else 10)


def learned_blocks(model: Any, examples: Examples) -> list[Block]:
    """The blocks that shards learn; what else the model has is counted."""
    return [block for block in model.blocks() if block.name in examples.keys]


def check_shipping(subject: Subject) -> None:
    """A shard learned from bytes, elsewhere, gives the same bits as one learned here, the first time and the second."""
    lab = subject.lab()
    packed = lab.chosen.model.model_dump_json()
    for _ in range(2):
        task, _ = subject.task(lab)
        shipped = unpack_result(learn_payload(pack_task(copy.deepcopy(task), packed)))
        here = lab.learner.model.learn(task)
        assert same_bits(shipped.rows, here.rows) and same_bits(shipped.contraction, here.contraction)
        assert same_bits(shipped.touched, here.touched) and shipped.capped == here.capped
        assert shipped.prediction.tobytes() == here.prediction.tobytes() and shipped.loss.tobytes() == here.loss.tobytes()
        lab.learn(checkerboard(BATCH))


def check_one_shard_is_sequential(subject: Subject) -> None:
    """With one shard the learner's rows are the sequential pass, bit for bit, however it is cut into rounds; with many
    shards that holds of every row that one shard alone touched in the only round."""
    lab = subject.lab()
    task, examples = subject.task(lab)
    rows = {name: _keys_of(task, examples, name) for name in examples.keys}
    wanted = lab.learner.model.learn(task).rows
    for round_events in (10_000, 70, 9 if subject.sets else 1):
        other = subject.lab(f"model.round_events={round_events}")
        other.learn(checkerboard(BATCH))
        for name, keys in rows.items():
            assert _rows(other, name, keys).tobytes() == wanted[name].tobytes(), (name, round_events)
    lab, shards = subject.lab(), subject.lab("model.shards=5")
    space = Workspace(lab.head, lab.learner.model.blocks(), examples, lab.learner.spec.seed)
    touching: dict[tuple[str, int], list[bytes]] = {}
    for chosen in members(shard_of(checkerboard(BATCH).user_key[examples.event], 5), 5):
        task, origin = space.task(chosen)
        rows = lab.learner.model.learn(task).rows
        for name, at in origin.items():
            for row, key in zip(rows[name], space.sheets[name].rows.keys[at].tolist(), strict=True):
                touching.setdefault((name, key), []).append(row.tobytes())
    shards.learn(checkerboard(BATCH))
    alone = {place: rows[0] for place, rows in touching.items() if len(rows) == 1}
    owned = set(checkerboard(BATCH).user_key[examples.event]) if USER in examples.keys else ()
    assert len(owned) <= len(alone) < len(touching)
    for (name, key), row in alone.items():
        assert _rows(shards, name, np.array([key])).tobytes() == row, name


def _keys_of(task: ShardTask, examples: Examples, name: str) -> np.ndarray:
    keys = np.zeros(len(task.rows[name]), np.int64)
    refs = task.refs[name]
    keys[refs[refs >= 0]] = examples.keys[name][refs >= 0]
    return keys


def check_weight(subject: Subject) -> None:
    """An event of weight 0 leaves every descended row as it is; of weight 2 it loses twice as much."""
    lab = subject.lab()
    lab.learn(checkerboard(BATCH))
    task, _ = subject.task(lab)
    averaged = {block.name for block in lab.learner.model.blocks() if block.merge == "mean"}
    before = {name: rows.copy() for name, rows in task.rows.items() if name not in averaged}
    double = lab.learner.model.score(replace(task, weight=2 * task.weight))[1]
    np.testing.assert_allclose(double, 2 * lab.learner.model.score(task)[1])
    widths = {block.name: block.width for block in lab.learner.model.blocks()}
    after = lab.learner.model.learn(replace(task, weight=np.zeros_like(task.weight))).rows
    assert all(np.array_equal(after[name][:, : widths[name]], rows[:, : widths[name]]) for name, rows in before.items())


CHECKS: dict[Callable[[Subject], None], Callable[[Any], Any]] = {
    check_gradient: lambda model: broken.Broken(model, learn=broken.half_step),
    check_tails: lambda model: broken.Broken(model, score=broken.score_not_finite),
    check_unknown: lambda model: broken.Broken(model, score=broken.score_nan_for_unknown),
    check_scoring_is_pure: lambda model: broken.Broken(model, score=broken.score_that_learns),
    check_score_is_what_learning_sees: lambda model: broken.Broken(model, score=broken.score_halved),
    check_empty: lambda model: broken.Broken(model, examples=broken.examples_need_events),
    check_planted: lambda model: broken.Broken(model, learn=broken.learns_nothing),
    check_parts: lambda model: broken.Broken(model, parts=broken.forgets_the_bias),
    check_keys: lambda model: broken.Broken(model, learn=broken.touches_nothing_first),
    check_shipping: lambda model: broken.Broken(model, learn=broken.remembers),
    check_one_shard_is_sequential: lambda model: broken.Broken(model, learn=broken.looks_at_size),
    check_weight: lambda model: broken.Broken(model, learn=broken.ignores_weight),
}
# Models that shards learn; one that only counts has tests of its own (tests/models/test_cooccurrence.py).
LEARNERS = [name for name in MODELS if len(examples_of(Subject(name).lab(), BATCH))]


def descends(name: str) -> bool:
    """Whether the optimizer's rate matters; rows that are not moved by one have tests of their own."""
    rows = []
    for rate in (0.01, 0.02):
        subject = Subject(name)
        lab = subject.lab(f"model.optimizer.learning_rate={rate}", f"model.optimizer.bias_rate={rate}")
        rows.append(lab.learner.model.learn(subject.task(lab)[0]).rows)
    return not same_bits(*rows)


DESCENDING = [name for name in LEARNERS if descends(name)]
APPLIES = {check_gradient: DESCENDING}
# What an optimizer can break; the other checks do not meet one, or choose their own.
STEPPED = (check_tails, check_score_is_what_learning_sees, check_planted, check_shipping, check_one_shard_is_sequential, check_weight)
WAYS = [*(f"model.optimizer.name={optimizer}" for optimizer in ("auto", *OPTIMIZERS)), "model.optimizer.schedule=inverse_sqrt"]
SUBJECTS = [Subject(name, (way,)) for name in LEARNERS for way in (WAYS if name in DESCENDING else WAYS[:1])]
WITH_FEATURES = (
    "source.context=[a,b]", "model.features.context=[a,b]", "model.features.items=[category,genre]", "model.features.most=3",
)
SUBJECTS += [
    Subject(name, WITH_FEATURES) for name in LEARNERS
    if any(block.ids in (FEATURE, ATTRIBUTE) for block in Subject(name, WITH_FEATURES).lab().learner.model.blocks())
]

DROPOUT = "model.dropout=0.2"
CHOICES = ("model.query.loss=bpr", "model.query.loss=logistic", "model.query.tied=true", "model.query.user_row=true",
           "model.residual=0.5", DROPOUT)
# Everything that may stand in one query at once.
TOGETHER = ("model.query.user_row=true", "model.query.tied=true", *WITH_FEATURES)


def heeds(name: str, way: str) -> bool:
    """Whether the model takes notice of the setting; models that it is made of are not looked into."""
    made = [vars(MODELS[name](Subject(name, sets).settings().model)) for sets in ((), (way,))]
    plain, other = ({key: value for key, value in one.items() if not hasattr(value, "__dict__")} for one in made)
    return plain != other


SUBJECTS += [Subject(name, (way,)) for way in CHOICES for name in LEARNERS if heeds(name, way)]
SUBJECTS += [Subject(name, TOGETHER) for name in LEARNERS if heeds(name, TOGETHER[0])]


def test_models_without_steps_are_few() -> None:
    """So that no check falls silent."""
    assert set(LEARNERS) - set(DESCENDING) == {"biases", "rating"}


def applies(check: Callable[[Subject], None], subject: Subject) -> bool:
    if check is check_gradient and DROPOUT in subject.sets:
        return False  # under a mask the step is the derivative of something else: see test_dropout
    return subject.name in APPLIES.get(check, LEARNERS) and (check in STEPPED or subject.sets[0] not in WAYS[1:])


@pytest.mark.parametrize(
    ("subject", "check"), [(subject, check) for check in CHECKS for subject in SUBJECTS if applies(check, subject)],
    ids=lambda given: given.__name__ if callable(given) else f"{given.name}-{given.sets[0].removeprefix('model.')}")
def test_contract(subject: Subject, check: Callable[[Subject], None]) -> None:
    check(subject)


@pytest.mark.parametrize(("name", "check"), [(name, check) for check in CHECKS for name in APPLIES.get(check, LEARNERS)],
                         ids=lambda given: given.__name__ if callable(given) else given)
def test_a_broken_model_is_caught(name: str, check: Callable[[Subject], None]) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(Subject(name, (), CHECKS[check]))
