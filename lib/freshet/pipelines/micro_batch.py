"""One micro-batch from cleaned records to the rows of its commit: what the stream and a replay have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from freshet.engine.batch import CleanBatch, as_text
from freshet.engine.features import Features, feature_keys, feature_texts
from freshet.errors import BatchRefused
from freshet.head import Head
from freshet.intake import CAPS, KEYS, Admitted, admit, remember
from freshet.labels import ANSWER, IMPRESSION, ORDINARY, Settled, settle
from freshet.learner import Learned, Learner, Run
from freshet.models.contract import FEATURE, Events
from freshet.pipelines.assembly import dedup_window, label_wait
from freshet.pipelines.rows import to_arrow
from freshet.pipelines.stopwatch import Stopwatch
from freshet.revisions import NEW
from freshet.schema import EVENTS, IDS, PARAMETERS, QUARANTINE, QUARANTINED
from freshet.settings import Settings

_COMMIT = {"branch", "snapshot_version", "commit_id"}
EVENT_COLUMNS = [name for name in EVENTS.names if name not in _COMMIT and name != "corrects"]
REFUSED_WITH = "batch_refused"
NUMBERS = (
    "user_key", "item_key", "user_check", "item_check", "event_hash", "dedup_key", "event_at", "arrived_at", "value",
    "weight", "propensity", "revision",
)


@dataclass(frozen=True)
class Prepared:
    """A micro-batch that was learned and not yet committed."""

    columns: dict[str, np.ndarray]
    admitted: Admitted
    settled: Settled
    learned: Learned
    parts: dict[str, pa.Table]
    reasons: dict[str, int]


def numbers_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The numeric columns of cleaned records as numpy, times in microseconds."""
    return {name: _numpy(table.column(name)) for name in NUMBERS}


def columns_of(table: pa.Table, features: Features) -> dict[str, np.ndarray]:
    """`numbers_of`, and the keys of the features of their context; of rows of the events table also which are corrections."""
    found = numbers_of(table) | {"features": feature_keys(table.column("context"), features)}
    if "corrects" in table.column_names:
        found["corrects"] = table.column("corrects").is_valid().to_numpy()
    return found


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
    return np.asarray(column.to_numpy())


def prepare(
    head: Head, learner: Learner, clean: CleanBatch, settings: Settings, run: Run, watch: Stopwatch
) -> Prepared:
    """Admit, learn and lay out the rows of the commit; the head stays as it is.

    Raises BatchRefused (reason `refused share`, `not finite` or `capped`) with what must be told in `counts`.
    """
    with watch("admit"):
        columns = columns_of(clean.accepted, settings.model.features)
        admitted = admit(head, columns, dedup_window(settings), clean.quarantined.num_rows)
        reasons = reasons_of(clean, admitted)
    _check_share(admitted, settings)
    settled = settle_labels(head, settings, admitted.events, clean.accepted, admitted.accepted, admitted.clock)
    learned = learner.learn(head, settled.events, run, watch)
    with watch("layout"):
        parts = {
            EVENTS.name: events_table(clean, admitted),
            QUARANTINE.name: quarantine(clean, admitted),
            IDS.name: new_ids(clean.accepted, columns, admitted, settings.model.features),
            PARAMETERS.name: to_arrow(head.blocks, {name: rows for name, (rows, _) in learned.changes.items()}),
        }
    return Prepared(columns, admitted, settled, learned, parts, reasons)


def take(head: Head, prepared: Prepared, settings: Settings) -> None:
    """After the commit: the head takes all of it."""
    head.apply(prepared.learned.changes, prepared.learned.digest)
    remember(head, prepared.columns, prepared.admitted, dedup_window(settings))
    head.waiting = prepared.settled.waiting


def settle_labels(
    head: Head, settings: Settings, events: Events, table: pa.Table, kept: np.ndarray | None, clock: int
) -> Settled:
    """What is learned of accepted events, rows `kept` (None: all) of a table; impressions may wait. `clock`: after them."""
    wait = label_wait(settings)
    if wait is None:
        return Settled(events)
    kinds = kinds_of(table, settings)
    return settle(head.waiting, events, kinds if kept is None else kinds[kept], wait, head.clock, clock)


