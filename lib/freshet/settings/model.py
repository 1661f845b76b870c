"""All settings of Freshet, frozen and checked; `freshet.settings.load` makes them, nothing else reads files."""

from __future__ import annotations

import json
from typing import Self

from pydantic import model_validator

from freshet.settings.challenging import ChallengerSettings
from freshet.settings.deciding import FORGET, FREEZE, Change, GateSettings, StrategySettings
from freshet.settings.fields import Section, related
from freshet.settings.kafka import SinkSettings
from freshet.settings.learning import (
    GuardSettings,
    HistorySettings,
    LabelSettings,
    MetricsSettings,
    ModelSettings,
    PopularitySettings,
    WindowSettings,
)
from freshet.settings.limits import LimitSettings
from freshet.settings.listing import ListSettings
from freshet.settings.reading import CleanSettings, SourceSettings
from freshet.settings.retraining import RetrainSettings
from freshet.settings.running import DemoSettings, SparkSettings, StoreSettings, StreamSettings
from freshet.settings.secrets import redacted


class Settings(Section):
    """Every setting, by section; what each means and why it has its value stands in default.yaml."""

    store: StoreSettings = StoreSettings()
    source: SourceSettings = SourceSettings()
    sink: SinkSettings = SinkSettings()
    clean: CleanSettings = CleanSettings()
    labels: LabelSettings = LabelSettings()
    model: ModelSettings = ModelSettings()
    popularity: PopularitySettings = PopularitySettings()
    history: HistorySettings = HistorySettings()
    window: WindowSettings = WindowSettings()
    guard: GuardSettings = GuardSettings()
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings = MetricsSettings()
    gate: GateSettings = GateSettings()
    challengers: ChallengerSettings = ChallengerSettings()
    strategy: StrategySettings = StrategySettings()
    lists: ListSettings = ListSettings()
    retrain: RetrainSettings = RetrainSettings()
    stream: StreamSettings = StreamSettings()
    spark: SparkSettings = SparkSettings()
    demo: DemoSettings = DemoSettings()

    @model_validator(mode="after")
    def _features(self) -> Self:
        unknown = sorted(set(self.model.features.context) - set(self.source.context))
        if unknown:
            what = f"only columns that source.context keeps, and not {', '.join(unknown)}"
            raise related(what, "model.features.context", "source.context")
        if self.popularity.segment not in (None, *self.model.features.context):
            what = f"one of model.features.context, and not {self.popularity.segment}"
            raise related(what, "popularity.segment", "model.features.context")
        return self

    @model_validator(mode="after")
    def _labels(self) -> Self:
        if self.labels.wait is None:
            return self
        if self.model.name not in ("fm", "linear") or self.model.loss == "squared":
            what = "a model that learns labels (fm or linear, with a loss other than squared), where impressions wait for answers"
            raise related(what, "model.name", "model.loss", "labels.wait")
        if self.model.positive_from is not None and self.model.positive_from <= 0:
            raise related("above 0: an impression without an answer has the value 0", "model.positive_from", "labels.wait")
        unknown = sorted({*self.labels.impressions, *self.labels.answers} - set(self.source.event_types))
        if unknown and self.source.event_types:
            what = f"only event types listed in source.event_types, and not {', '.join(unknown)}"
            raise related(what, "labels.impressions", "labels.answers", "source.event_types")
        return self

    @model_validator(mode="after")
    def _strategy(self) -> Self:
        back, rates = self.strategy.naming("roll back"), self.strategy.naming("learning rate")
        if back and self.gate.publish == "head":
            raise related("judged or manual, where a roll back has somewhere to go", "gate.publish", f"strategy.{back[0]}")
        if rates and self.model.name in ("biases", "cooccurrence", "rating"):
            raise related("a model that learns by steps, whose length can be changed", "model.name", f"strategy.{rates[0]}")
        if rates and self.model.optimizer.name == "ftrl":
            what = "another optimizer: with ftrl a changed rate changes what was learned before"
            raise related(what, "model.optimizer.name", f"strategy.{rates[0]}")
        forget = self.strategy.naming(FORGET)
        lasting = self.popularity.half_life is None and self.model.neighbours.half_life is None
        if forget and lasting and not self.model.optimizer.forget:
            raise related("a half-life, which can be made shorter", "popularity.half_life", f"strategy.{forget[0]}")
        return self

    def with_rates(self, factor: float) -> Self:
        """These settings with both learning rates `factor` times as large."""
        optimizer = self.model.optimizer.model_copy(update={"rate_factor": self.model.optimizer.rate_factor * factor})
        return self.model_copy(update={"model": self.model.model_copy(update={"optimizer": optimizer})})

    def with_change(self, change: Change | None) -> Self:
        """These settings as a strategy changes them for a while; None: as they are."""
        if change is None:
            return self
        if change.kind == FREEZE:
            return self.with_frozen(True)
        if change.kind != FORGET:
            return self.with_rates(change.factor)
        popularity, neighbours = self.popularity, self.model.neighbours
        shorter = [None if one.half_life is None else one.half_life / change.factor for one in (popularity, neighbours)]
        rows = {block: half_life / change.factor for block, half_life in self.model.optimizer.forget.items()}
        model = self.model.model_copy(update={
            "neighbours": neighbours.model_copy(update={"half_life": shorter[1]}),
            "optimizer": self.model.optimizer.model_copy(update={"forget": rows}),
        })
        return self.model_copy(update={"model": model, "popularity": popularity.model_copy(update={"half_life": shorter[0]})})

    def with_frozen(self, frozen: bool) -> Self:
        """These settings with `model.frozen` as said."""
        return self.model_copy(update={"model": self.model.model_copy(update={"frozen": frozen})})

    def to_json(self) -> str:
        """The settings as they stand in a snapshot row: keys sorted, durations in seconds, secrets redacted."""
        return json.dumps(redacted(self.model_dump(mode="json")), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings of a snapshot row, but for what was redacted."""
        recorded = json.loads(text)
        recorded.setdefault("model", {}).setdefault("round_share", None)  # recorded before rounds had such a limit
        recorded.setdefault("limits", LimitSettings.none().model_dump())  # and before there were any
        return cls.model_validate_json(json.dumps(recorded))
