"""The tables of a model: the one place where a table or a column gets its name, type and meaning.

Types are Spark SQL DDL. `docs/tables.md` is generated from this file. Times are UTC with microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

MAIN = "main"  # the branch a model starts on

# Names of the blocks every model has beside its own.
POPULARITY = "popularity"
HISTORY = "history"
HISTORY_ARCHIVE = "history_archive"
WINDOW = "window"
MIX = "mix"
INTEREST = "interest"
LAST_CONTEXT = "last_context"
SEGMENT = "segment"
ITEM_ATTRIBUTES = "item_attributes"

CHECK_SEED = 7  # goes before an id where it is hashed a second time: two ids of one key differ in that

# What became of an event that was read: the four add up to `read` (promise 4).
ACCEPTED, QUARANTINED, DUPLICATE, LATE = "accepted", "quarantined", "duplicate", "late"
CORRECTED = "corrected"  # those of the accepted that correct an event accepted before

# What a place of a list rests on, the words of `recommendations.reason`: the first of these that is true of it.
REASONS = {
    "exploration": "chance gave it the place (`lists.exploration`), where another item was the best",
    "neighbours": "it follows the user's newest items, or goes before them, in the counts",
    "session": "the vectors of the user's newest items ask for its own",
    "user": "the vector of the user's own row asks for its own",
    "features": "vectors too, but of the context he asks in, or of the item's attributes: he, or it, has no events yet",
    "segment": "how popular it is where the user asks from (`popularity.segment`): the model knows no more of him",
    "popularity": "how popular it is: the model knows no more of the user, or of the item",
}


@dataclass(frozen=True)
class Column:
    """One column: its name, Spark SQL type and the comment that stands in the table."""

    name: str
    type: str
    comment: str
    required: bool = False


@dataclass(frozen=True)
class Table:
    """One Delta table: its name, what one row is, its columns."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


_COMMIT = (
    Column("branch", "string", "branch the row was written on", True),
    Column("snapshot_version", "bigint", "version of the snapshot the row belongs to", True),
    Column("commit_id", "string", "attempt that wrote it; the row exists only if a live snapshot row names it", True),
)

EVENTS = Table("events", "an accepted event", (
    Column("event_id", "string", "natural id of the event, or a hash of its content where the source has none", True),
    Column("revision", "bigint", "0, or higher when the event corrects an earlier one of the same id", True),
    Column("user_id", "string", "natural id of the user, byte for byte as read", True),
    Column("item_id", "string", "natural id of the item, byte for byte as read", True),
    Column("event_type", "string", "what the user did, one of the types known to the settings"),
    Column("value", "double", "what a value model learns: a rating, a quantity, the value of the type", True),
    Column("weight", "double", "importance of the event to the learner, 1 by default", True),
    Column("propensity", "double", "probability with which the item was shown, where logged"),
    Column("event_at", "timestamp", "when the user did it", True),
    Column("arrived_at", "timestamp", "when it reached the source: file time, Kafka's time or the logged batch time", True),
    Column("context", "map<string,string>", "further columns of the event, named by the settings"),
    Column("source", "string", "file or table it was read from"),
    Column("position", "bigint", "ordinal of the record in its file, from 0"),
    *_COMMIT,
    Column("corrects", "bigint", "revision of the same event, accepted before, that it corrects; null where it is the first"),
))

QUARANTINE = Table("quarantine", "an event that was read and not learned", (
    Column("reason", "string", "name of the rule that refused it; `late` when older than the dedup window", True),
    Column("raw", "string", "the record as read, cut to the settings' length"),
    Column("source", "string", "file or table it was read from"),
    Column("position", "bigint", "ordinal of the record in its file, from 0"),
    Column("arrived_at", "timestamp", "when it reached the source"),
    *_COMMIT,
))

IDS = Table("ids", "the natural id behind a key, at first sight", (
    Column("block", "string", "id space: user, item, feature or attribute", True),
    Column("key", "bigint", "xxhash64 (seed 42) of the natural id", True),
    Column("natural_id", "string", "the id as the source has it; of a feature or an attribute column=value", True),
    *_COMMIT,
))

_ROW = (
    Column("block", "string", "named table of parameters the row belongs to", True),
    Column("key", "bigint", "id of the row in its block", True),
    Column("vector", "array<float>", "what was learned"),
    Column("slots", "array<float>", "state of the optimizer"),
    Column("links", "array<bigint>", "keys of other rows: a user's recent items, an item's neighbours"),
    Column("count", "bigint", "number of events that changed the row", True),
    Column("last_event_at", "timestamp", "event time of the last of them"),
    Column("deleted", "string", "null, or why the row is no longer part of the state"),
)

