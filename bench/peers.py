"""Learners of other projects on the same events, one process, nothing written: River, implicit, Vowpal Wabbit.

Each answers with events a second, one number for each repetition, or with the sentence why it is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from figures import Options, core_seconds

from freshet.demo.shapes import Shaped, shaped

NOT_HERE = "not installed here"
Measured = list[float] | str


def ratings(options: Options) -> Iterator[tuple[str, str, Measured]]:
    """Peers that predict a value: (name, what it is, events a second)."""
    count = options.pairs(100_000, 20_000)
    shape = shaped(events=count, seed=options.seed)
    repeats = options.pairs(5, 2)
    yield "river", "River's BiasedMF (16 factors, Python loop)", repeated(river_mf, shape, 16, repeats)
    yield "vw", "Vowpal Wabbit's --lrq (16 factors, text file)", vowpal(shape, 16, repeats, options.folder("vw"))


def repeated(
    make: Callable[[Shaped, int], Callable[[], int] | str], shape: Shaped, factors: int, repeats: int,
    clock: Callable[[Callable[[], object]], float] = core_seconds,
) -> Measured:
    """Events a second of what `make` gives, in processor seconds: all peers run on one core."""
    found = []
    for _ in range(repeats):
        call = make(shape, factors)
        if isinstance(call, str):
            return call
        events: list[int] = []
        taken = clock(lambda call=call, events=events: events.append(call()))  # type: ignore[misc]
        found.append(events[0] / taken)
    return found


def river_mf(shape: Shaped, factors: int) -> Callable[[], int] | str:
    """One pass of BiasedMF: predict, then learn, event by event."""
    try:
        from river import optim, reco
    except ImportError:
        return NOT_HERE
    model = reco.BiasedMF(
        n_factors=factors, bias_optimizer=optim.SGD(0.05), latent_optimizer=optim.SGD(0.05), l2_bias=0.0, l2_latent=0.0, seed=1,
    )
    rows = list(zip(shape.user.tolist(), shape.item.tolist(), shape.value.tolist(), strict=True))

    def run() -> int:
        for user, item, value in rows:
            model.predict_one(user=user, item=item)
            model.learn_one(user=user, item=item, y=value)
        return len(rows)

    return run


def vowpal(shape: Shaped, factors: int, repeats: int, folder: Path) -> Measured:
    """One pass of --lrq over a text file, all of it in C++; the time of an empty file is taken off."""
    try:
        import vowpalwabbit
    except ImportError:
        return NOT_HERE
    text = folder / "events.vw"
    with text.open("w") as file:
        file.writelines(f"{value} |u {user} |i {item}\n" for user, item, value in zip(shape.user, shape.item, shape.value, strict=True))
    empty = folder / "empty.vw"
    empty.write_text("1 |u 1 |i 1\n")

    def one_pass(path: Path) -> float:
        def run() -> None:
            model = vowpalwabbit.Workspace(f"-d {path} --lrq ui{factors} -b 22 --quiet")
            model.finish()

        return core_seconds(run)

    return [len(shape.user) / max(one_pass(text) - one_pass(empty), 1e-9) for _ in range(repeats)]


def river_fm(
    columns: Mapping[str, np.ndarray], label: np.ndarray, weight: np.ndarray, rates: tuple[float, float],
) -> np.ndarray | str:
    """float64[n]: chance of each label just before River's factorization machine learns it; AdaGrad of weights and factors."""
    try:
        from river import facto, optim
    except ImportError:
        return NOT_HERE
    model = facto.FMClassifier(n_factors=16, weight_optimizer=optim.AdaGrad(rates[0]), latent_optimizer=optim.AdaGrad(rates[1]), seed=1)
    chance = np.empty(len(label))
    for number, row in enumerate(zip(*(column.tolist() for column in columns.values()), strict=True)):
        event = dict(zip(columns, map(str, row), strict=True))
        chance[number] = model.predict_proba_one(event)[True]
        model.learn_one(event, bool(label[number]), float(weight[number]))
    return chance


def sklearn_logistic(
    columns: Mapping[str, np.ndarray], label: np.ndarray, weight: np.ndarray, rate: float, cuts: Sequence[int],
) -> np.ndarray | str:
    """float64[n]: chance of each label before scikit-learn's logistic regression learns its micro-batch; 1/2 in the first."""
    try:
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import SGDClassifier
    except ImportError:
        return NOT_HERE
    codes = [np.unique(column, return_inverse=True)[1] for column in columns.values()]
    starts = np.cumsum([0, *(code.max() + 1 for code in codes)])
    cells = np.stack(codes, axis=1) + starts[:-1]
    rows = csr_matrix((np.ones(cells.size), cells.ravel(), np.arange(0, cells.size + 1, cells.shape[1])), shape=(len(cells), starts[-1]))
    model = SGDClassifier(loss="log_loss", alpha=1e-6, learning_rate="constant", eta0=rate, shuffle=False, random_state=1)
    chance = np.full(len(label), 0.5)
    for begin, end in pairwise(cuts):
        if begin:
            chance[begin:end] = model.predict_proba(rows[begin:end])[:, 1]
        model.partial_fit(rows[begin:end], label[begin:end], classes=[False, True], sample_weight=weight[begin:end])
    return chance


def implicit_bpr(shape: Shaped, factors: int, repeats: int) -> Measured:
    """Epochs of implicit's BPR on one thread; a pass over n events is n steps, as one of ours is."""
    try:
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from scipy.sparse import csr_matrix
    except ImportError:
        return NOT_HERE
    matrix = csr_matrix((np.ones(len(shape.user), np.float32), (shape.user, shape.item)))

    def fit(epochs: int) -> float:
        model = BayesianPersonalizedRanking(
            factors=factors, learning_rate=0.05, regularization=0.0, iterations=epochs, num_threads=1, random_state=1,
            verify_negative_samples=False,
        )
        return core_seconds(lambda: model.fit(matrix, show_progress=False))

    # Setting up (copying the matrix, first factors) is taken off: it is not learning.
    return [3 * matrix.nnz / max(fit(4) - fit(1), 1e-9) for _ in range(repeats)]
