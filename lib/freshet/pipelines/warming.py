"""Getting the kernels ready while Spark and Delta are busy starting."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np

from freshet.errors import BatchRefused
from freshet.learner import Learner
from freshet.models import MODELS
from freshet.models.contract import Events
from freshet.pipelines.assembly import new_head, new_learner
from freshet.settings import Settings

EVENTS = 64


def warm(settings: Settings) -> threading.Thread:
    """Learn two tiny micro-batches of nothing in a thread, so that every kernel is compiled or read from its cache.

    What is learned goes nowhere. The first real micro-batch then waits for the rest of it at most. Settings that no learner can
    have are refused here, and not in the thread.
    """
    thread = threading.Thread(target=_learn_nothing, args=(settings, new_learner(settings)), name="warming", daemon=True)
    thread.start()
    return thread


def _learn_nothing(settings: Settings, learner: Learner) -> None:
    head = new_head(learner.model, settings)
    number = np.arange(EVENTS, dtype=np.int64)
    for batch in range(2):
        at = number + batch * EVENTS
        features = np.tile(at[:, None] % 3 + 1, len(settings.model.features.context))
        events = Events(at % 7, at % 11, np.ones(EVENTS), np.ones(EVENTS), at, at * 7919, features)
        # Settings under which learning runs away are told by the first real micro-batch, not by a thread.
        with suppress(BatchRefused):
            learned = learner.learn(head, events, lambda tasks: [learner.model.learn(task) for task in tasks])
            head.apply(learned.changes, learned.digest)
            head.clock = int(at[-1])


def main() -> None:
    """Compile the kernels of every model into numba's cache on disk."""
    settings = Settings()
    for name in MODELS:
        chosen = settings.model_copy(update={"model": settings.model.model_copy(update={"name": name})})
        _learn_nothing(chosen, new_learner(chosen))


if __name__ == "__main__":
    main()