PARAMETERS = Table("parameters", "a row as one snapshot changed it", (*_ROW, *_COMMIT))

PARAMETERS_BASE = Table("parameters_base", "a row of the whole state at one version, compacted", (
    *_ROW,
    Column("branch", "string", "branch the row was last changed on", True),
    Column("snapshot_version", "bigint", "version that last changed the row", True),
    Column("base_id", "string", "compaction that wrote it; it exists only if a live snapshot row of kind base names it", True),
))

METRIC = "struct<metric:string,scoring:string,learner:string,slice:string,total:double,events:bigint>"

SNAPSHOTS = Table("snapshots", "a version of the model; appending it is the commit", (
    Column("version", "bigint", "number of the snapshot, unique in the model", True),
    Column("branch", "string", "branch it stands on", True),
    Column("parent", "bigint", "version it was made from; null for the first"),
    Column("path", "array<struct<branch:string,upto:bigint>>",
           "branches the state stands on, each up to a version, own branch last", True),
    Column("kind", "string",
           "start, learn, relearn, items, refused, base, publish, rebase, rollback, retrain, challenge, promote, skip, maintain",
           True),
    Column("epoch", "bigint", "grows with every start of a learner; a lower one after a higher one is void", True),
    Column("run", "string", "id of the process run that made it", True),
    Column("checkpoint_id", "string", "id of the streaming checkpoint, or what was filled back; null where no events were read"),
    Column("batch_id", "bigint", "number of the micro-batch in that checkpoint"),
    Column("fingerprint", "string", "hash of what was read: files with sizes and times, or offsets"),
    Column("sources", "array<string>", "what was read, in words: one JSON text per file or offset range"),
    Column("published", "bigint", "version that lists are made from as of this row; null: this one"),
    Column("event_clock", "timestamp", "largest accepted event_at so far, capped by arrival"),
    Column("read_count", "bigint", "events read", True),
    Column("accepted_count", "bigint", "events accepted", True),
    Column("quarantined_count", "bigint", "events refused by a rule", True),
    Column("duplicate_count", "bigint", "events seen before", True),
    Column("late_count", "bigint", "events older than the dedup window", True),
    Column("reasons", "map<string,bigint>", "refused events by reason"),
    Column("row_counts", "map<string,bigint>", "rows of each block in the state"),
    Column("appended_rows", "map<string,bigint>", "rows this commit appended to each table"),
    Column("appended_bytes", "map<string,bigint>", "bytes of the files those rows became"),
    Column("stage_seconds", "map<string,double>", "seconds each stage took"),
    Column("metrics", f"array<{METRIC}>",
           "sums of each metric over the events of this micro-batch; of `auc` over its pairs of a positive and a negative "
           "event, of `calibration` over its positive events (expected positives over those there were); of a candidate over its "
           "validation and its test events"),
    Column("settings", "string", "the full settings as JSON"),
    Column("code_version", "string", "version of the code that made it", True),
    Column("digest", "string", "digest of the whole state, 16 hexadecimal digits", True),
    Column("base_id", "string", "compaction this row of kind base declares whole"),
    Column("base_version", "bigint", "version whose state that compaction holds"),
    Column("reason", "string", "why, for kinds that have a reason"),
    Column("committed_at", "timestamp", "wall clock of the commit, for people; nothing computes with it", True),
    Column("commit_id", "string", "id of the attempt, new for every attempt", True),
    Column("corrected_count", "bigint", "those of the accepted events that correct an earlier one; null: none"),
    Column("impressions", "map<string,bigint>",
           "where impressions wait (`labels.wait`): how many were accepted (`impressions`), `matured` and `expired` in this "
           "micro-batch, and how many are `pending` after it"),
    Column("limited", "map<string,bigint>",
           "what the limits touched beside the events they refused: `burst_items` and `burst_events`, `warming_events`, "
           "`clipped_users`, and `runs_away` where most went too far and nobody was held"),
    Column("movers", "array<struct<space:string,key:bigint,change:double,events:bigint>>",
           "the users whose events moved what users share most, by the lengths of their steps together, and the items that were "
           "moved most, by how far; each with its events in this micro-batch"),
))

