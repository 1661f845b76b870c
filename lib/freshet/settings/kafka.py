"""Settings of a Kafka source: where the brokers are, which topics, where to begin, how much at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from freshet.settings.fields import Count, Section, as_tuple, related

# Options of Spark's Kafka source that are nobody's but the operator's; Kafka's own go through with their prefix `kafka.`.
PASSED_ON = (
    "minPartitions", "maxRecordsPerPartition", "minOffsetsPerTrigger", "maxTriggerDelay", "groupIdPrefix",
    "kafkaConsumer.pollTimeoutMs", "fetchOffset.numRetries", "fetchOffset.retryIntervalMs",
)  # fmt: skip
_OWN = {"kafka.bootstrap.servers": "source.kafka.servers"}
_WANTED_START = 'earliest, latest, a time such as "2026-11-21T06:00:00Z", or offsets as JSON such as {"clicks": {"0": 23}}'


def _refusing(pattern: str, wanted: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise PydanticCustomError("kafka", "{wanted}", {"wanted": wanted})
        return text

    return AfterValidator(check)


def _option(name: str) -> str:
    if name in _OWN:
        raise PydanticCustomError("kafka_option", "{wanted}", {"wanted": f"{_OWN[name]} for that"})
    if not name.startswith("kafka.") and name not in PASSED_ON:
        wanted = f"an option of Kafka's consumer as kafka.NAME, or one of {', '.join(PASSED_ON)} as the key"
        raise PydanticCustomError("kafka_option", "{wanted}", {"wanted": wanted})
    return name


def _client_option(name: str) -> str:
    if not name.startswith("kafka.") or name in _OWN:
        raise PydanticCustomError("kafka_option", "{wanted}", {"wanted": "an option of Kafka's producer as kafka.NAME as the key"})
    return name


def beginning(text: str) -> dict[str, str]:
    """The options of Spark's Kafka source that `start` stands for. Raises ValueError for what it cannot be."""
    if text in ("earliest", "latest"):
        return {"startingOffsets": text}
    if text.lstrip().startswith("{"):
        return {"startingOffsets": json.dumps(_offsets(json.loads(text)), sort_keys=True)}
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("without a zone")
    # Partitions without an event since then begin with what comes next.
    return {"startingTimestamp": str(round(at.timestamp() * 1000)), "startingOffsetsByTimestampStrategy": "latest"}


def _offsets(given: Any) -> dict[str, dict[str, int]]:
    if not isinstance(given, dict) or not all(isinstance(parts, dict) for parts in given.values()):
        raise ValueError("not topics with partitions")
    return {topic: {str(int(part)): int(offset) for part, offset in parts.items()} for topic, parts in given.items()}


def _start(text: str) -> str:
    try:
        beginning(text)
    except (ValueError, TypeError):
        raise PydanticCustomError("kafka_start", "{wanted}", {"wanted": _WANTED_START}) from None
    return text


Server = Annotated[str, _refusing(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}", "brokers as host:port")]
# What Kafka itself allows: https://kafka.apache.org/documentation/ (topic names), 249 characters.
Topic = Annotated[str, _refusing(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", "names of topics: letters, digits, . _ -")]


class KafkaSink(Section):
    """Topics that lists and decisions are sent to as they are published."""

    _place: ClassVar[tuple[str, ...]] = ("sink", "kafka")

    servers: Annotated[tuple[Server, ...], BeforeValidator(as_tuple)] = ()
    recommendations: Topic | None = None
    decisions: Topic | None = None
    options: Mapping[Annotated[str, AfterValidator(_client_option)], str] = {}

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if (self.recommendations or self.decisions) and not self.servers:
            raise related("brokers in kafka.servers for these topics", "servers", "recommendations")
        return self


class SinkSettings(Section):
    """Who is told beside the tables."""

    kafka: KafkaSink = KafkaSink()


class KafkaSettings(Section):
    """Topics whose messages are JSON objects, one event each."""

    _place: ClassVar[tuple[str, ...]] = ("source", "kafka")

    servers: Annotated[tuple[Server, ...], BeforeValidator(as_tuple)] = ()
    topics: Annotated[tuple[Topic, ...], BeforeValidator(as_tuple)] = ()
    start: Annotated[str, AfterValidator(_start)] = "earliest"
    max_events_per_trigger: Count | None = 100_000
    on_data_loss: Literal["stop", "continue"] = "stop"
    options: Mapping[Annotated[str, AfterValidator(_option)], str] = {}
