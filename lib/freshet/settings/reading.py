"""Settings of what is read: the source, its mapping to events, and what cleaning refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from freshet.settings.fields import (
    Count,
    CountOrNone,
    Duration,
    DurationOrNever,
    Positive,
    Section,
    Share,
    Text,
    Texts,
    related,
)
from freshet.settings.kafka import KafkaSettings

EVENT_FIELDS = ("user_id", "item_id", "event_type", "value", "event_at", "revision", "weight", "propensity")


def _event_field(name: str) -> str:
    if name not in EVENT_FIELDS:
        raise PydanticCustomError("event_field", "{wanted}", {"wanted": f"one of {', '.join(EVENT_FIELDS)} as the key"})
    return name


EventField = Annotated[str, AfterValidator(_event_field)]


class CsvSettings(Section):
    """How a CSV source is written."""

    header: bool = True
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    columns: Texts = ()

    @model_validator(mode="after")
    def _named_columns(self) -> Self:
        if not self.header and not self.columns:
            raise related("the names of the columns in csv.columns where there is no header line", "columns", "header")
        return self


class ColumnSettings(Section):
    """Event field -> column of the source; None where the source has none."""

    event_id: Text | None = "event_id"
    user_id: Text | None = "user_id"
    item_id: Text | None = "item_id"
    event_type: Text | None = "event_type"
    value: Text | None = "value"
    event_at: Text | None = "event_at"
    revision: Text | None = "revision"
    weight: Text | None = "weight"
    propensity: Text | None = "propensity"


class SourceSettings(Section):
    """Where events come from and how a record becomes an event."""

    format: Literal["json", "csv", "parquet", "delta", "kafka"] = "json"
    path: Text | None = None
    glob: Text | None = None
    columns: ColumnSettings = ColumnSettings()
    context: Texts = ()
    constants: Mapping[EventField, str] = {}
    event_types: Texts = ()
    values: Mapping[str, float] = {}
    default_value: float | None = None
    order: Literal["time", "file"] = "time"
    time_unit: Literal["s", "ms", "us", "text"] = "text"
    time_format: Text | None = None
    csv: CsvSettings = CsvSettings()
    max_files_per_trigger: Count | None = 1
    max_bytes_per_trigger: Count | None = None
    kafka: KafkaSettings = KafkaSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.format == "kafka":
            if not self.kafka.servers or not self.kafka.topics:
                raise related("brokers in kafka.servers and topics in kafka.topics", "kafka", "format")
            if self.order == "file":
                raise related('order "time": partitions have no order among each other', "order", "format")
        if self.time_format is not None and self.time_unit != "text":
            raise related('time_unit "text" where there is a time_format', "time_format", "time_unit")
        if self.order == "time" and self.columns.event_at is None and "event_at" not in self.constants:
            raise related('order "file" where the source has no time', "order", "columns.event_at")
        unknown = sorted(set(self.values) - set(self.event_types)) if self.event_types else []
        if unknown:
            what = f"only event types listed in event_types, and not {', '.join(unknown)}"
            raise related(what, "values", "event_types")
        return self


class CleanSettings(Section):
    """The rules an event must pass, and how many may fail before the batch is refused."""

    max_id_length: Count = 256
    max_raw_length: CountOrNone = 2000
    max_context_columns: CountOrNone = 32
    max_context_length: Count = 256
    value_min: float = -1e6
    value_max: float = 1e6
    weight_max: Positive = 1e6
    future_tolerance: Duration = 600.0
    max_age: DurationOrNever = None
    dedup_window: Duration = 172800.0
    repeats: Literal["keep", "drop"] = "keep"
    max_refused_share: Share = 0.5
    min_refused_events: Count = 20
    on_refused: Literal["stop", "continue"] = "stop"

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.value_min >= self.value_max:
            raise related("value_min below value_max", "value_min", "value_max")
        return self
