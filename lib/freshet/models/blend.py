"""blend: history and cooccurrence, mixed with popularity by what ranked best so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from freshet.models.contract import ITEM, Asked, Block, Context, Events, Examples, Extras, Gather, Mix, Part, Rows
from freshet.models.cooccurrence import Cooccurrence
from freshet.models.history import History
from freshet.settings import ModelSettings

# (history, cooccurrence, popularity); the first is where a model starts. Every one was the best on some stream.
MIXES = (
    Mix(0.5, 1.0, 0.6), Mix(1.0, 0.0, 1.0), Mix(1.0, 0.25, 1.0), Mix(1.0, 0.5, 1.0), Mix(0.5, 1.0, 0.3), Mix(0.25, 1.0, 0.3),
    Mix(0.25, 1.0, 0.0), Mix(0.5, 1.0, 0.0), Mix(0.0, 1.0, 0.05), Mix(0.0, 0.0, 1.0),
)


class Blend(History):
    """score = h (b_i + q . y_i) + c log(1 + counts) + p log(decayed popularity), (h, c, p) chosen among MIXES."""

    name = "blend"

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self.counts = Cooccurrence(settings)
        self.query_items = self.recent
        self.recent, self.asked = max(self.query_items, self.counts.recent), max(self.asked_items, self.counts.asked)
        self.residual = settings.residual
        # With the mix that the vectors are learned for, if they are.
        among = (Mix(1.0, self.residual, 1.0), *MIXES) if self.residual else MIXES
        self.mixes = (Mix(*settings.mix),) if settings.mix else among

    def blocks(self) -> tuple[Block, ...]:
        return (*super().blocks(), *self.counts.blocks())

    def examples(self, events: Events, context: Context) -> Examples:
        made = super().examples(events, context)
        if not self.residual:
            return made
        items = made.keys[ITEM][:, : 1 + self.negatives]
        return replace(made, offset=np.float32(self.residual) * self.counts.scores_of(context, made.event, items))

    def tally(self, gather: Gather, events: Events, positive: np.ndarray, context: Context) -> dict[str, Rows]:
        return self.counts.tally(gather, events, positive, context)

    def extras(self, asked: Asked) -> Extras:
        return self.counts.extras(asked)

    def parts(self, asked: Asked, item: int, rows: Mapping[str, np.ndarray]) -> tuple[list[Part], list[Part]]:
        return super().parts(asked, item, rows)[0], self.counts.parts(asked, item, rows)[1]

    def known(self, asked: Asked) -> np.ndarray:
        return np.asarray(super().known(asked) | self.counts.known(asked))
