"""Errors of the engine that have a cause with a name, and a way out."""

from __future__ import annotations

import re

from freshet.engine.file_names import plain
from freshet.errors import FreshetError, SourceChanged, SourceRefused

_FILE = re.compile(r"(?:file|s3a?|hdfs|abfss?|gs):/[^\s,]*")
_KAFKA_SILENT = ("Timeout", "UnknownTopic", "Authentication", "Authorization", "Ssl", "ConfigException", "KafkaException")
_CONDITION = re.compile(r"\[([A-Z_]+(?:\.[A-Z_]+)?)\]")


def named(error: Exception) -> FreshetError | None:
    """The refusal behind a failed read, or None when it has no name of its own."""
    text = str(error)
    found = _FILE.search(text)
    path = plain(found[0].rstrip(".:;)")) if found else None
    condition = " ".join(_CONDITION.findall(text))
    if "FILE_NOT_EXIST" in condition or "FileNotFoundException" in text:
        what = f"The source file {path} is gone."
        return SourceChanged(what, remedy="Put it back, then start again.", path=path, planned="there", found=None)
    if "KAFKA_DATA_LOSS" in text or "failOnDataLoss" in text or "OffsetOutOfRange" in text:
        what = f"Messages that were not read yet are gone from Kafka: {first_words(text)}."
        remedy = (
            "The broker keeps them too short a time, or a topic was made anew. What is gone cannot be had back: to go on with "
            "what is left, start with --set source.kafka.on_data_loss=continue; how many are missing is then a row of `decisions`."
        )
        return SourceChanged(what, remedy=remedy, path=None, planned="messages up to the planned offsets", found="fewer")
    if "org.apache.kafka" in text and any(word in text for word in _KAFKA_SILENT):
        what = f"Kafka does not answer as it should: {first_words(text)}."
        remedy = "Look at source.kafka.servers, source.kafka.topics and source.kafka.options, and whether the brokers run."
        return SourceRefused(what, remedy=remedy, path=None, wanted="brokers that answer", found="none")
    if "PARQUET_COLUMN_DATA_TYPE_MISMATCH" in condition or "Parquet column cannot be converted" in text:
        what = f"A column of {path} has another type than in the files before it."
        remedy = "Move the file out of the source, or read it as a source of its own."
        wanted = "the type of the first file"
        return SourceRefused(what, remedy=remedy, path=path, wanted=wanted, found=condition)
    if "CSV header" in text:
        what = f"The header of {path} is not the one the source began with."
        remedy = "Give the file the same columns in the same order, or move it out of the source."
        return SourceRefused(what, remedy=remedy, path=path, wanted="the header of the source", found=_header(text))
    if "FAILED_READ_FILE" in condition or "checksum" in text.lower():
        what = f"{path} cannot be read ({condition})."
        remedy = "Put a sound copy in its place."
        return SourceRefused(what, remedy=remedy, path=path, wanted="a sound file", found=condition)
    return None


def first_words(text: str) -> str:
    """The line of an error that says most: one of Kafka, or the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    best = [line for line in lines if "KAFKA" in line or "org.apache.kafka" in line] or lines
    return best[0][:300].rstrip(".") if best else "no message"


def _header(text: str) -> str:
    found = re.search(r"Header:\s*(.*)", text)
    return found[1].strip() if found else "another one"
