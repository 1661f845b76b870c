"""Learners of other projects on the same events, one process, nothing written: River, implicit, Vowpal Wabbit.

Each answers with events a second, one number for each repetition, or with the sentence why it is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