DECISIONS = Table("decisions", "a recorded choice with its reason", (
    Column("decision_id", "string", "id of the decision", True),
    Column("kind", "string",
           "publish, hold, roll back, promote, alarm, adapt, recovered, retrain, skip, refuse, maintain, backfill, data loss",
           True),
    Column("version", "bigint", "version it is about"),
    Column("from_version", "bigint", "version that stood before"),
    Column("reason", "string", "why", True),
    Column("evidence", "string", "numbers it rests on, as JSON"),
    Column("actor", "string", "who or what chose", True),
    Column("decided_at", "timestamp", "when", True),
    *_COMMIT,
))

REQUESTS = Table("requests", "what a person or another process asks of the learner", (
    Column("request_id", "string", "id of the request", True),
    Column("kind", "string", "publish, rollback, promote, retrain, maintain", True),
    Column("arguments", "string", "arguments as JSON"),
    Column("reason", "string", "why"),
    Column("actor", "string", "who asks", True),
    Column("requested_at", "timestamp", "when", True),
))

RECOMMENDATIONS = Table("recommendations", "one place of a list", (
    Column("list_id", "string", "id of the list: one user, one run", True),
    Column("user_id", "string", "natural id of the user", True),
    Column("rank", "int", "place in the list, from 1", True),
    Column("item_id", "string", "natural id of the item", True),
    Column("score", "double", "what the item was ranked by", True),
    Column("reason", "string", f"what the place rests on: {', '.join(REASONS)}", True),
    Column("propensity", "double", "probability of the item at its place, given those above it; 1 without exploration"),
    Column("snapshot_version", "bigint", "version of the model that made it", True),
    Column("made_at", "timestamp", "when", True),
))

ITEMS = Table("items", "side information of an item, written by the user of the system", (
    Column("item_id", "string", "natural id of the item", True),
    Column("title", "string", "what a person reads"),
    Column("category", "string", "group the item belongs to"),
    Column("attributes", "map<string,string>", "further attributes"),
))

EVALUATIONS = Table("evaluations", "a figure of an evaluation that was kept (`freshet evaluate --save`)", (
    Column("evaluation_id", "string", "id of the evaluation", True),
    Column("version", "bigint", "version that was judged", True),
    Column("against", "bigint", "version it was held against on the same events"),
    Column("judged_by", "string", "event: each by itself; user: for each one list against all he took", True),
    Column("origin", "string", "which events, in words", True),
    Column("first_event_at", "timestamp", "the earliest event_at of them", True),
    Column("last_event_at", "timestamp", "the latest", True),
    Column("events", "bigint", "how many they are", True),
    Column("learned_events", "bigint", "how many of them had been learned before: of those it says what is remembered", True),
    Column("metric", "string", "what is measured", True),
    Column("slice", "string", "of which of the events or users: all, new_user, device=phone, ...", True),
    Column("learner", "string", "version N, popularity, or the difference of two", True),
    Column("value", "double", "the figure"),
    Column("low", "double", "lower end of the middle 95 % of samples of the same users; null where there is none"),
    Column("high", "double", "upper end"),
    Column("observations", "bigint", "events or users behind it; null for a figure of all lists together"),
    Column("users", "bigint", "users behind it"),
    Column("actor", "string", "who asked", True),
    Column("made_at", "timestamp", "when", True),
))

DISTANCES = Table("distances", "how far a row of a retrained candidate lies from the online model's of the same events", (
    Column("block", "string", "named table of parameters the row belongs to", True),
    Column("key", "bigint", "id of the row in its block", True),
    Column("distance", "double", "length of the difference of the two vectors", True),
    Column("relative", "double", "that over the longer of the two, from 0 to 2", True),
    Column("cosine", "double", "of the angle between them; null where one is zeros"),
    Column("first", "double", "the candidate's first coordinate less the online one's: the bias where the block has one", True),
    Column("online_count", "bigint", "number of events that changed the online row", True),
    Column("candidate_count", "bigint", "number of events that changed the candidate's", True),
    *_COMMIT,
))

# Tables that have got columns since there are models: an older one is given them when it is next written to.
GROWN = (EVENTS.name, SNAPSHOTS.name)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        EVENTS, QUARANTINE, IDS, PARAMETERS, PARAMETERS_BASE, SNAPSHOTS, DECISIONS, REQUESTS, RECOMMENDATIONS, EVALUATIONS, ITEMS,
        DISTANCES,
    )
}
