"""The stream's callback: one micro-batch in, one snapshot row out; what is committed already is passed by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame

from freshet.engine.batch import CleanBatch, collect
from freshet.engine.brokers import gone, missing
from freshet.engine.checkpoint import Fingerprint
from freshet.errors import BatchRefused, CheckpointRefused
from freshet.failpoint import failpoint
from freshet.intake import admit
from freshet.kernels.digest import as_hex
from freshet.models.contract import ITEM, USER
from freshet.pipelines.assembly import dedup_window
from freshet.pipelines.challengers import Challengers
from freshet.pipelines.gating import NO_LOOK, Gate, Look
from freshet.pipelines.items import SideInformation
from freshet.pipelines.micro_batch import REFUSED_WITH, Prepared, columns_of, prepare, quarantine, reasons_of, take
from freshet.pipelines.outward import Told
from freshet.pipelines.planned import Attempted, Plan, Streamed
from freshet.pipelines.requesting import LOOK_EVERY
from freshet.pipelines.requests import Requests
from freshet.pipelines.rivals import Follower
from freshet.pipelines.rolling import roll_back
from freshet.pipelines.starting import Opened
from freshet.pipelines.stopwatch import Stopwatch
from freshet.pipelines.totals import limits_of, totals
from freshet.pipelines.watching import NO_SIGHT, Sight, Watch
from freshet.report import BatchReport, Listener, Metric
from freshet.schema import ACCEPTED, CORRECTED, DECISIONS, DUPLICATE, LATE, QUARANTINE, QUARANTINED
from freshet.store.decisions import GATE, STRATEGY, decision_row
from freshet.store.snapshots import LEARN, REFUSED, SKIP, Snapshot

NOTHING = CleanBatch(pa.table({}), pa.table({}), 0)
_COUNTS = ("read", ACCEPTED, QUARANTINED, DUPLICATE, LATE, CORRECTED)


def told(look: Look, sight: Sight, more: Sequence[pa.Table] = ()) -> dict[str, pa.Table]:
    """What gate and strategy have decided, and what else was, as the part of a commit."""
    rows = [*look.parts.values(), *sight.rows, *more]
    return {DECISIONS.name: pa.concat_tables(rows)} if rows else {}


class BatchCommitter:
    """Processes micro-batches of one checkpoint, or of another plan, on one opened model."""

    def __init__(
        self, opened: Opened, listener: Listener | None, say: Callable[[str], None] = lambda _: None, plan: Plan | None = None
    ) -> None:
        self._opened = opened
        self._plan = plan or Streamed(opened)
        self._listener = listener
        self._skipped: dict[int, str] = {}
        self._checkpoint_id: str | None = None
        self._say = say
        self._end_challengers: Callable[[], None] = lambda: None
        self._given_up: set[str] = set()  # challengers that could not learn: not begun again by this process
        self._moved()
        self._requests = Requests(opened, LOOK_EVERY, self._moved, say)
        self._told = Told(opened.spark, opened.settings.sink.kafka, opened.tables, say)
        self.so_far = totals(opened.history.live())
        self.in_this_run = dict.fromkeys(_COUNTS, 0)

    def _moved(self) -> None:
        """The head is another one than before, or new."""
        self._side = SideInformation(self._opened)
        self._side.take()  # before the first event: an item can be recommended from what is said of it
        self._watch = Watch(self._opened, self._say) if self._opened.settings.strategy.watches else None
        self._gate = Gate(self._opened) if self._opened.settings.gate.publish != "head" else None
        self._follower = Follower(self._opened, self._say)
        self._end_challengers()
        self._challengers = Challengers(self._opened, self._say, self._given_up)
        self._end_challengers = self._challengers.close

    def serve(self) -> None:
        """Do what other processes have asked for, between two micro-batches, and let a candidate catch up."""
        self._requests.serve()
        if self._follower.step():
            self._moved()
        self._told.send(self._opened.history)

    def finish(self) -> None:
        """After the last micro-batch of a stream that ends: let a candidate catch up with all of it, and be decided about."""
        if self._follower.step(most=None):
            self._moved()
        self._told.send(self._opened.history)

    def skip(self, batch_id: int, reason: str) -> None:
        """Pass by a batch that cannot be learned: it is committed as kind `skip`, with the reason and a decision row."""
        self._skipped[batch_id] = reason

    def process(self, frame: DataFrame, batch_id: int) -> None:
        """Learn and commit a micro-batch, unless a committed row shows that this very batch was."""
        failpoint("batch_start", batch_id)
        opened, watch = self._opened, Stopwatch()
        with watch("plan"):
            read = self._plan.planned(batch_id)
            done = self._done(batch_id, read)
        if done is not None and done.kind != REFUSED:
            return
        with watch("collect"):
            batch = collect(frame, read)
        attempt = Attempted(batch_id, read, batch, watch)
        if batch_id in self._skipped:
            self._pass_by(attempt, SKIP, self._skipped[batch_id], done)
            return
        try:
            prepared = prepare(opened.head, opened.learner, batch, opened.settings, opened.place, watch)
        except BatchRefused as refusal:
            self._refused(attempt, refusal, done)
        else:
            self._commit(attempt, prepared, done)
        self.serve()
        told = self._side.take()
        self._challengers.take(told)
        if told is not None and self._gate is not None:
            self._gate.told_of_items()
        failpoint("before_spark_commit", batch_id)

    def pass_unread(self, batch_id: int, reason: str) -> None:
        """Commit a micro-batch as kind `skip` without a look at its records: they will never be learned."""
        opened, read, watch = self._opened, self._plan.planned(batch_id), Stopwatch()
        done = self._done(batch_id, read)
        if done is not None and done.kind != REFUSED:
            return
        fields = self._fields(Attempted(batch_id, read, NOTHING, watch), dict.fromkeys(_COUNTS, 0), {}, opened.head.clock)
        fields |= {
            "kind": SKIP, "digest": opened.head.hex_digest, "row_counts": opened.head.row_counts, "reason": reason, "metrics": [],
        }  # fmt: skip
        opened.writer.commit(opened.writer.begin(), {}, fields)

    def _done(self, batch_id: int, read: Fingerprint) -> Snapshot | None:
        """The committed row of this batch; refused when the batch has the number of another one."""
        opened = self._opened
        if self._checkpoint_id is None:
            self._checkpoint_id = self._plan.id
        done = opened.history.of_batch(self._checkpoint_id, batch_id)
        if done is None or done.fingerprint == read.hash:
            return done
        if opened.adopted:
            return None
        raise CheckpointRefused(
            f"Batch {batch_id} of checkpoint {self._checkpoint_id} was committed as version {done.version} with other input.",
            remedy="The checkpoint was restored or edited. Restore the right one, or go on from here with --adopt-checkpoint.",
            reason="changed", batch_id=batch_id, version=done.version,
        )

    def _commit(self, attempt: Attempted, prepared: Prepared, done: Snapshot | None) -> None:
        opened, head, learned = self._opened, self._opened.head, prepared.learned
        rows = head.rows_after({name: rows for name, (rows, _) in learned.changes.items()})
        fields = self._fields(attempt, prepared.admitted.counts, prepared.reasons, prepared.admitted.clock)
        fields |= {"kind": LEARN, "digest": as_hex(learned.digest), "row_counts": rows, "impressions": prepared.settled.counts}
        fields |= {"limited": learned.limited, "movers": [vars(mover) for mover in learned.movers]}
        with attempt.watch("gate"):
            look = self._gate.look(prepared.settled.events) if self._gate else NO_LOOK
        noted = self._watch.noted(prepared) if self._watch else ()
        sight = self._watch.look(fields, (*learned.metrics, *noted), attempt.lag()) if self._watch else NO_SIGHT
        fields |= look.fields | {"metrics": [vars(metric) for metric in (*learned.metrics, *look.metrics, *noted)]}
        with attempt.watch("challengers"):
            beside, given_up = self._challengers.learn(prepared.settled.events, fields)
        parts = {**prepared.parts, **told(look, sight, [*given_up, *self._lost(attempt)])}
        snapshot = opened.writer.commit(opened.writer.begin(), parts, fields, beside)
        with attempt.watch("apply"):
            self._challengers.committed(prepared.admitted.clock)
            if self._gate is not None:
                self._gate.committed(look, learned.changes)
            take(head, prepared, opened.settings)
        self._report(attempt, snapshot, done, learned.metrics, note="; ".join(filter(None, (look.note, sight.note))))
        self._act(look, sight)

    def _lost(self, attempt: Attempted) -> list[pa.Table]:
        """The decision row that says how many planned messages of Kafka were not there any more."""
        source = self._opened.settings.source
        if source.format != "kafka" or source.kafka.on_data_loss == "stop":  # then Spark has seen to it that there is none
            return []
        sources = attempt.read.sources
        lost, left = missing(sources, attempt.by_source()), gone(sources)
        if not lost and not left:
            return []
        count = sum(lost.values())
        told = {f"{count:,} of the planned offsets of batch {attempt.batch_id} had no message": lost,
                f"{len(left):,} partitions are gone, and nobody read what they had by batch {attempt.batch_id}": left}  # fmt: skip
        reason = "; ".join(what for what, found in told.items() if found)
        self._say(reason)
        evidence = {"batch_id": attempt.batch_id, "missing": count, "partitions": lost, "gone": left}
        return [decision_row("data loss", None, reason, evidence)]

    def _act(self, look: Look, sight: Sight) -> None:
        """After the commit: what gate and strategy have decided."""
        opened = self._opened
        if self._watch is not None:
            self._watch.act(sight)
        if self._gate is not None and (look.rolls_back or sight.rolls_back):
            failpoint("before_rollback", self._gate.version)
            actor, why = (GATE, look.note) if look.rolls_back else (STRATEGY, sight.note)
            roll_back(opened, to=self._gate.version, actor=actor, reason=why)
            self._moved()

    def _refused(self, attempt: Attempted, refusal: BatchRefused, done: Snapshot | None) -> None:
        """Commit the refusal once; then stop the stream, or go on where the settings say so."""
        if done is None:
            self._pass_by(attempt, REFUSED, refusal.what)
        share = refusal.facts.get("reason") == "refused share"
        if not (share and self._opened.settings.clean.on_refused == "continue"):
            remedy = f"{refusal.remedy} To pass by this batch: {self._plan.pass_by(attempt.batch_id, share)}."
            raise BatchRefused(refusal.what, remedy=remedy, **{**refusal.facts, "batch_id": attempt.batch_id}) from refusal

    def _pass_by(self, attempt: Attempted, kind: str, reason: str, refused: Snapshot | None = None) -> None:
        """Commit a batch that is not learned: same digest; what could have been learned is in quarantine too, once,
        where it was `refused` before."""
        opened, head = self._opened, self._opened.head
        columns = columns_of(attempt.batch.accepted, opened.settings.model.features)
        admitted = admit(head, columns, dedup_window(opened.settings), attempt.batch.quarantined.num_rows)
        counts = dict(admitted.counts)
        counts[QUARANTINED] += counts[ACCEPTED]
        counts[ACCEPTED] = counts[CORRECTED] = 0
        reasons = {**reasons_of(attempt.batch, admitted), REFUSED_WITH: int(admitted.accepted.sum())}
        fields = self._fields(attempt, counts, reasons, head.clock)
        fields |= {"kind": kind, "digest": head.hex_digest, "row_counts": head.row_counts, "reason": reason, "metrics": []}
        parts = {} if refused else {QUARANTINE.name: quarantine(attempt.batch, admitted, everything=True)}
        more = [] if refused else self._lost(attempt)
        more += [decision_row("skip", None, reason, {"batch_id": attempt.batch_id})] if kind == SKIP else []
        sight = self._watch.look(fields, (), None) if self._watch and kind == REFUSED else NO_SIGHT
        snapshot = opened.writer.commit(opened.writer.begin(), parts | told(NO_LOOK, sight, more), fields)
        self._report(attempt, snapshot, refused, (), note=f"{kind}: {reason}")
        self._act(NO_LOOK, sight)

    def _fields(self, attempt: Attempted, counts: dict[str, int], reasons: dict[str, int], clock: int) -> dict[str, object]:
        return {
            "checkpoint_id": self._checkpoint_id, "batch_id": attempt.batch_id, "fingerprint": attempt.read.hash,
            "sources": attempt.read.sources, "event_clock": clock or None, "read_count": counts["read"],
            "accepted_count": counts[ACCEPTED], "quarantined_count": counts[QUARANTINED],
            "duplicate_count": counts[DUPLICATE], "late_count": counts[LATE], "corrected_count": counts[CORRECTED],
            "reasons": reasons, "stage_seconds": attempt.watch.seconds,
        }

    def _report(
        self, attempt: Attempted, snapshot: Snapshot, before: Snapshot | None, metrics: tuple[Metric, ...], note: str = ""
    ) -> None:
        """Count and tell; `before` is the row that told of the same micro-batch when it was refused."""
        for name in _COUNTS:
            count = getattr(snapshot, f"{name}_count")
            self.in_this_run[name] += count
            self.so_far[name] += count - (getattr(before, f"{name}_count") if before else 0)
        if self._listener is None:
            return
        head = self._opened.head
        self._listener(BatchReport(
            snapshot.version, snapshot.kind, attempt.batch_id, snapshot.read_count, snapshot.accepted_count,
            snapshot.quarantined_count, snapshot.duplicate_count, snapshot.late_count, attempt.watch.total(),
            attempt.lag(), len(head.ids[USER]), len(head.ids[ITEM]), metrics, dict(snapshot.stage_seconds or {}), note,
            dict(self.so_far), snapshot.corrected_count, self._plan.behind(attempt.read), dict(snapshot.row_counts),
            dict(self._opened.writer.decided), limits_of(snapshot),
        ))
