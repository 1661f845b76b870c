"""Settings of what is learned: the model, what is remembered beside it, guards and measures."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from freshet.settings.fields import (
    Count,
    CountOrNone,
    Duration,
    DurationOrNever,
    NotNegative,
    Positive,
    Section,
    Share,
    Texts,
    as_tuple,
    related,
)

Factors = Annotated[int, Field(ge=1, le=4096)]
Shards = Annotated[int, Field(ge=1, le=1024)]
Decay = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Asked = Annotated[int, Field(ge=1, le=10_000)]


def _ascending(edges: tuple[float, ...]) -> tuple[float, ...]:
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise PydanticCustomError("edges", "{wanted}", {"wanted": "numbers in ascending order, such as [0, 10, 100]"})
    return edges


Edges = Annotated[tuple[float, ...], BeforeValidator(as_tuple), AfterValidator(_ascending)]
Groups = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(as_tuple), AfterValidator(_ascending)]


class OptimizerSettings(Section):
    """How a gradient becomes a step; None takes what the model recommends with this optimizer."""

    name: Literal["auto", "sgd", "momentum", "adagrad", "rms", "rmsprop", "adam", "ftrl"] = "auto"
    learning_rate: Positive | None = None
    bias_rate: Positive | None = None
    rate_factor: Positive = 1.0
    accumulator: Literal["row", "coordinate"] = "row"
    decay: Decay | None = None
    momentum: Decay = 0.9
    epsilon: Positive = 1e-6
    schedule: Literal["constant", "inverse_sqrt", "exponential"] = "constant"
    schedule_events: Positive = 1000.0
    forget: Mapping[str, Duration] = {}

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.name == "ftrl" and self.schedule != "constant":
            raise related("a constant schedule with ftrl, whose steps become shorter by themselves", "schedule", "name")
        if self.name == "ftrl" and self.forget:
            raise related("another optimizer where rows forget: ftrl's zeros follow from all it saw", "forget", "name")
        return self


class QuerySettings(Section):
    """How a user's newest items become his vector (history)."""

    items: Annotated[int, Field(ge=1, le=16)] = 16
    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    power: Share = 0.5
    asked: Asked | None = None
    loss: Literal["softmax", "bpr", "logistic"] = "softmax"
    tied: bool = False
    user_row: bool = False
    also: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(as_tuple)] = ()
    groups: Groups = (8, 64)


class NeighbourSettings(Section):
    """How items that follow each other are counted (cooccurrence)."""

    links: Annotated[int, Field(ge=1, le=4096)] = 64
    items: Annotated[int, Field(ge=1, le=16)] = 10
    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    reverse: Share = 0.3
    asked: Asked | None = None
    asked_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    half_life: DurationOrNever = 2592000.0
    shrink: NotNegative = 20.0


def _three(weights: tuple[float, ...]) -> tuple[float, ...]:
    if len(weights) not in (0, 3):
        raise PydanticCustomError("edges", "{wanted}", {"wanted": "no numbers or three, such as [0.5, 1.0, 0.3]"})
    return weights


class FeatureSettings(Section):
    """What else is known of an event and of an item that the model may use."""

    context: Texts = ()
    items: Texts = ()
    most: Annotated[int, Field(ge=1, le=64)] = 8
    bins: Mapping[str, Edges] = {}
    vectors: Texts = ()

    @model_validator(mode="after")
    def _bins(self) -> Self:
        unknown = sorted(set(self.bins) - {*self.context, *self.items})
        if unknown:
            raise related(f"only names of context or items, and not {', '.join(unknown)}", "bins", "context", "items")
        unknown = sorted(set(self.vectors) - (set(self.items) - set(self.bins)))
        if unknown:
            raise related(f"only names of items that have no bins, and not {', '.join(unknown)}", "vectors", "items", "bins")
        return self


class KalmanSettings(Section):
    """How unsure rows are, in variances of the noise of one value (biases, rating)."""

    user: Positive = 0.15
    item: Positive = 0.33
    factors: Positive = 0.25
    attribute: Positive = 0.05
    drift: NotNegative = 0.0045


class ModelSettings(Section):
    """What is learned, and in how many shards and rounds."""

    name: Literal["biases", "blend", "bpr", "cooccurrence", "fm", "history", "linear", "mf", "rating"] = "blend"
    factors: Factors | None = None
    shards: Shards = 8
    round_events: Count = 50_000
    round_share: Share | None = 0.1
    seed: Seed = 1
    merge: Literal["contraction", "sum", "average", "clipped", "trimmed"] = "contraction"
    init_scale: NotNegative | None = None
    l2: NotNegative = 0.0
    l1: NotNegative = 0.0
    bias_l2: NotNegative = 0.0
    max_norm: Positive = 10.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    positive_from: float | None = None
    loss: Literal["logistic", "squared", "hinge", "perceptron"] = "logistic"
    propensity_clip: Annotated[float, Field(ge=1)] | None = None
    frozen: bool = False
    negatives: Count | None = None
    negative_draw: Literal["recent", "uniform", "popularity"] = "recent"
    negative_tries: Count = 4
    popularity_weight: NotNegative = 1.0
    mix: Annotated[tuple[float, ...], BeforeValidator(as_tuple), AfterValidator(_three)] = ()
    residual: NotNegative = 0.0
    query: QuerySettings = QuerySettings()
    neighbours: NeighbourSettings = NeighbourSettings()
    features: FeatureSettings = FeatureSettings()
    kalman: KalmanSettings = KalmanSettings()
    optimizer: OptimizerSettings = OptimizerSettings()


class LabelSettings(Section):
    """How long an impression waits for an answer before it is learned as a negative example; None: impressions are events."""

    wait: DurationOrNever = None
    impressions: Texts = ("impression",)
    answers: Texts = ("click",)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.wait is not None and not (self.impressions and self.answers):
            raise related("an event type in impressions and one in answers, where there is a wait", "impressions", "answers")
        both = sorted(set(self.impressions) & set(self.answers))
        if both:
            raise related(f"each event type in one of them, and not {', '.join(both)} in both", "impressions", "answers")
        return self


class PopularitySettings(Section):
    """The decayed counts that are learned beside every model."""

    half_life: DurationOrNever = 604800.0
    also: Annotated[tuple[DurationOrNever, ...], BeforeValidator(as_tuple)] = (1200.0, 7200.0, 86400.0, None)
    segment: str | None = None
    segment_items: Annotated[int, Field(ge=1, le=4096)] = 128
    segment_prior: Positive = 100.0


class HistorySettings(Section):
    """Each user's recent items."""

    items: Annotated[int, Field(ge=32)] = 1000


class WindowSettings(Section):
    """The items of the most recent events, from which negatives are drawn."""

    events: Annotated[int, Field(ge=32)] = 20_000


class GuardSettings(Section):
    """When learned rows are refused."""

    max_capped_share: Share = 0.5


class MetricsSettings(Section):
    """What is measured before learning."""

    sample: CountOrNone = 128
    k: Count = 10
    max_items: Count = 100_000
