"""Spark's streaming checkpoint, read before Spark reads it: what it plans, and whether that can still be read.

    metadata       {"id": ...}: the identity of the checkpoint
    offsets/N      batch N is planned: `v1`, times and settings, then one line of offsets per source
    commits/N      batch N has ended
    sources/0/M    files that the file source listed in its M-th step (every tenth file, M.compact, holds all before it);
                   of a source of Kafka 0 alone: the offsets it began with

Spark replays a planned batch without looking whether its files are still there: with one gone it runs on the rest.
`fingerprint` looks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from freshet.engine.file_names import plain
from freshet.engine.log_files import Folder, Stat
from freshet.engine.places import KAFKA
from freshet.errors import CheckpointRefused, SourceChanged

LOG_VERSION = "v1"
MILLISECOND_US = 1000


@dataclass(frozen=True)
class CheckpointState:
    """Where a checkpoint stands; batches are None before the first one."""

    exists: bool
    id: str | None
    planned_batch: int | None
    committed_batch: int | None


@dataclass(frozen=True)
class PlannedFile:
    """A file as the source listed it: its name as a URI, its modification time in milliseconds."""

    uri: str
    modified_ms: int


@dataclass(frozen=True)
class Fingerprint:
    """What a micro-batch reads. `hash` changes with any path, size, time or offset; `sources` says it as JSON texts;
    `files` are the URIs of its files (none for Delta) or the names of its partitions; `batch_time_us` is the time Spark logged
    with the plan."""

    hash: str
    sources: list[str]
    batch_time_us: int
    files: list[str]


@dataclass(frozen=True)
class _Offsets:
    batch_time_us: int
    source: Any


def inspect(path: str) -> CheckpointState:
    """Where the checkpoint stands. Raises CheckpointRefused (`reason` damaged) for a log that Spark would choke on."""
    folder = Folder(path)
    planned, committed = folder.numbers("offsets"), folder.numbers("commits")
    if not folder.has("metadata"):
        if planned:
            raise _damaged(folder, "metadata", "is missing, and batches were planned")
        return CheckpointState(False, None, None, None)
    for batch in planned[-2:]:
        _offsets(folder, batch)
    if committed and (not planned or committed[-1] > planned[-1]):
        raise _damaged(folder, f"offsets/{committed[-1]}", "is missing, and that batch has ended")
    return CheckpointState(True, _identity(folder), _last(planned), _last(committed))


def check_format(path: str, source_format: str) -> None:
    """Raise CheckpointRefused (`reason` foreign) where what was planned last is of another kind of source."""
    folder = Folder(path)
    planned = folder.numbers("offsets")
    if not planned:
        return
    said = _offsets(folder, planned[-1]).source
    kind = "delta" if "reservoirVersion" in said else "files" if "logOffset" in said else "kafka"
    wanted = source_format if source_format in ("delta", "kafka") else "files"
    if kind != wanted:
        raise CheckpointRefused(
            f"The checkpoint {path} is of a source of {kind}, and source.format is {source_format}.",
            remedy="Set it back; or go on from the new source with a new store.checkpoint and --adopt-checkpoint.",
            reason="foreign", path=path, found=kind, wanted=wanted,
        )


def forget_unplanned(path: str) -> list[str]:
    """Take out of the source's list what no batch has planned; the names of the steps.

    Spark lists files first and plans their batch then. Killed in between, it would put what it listed and what it lists next
    into one batch: other micro-batches than without the kill. Listed again, they come one by one in the same order.
    """
    folder = Folder(path)
    planned = folder.numbers("offsets")
    last = _log_offset(folder, planned[-1]) if planned else -1
    steps = sorted(name for name in folder.names("sources/0") if name.partition(".")[0].isdecimal())
    gone = [name for name in steps if int(name.partition(".")[0]) > last]
    for name in gone:
        folder.remove(f"sources/0/{name}")
    return gone


def planned_files(path: str, batch_id: int) -> list[PlannedFile]:
    """The files of a planned batch of a file source, as the checkpoint lists them, in the order of the list."""
    folder = Folder(path)
    last = _log_offset(folder, batch_id)
    first = _log_offset(folder, batch_id - 1) + 1 if batch_id > 0 else 0
    return [file for step in range(first, last + 1) for file in _listed(folder, step)]


def fingerprint(checkpoint: str, batch_id: int, source_format: str) -> Fingerprint:
    """What batch `batch_id` reads, after a look at every file of it.

    Raises SourceChanged (`path`, `planned`, `found`) when a file is gone or was written again since it was planned.
    """
    if source_format == "delta":
        return _delta(Folder(checkpoint), batch_id)
    if source_format == "kafka":
        return _kafka(Folder(checkpoint), batch_id)
    files = planned_files(checkpoint, batch_id)
    sources = [_seen(file, batch_id) for file in files]
    time = _offsets(Folder(checkpoint), batch_id).batch_time_us
    return Fingerprint(_hash(sorted(sources)), sources, time, [file.uri for file in files])


def _delta(folder: Folder, batch_id: int) -> Fingerprint:
    end = _offsets(folder, batch_id)
    start = _offsets(folder, batch_id - 1).source if batch_id > 0 else None
    sources = [json.dumps({"start": start, "end": end.source}, sort_keys=True)]
    return Fingerprint(_hash(sources), sources, end.batch_time_us, [])


def _kafka(folder: Folder, batch_id: int) -> Fingerprint:
    """Offsets by topic and partition; a partition that came since begins with what it had (`from` null), of one that is gone
    nobody knows where it ended (`until` null)."""
    end = _offsets(folder, batch_id)
    start = _offsets(folder, batch_id - 1).source if batch_id > 0 else _first_offsets(folder)
    names = sorted({(topic, int(part)) for offsets in (start, end.source) for topic, parts in offsets.items() for part in parts})
    spans = [
        {"partition": f"{KAFKA}{topic}/{part}", **{
            name: offsets.get(topic, {}).get(str(part)) for name, offsets in (("from", start), ("until", end.source))}}
        for topic, part in names
    ]  # fmt: skip
    sources = [json.dumps(span) for span in spans]
    return Fingerprint(_hash(sources), sources, end.batch_time_us, [str(span["partition"]) for span in spans])


def _first_offsets(folder: Folder) -> Any:
    """Where the first batch of a source of Kafka begins; Spark writes a zero byte before it."""
    name = "sources/0/0"
    if not folder.has(name):
        raise _damaged(folder, name, "is missing")
    try:
        return json.loads(folder.read(name).lstrip("\0").partition("\n")[2])
    except (ValueError, UnicodeDecodeError) as error:
        raise _damaged(folder, name, "is not what Spark writes") from error


def _seen(file: PlannedFile, batch_id: int) -> str:
    """JSON text of a planned file that is there, unchanged."""
    path = plain(file.uri)
    found = Stat.of(file.uri)
    if found is None:
        raise _changed(file, batch_id, f"The source file {path} is gone", None)
    if found.modified_ms != file.modified_ms:
        raise _changed(file, batch_id, f"The source file {path} was written again", found)
    return json.dumps({"path": path, "size": found.size, "modified_ms": found.modified_ms}, ensure_ascii=False)


def _changed(file: PlannedFile, batch_id: int, what: str, found: Stat | None) -> SourceChanged:
    remedy = (
        "Put it back as it was (same bytes, same modification time), then start again. If it cannot be had back, pass "
        f"what is left of the batch by with `freshet train --skip-batch {batch_id} --reason ...` after putting any "
        "file in its place with that time."
    )
    planned = {"modified_ms": file.modified_ms}
    seen = None if found is None else {"modified_ms": found.modified_ms, "size": found.size}
    what = f"{what} since batch {batch_id} was planned: planned {planned}, found {seen or 'nothing'}."
    return SourceChanged(what, remedy=remedy, path=plain(file.uri), planned=planned, found=seen, batch_id=batch_id)


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:32]


def _identity(folder: Folder) -> str:
    try:
        return str(json.loads(folder.read("metadata"))["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, "metadata", "is not what Spark writes") from error


def _offsets(folder: Folder, batch_id: int) -> _Offsets:
    name = f"offsets/{batch_id}"
    lines = _lines(folder, name)
    if len(lines) < 3:
        raise _damaged(folder, name, "is cut off")
    try:
        return _Offsets(int(json.loads(lines[1])["batchTimestampMs"]) * MILLISECOND_US, json.loads(lines[2]))
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, name, "is not what Spark writes") from error


def _log_offset(folder: Folder, batch_id: int) -> int:
    source = _offsets(folder, batch_id).source
    if not isinstance(source, dict) or not isinstance(source.get("logOffset"), int):
        raise _damaged(folder, f"offsets/{batch_id}", "does not belong to a source of files")
    return int(source["logOffset"])


def _listed(folder: Folder, step: int) -> list[PlannedFile]:
    """The files of one step of the source's list, from its own file or from the next compact one."""
    names = folder.names("sources/0")
    if str(step) in names:
        name = str(step)
    else:
        compact = [int(stem) for stem, dot, end in (name.partition(".") for name in names) if dot and end == "compact"]
        later = [number for number in compact if number >= step]
        if not later:
            raise _damaged(folder, f"sources/0/{step}", "is missing")
        name = f"{min(later)}.compact"
    where = f"sources/0/{name}"
    try:
        entries = [json.loads(line) for line in _lines(folder, where)[1:]]
        return [PlannedFile(entry["path"], int(entry["timestamp"])) for entry in entries if entry["batchId"] == step]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, where, "is not what Spark writes") from error


def _lines(folder: Folder, name: str) -> list[str]:
    """Lines of a log file, its version checked."""
    if not folder.has(name):
        raise _damaged(folder, name, "is missing")
    try:
        lines = folder.read(name).splitlines()
    except UnicodeDecodeError as error:
        raise _damaged(folder, name, "is not text") from error
    if not lines:
        raise _damaged(folder, name, "is empty")
    if lines[0] != LOG_VERSION:
        fault = f"begins with {lines[0][:20]!r} and not {LOG_VERSION!r}: another Spark's, or garbage"
        raise _damaged(folder, name, fault)
    return lines


def _damaged(folder: Folder, name: str, fault: str) -> CheckpointRefused:
    remedy = (
        "Restore the checkpoint from a copy; or move the whole folder away and start with --adopt-checkpoint: what is "
        "read again and is inside clean.dedup_window is counted as duplicate, what is older as late."
    )
    what = f"The file {name} of the checkpoint {folder.path} {fault}."
    return CheckpointRefused(what, remedy=remedy, reason="damaged", path=folder.path, file=name)


def _last(numbers: Sequence[int]) -> int | None:
    return numbers[-1] if numbers else None