def kinds_of(table: pa.Table, settings: Settings) -> np.ndarray:
    """int8[n]: what the types of events make of them (see freshet.labels)."""
    types, found = table.column("event_type").cast(pa.string()), np.full(table.num_rows, ORDINARY, np.int8)
    for kind, names in ((IMPRESSION, settings.labels.impressions), (ANSWER, settings.labels.answers)):
        found[pc.is_in(types, value_set=pa.array(names, pa.string())).to_numpy()] = kind
    return found


def events_table(clean: CleanBatch, admitted: Admitted) -> pa.Table:
    """The accepted records as rows of the events table."""
    corrects = pa.array(admitted.corrects, mask=admitted.corrects == NEW)
    return clean.accepted.filter(admitted.accepted).select(EVENT_COLUMNS).append_column("corrects", corrects)


def reasons_of(clean: CleanBatch, admitted: Admitted) -> dict[str, int]:
    """Refused events by reason, those refused by cleaning and those told apart on the driver."""
    counted = clean.quarantined.column("reason").value_counts().to_pylist()
    found = {entry["values"]: entry["counts"] for entry in counted}
    found |= {reason: int(mask.sum()) for reason, mask in admitted.refused.items() if mask.any()}
    return {reason: found[reason] for reason in sorted(found)}


def _check_share(admitted: Admitted, settings: Settings) -> None:
    """A source that went bad must not pass as a quiet day."""
    # What is beyond a cap says nothing of the source: one account could end the stream with it.
    capped = sum(int(admitted.refused[reason].sum()) for reason in CAPS)
    refused, read = admitted.counts[QUARANTINED] - capped, admitted.counts["read"] - capped
    if refused >= settings.clean.min_refused_events and refused > settings.clean.max_refused_share * read:
        raise BatchRefused(
            f"{refused} of {read} events were refused, more than clean.max_refused_share = {settings.clean.max_refused_share:g}.",
            remedy="Look at the reasons in the quarantine table; mend the source or the mapping and start again.",
            reason="refused share", counts=admitted.counts,
        )


def quarantine(clean: CleanBatch, admitted: Admitted, everything: bool = False) -> pa.Table:
    """Rows of the quarantine table: refused by a rule, late, or colliding; with `everything` also what would have been
    accepted, under the reason `batch_refused`."""
    tables = [clean.quarantined]
    refused = {reason: mask for reason, mask in admitted.refused.items() if reason != "duplicate"}
    if everything:
        refused[REFUSED_WITH] = admitted.accepted
    for reason, mask in refused.items():
        if mask.any():
            tables.append(as_quarantine(clean.accepted.filter(mask), reason))
    return pa.concat_tables(tables)


def as_quarantine(events: pa.Table, reason: str) -> pa.Table:
    """Accepted events as rows of the quarantine table, under that reason."""
    columns = {
        "reason": pa.repeat(reason, events.num_rows), "raw": as_text(events),
        **{name: events.column(name) for name in ("source", "position", "arrived_at")},
    }
    return pa.table(columns)


def new_ids(
    events: pa.Table, numbers: Mapping[str, np.ndarray], admitted: Admitted, features: Features
) -> pa.Table:
    """Rows of the ids table for keys seen for the first time."""
    names, tables = ["block", "key", "natural_id"], []
    for space, at in admitted.new_ids.items():
        taken = events.take(pa.array(at))
        columns = [pa.repeat(space, len(at)), taken.column(KEYS[space][0]), taken.column(f"{space}_id").cast(pa.string())]
        tables.append(pa.Table.from_arrays(columns, names=names))
    shown = admitted.new_features
    texts = feature_texts(events.column("context"), features, *shown)
    keys = pa.array(numbers["features"][shown])
    tables.append(pa.Table.from_arrays([pa.repeat(FEATURE, len(texts)), keys, texts], names=names))
    return pa.concat_tables(tables)
