"""What one micro-batch has to say for itself: the record that pipelines hand to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    """The sum `total` of a metric over `events` events; a mean is total / events, an RMSE sqrt(total / events).

    Of `auc` they are the pairs of a positive and a negative event of one micro-batch, of `calibration` the positive events.

    `scoring` is `served` (weights of the snapshot before the micro-batch) or `sequential` (just before the event was
    learned); `learner` the model's name or `popularity`; `slice` is `all`, `new_user` or `known_user`.
    Further scorings have names of their own: `paired` (see freshet.paired), `inputs` (see freshet.inputs),
    `learned` (see freshet.growth).
    """

    metric: str
    scoring: str
    learner: str
    slice: str
    total: float
    events: int

    @property
    def mean(self) -> float:
        """total / events, NaN without events; squared errors come back as their root (RMSE)."""
        if not self.events:
            return float("nan")
        mean = self.total / self.events
        return mean**0.5 if self.metric == "rmse" else mean


@dataclass(frozen=True)
class BatchReport:
    """One committed micro-batch. Counts add up: read = accepted + quarantined + duplicate + late; `corrected` are those of the
    accepted that correct others.

    `so_far` are the same counts since the model began, this micro-batch included; `behind` is what the partitions of a Kafka
    source had beyond it when it was committed; `rows` those of the head by block; `decided` the decisions this process has
    committed so far, by kind; `limited` what each of settings.limits touched.
    """

    version: int
    kind: str
    batch_id: int
    read: int
    accepted: int
    quarantined: int
    duplicate: int
    late: int
    seconds: float
    lag_seconds: float
    users: int
    items: int
    metrics: Sequence[Metric] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    so_far: Mapping[str, int] = field(default_factory=dict)
    corrected: int = 0
    behind: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    decided: Mapping[str, int] = field(default_factory=dict)
    limited: Mapping[str, int] = field(default_factory=dict)


Listener = Callable[[BatchReport], None]


def limited_text(limited: Mapping[str, int]) -> str:
    """What the limits touched, in words: accounts that are warming up are nothing to tell of each time."""
    return ", ".join(f"{count:,} {name}" for name, count in limited.items() if name != "warming_events" and count)
