"""Settings of learning in several passes over the same events."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from freshet.settings.fields import Count, CountOrNone, Section, related

Part = Annotated[float, Field(ge=0, lt=1)]


class RetrainSettings(Section):
    """Passes, what is held out of them, and where they start."""

    passes: Count = 10
    patience: Count = 2
    split: Literal["time", "leave-last-out", "random"] = "time"
    validation: Part = 0.1
    test: Part = 0.1
    metric: Literal["auto", "ndcg", "recall", "mrr", "rmse", "mae", "logloss", "auc"] = "auto"
    sample: CountOrNone = 2000
    micro_batch: Count = 20_000
    start: Literal["cold", "warm", "als"] = "cold"
    context: Literal["stream", "anywhere"] = "stream"
    normalise: Literal["none", "mean", "offsets", "min-max", "z-score"] = "none"

    @model_validator(mode="after")
    def _left(self) -> Self:
        if self.validation + self.test >= 1.0:
            raise related("shares that add up to less than 1: the rest is learned", "validation", "test")
        return self
