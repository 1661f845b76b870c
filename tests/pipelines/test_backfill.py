"""Old events learned by their times: as a stream that had them in order, whatever files they lie in, and nothing twice."""

from __future__ import annotations

import json
import os
import random
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from freshet.errors import FreshetError, SourceRefused
from freshet.failpoint import Injected
from freshet.pipelines.backfill import Spans, backfill
from freshet.pipelines.replay import replay
from freshet.pipelines.status import decided
from freshet.settings import load

SPAN = 120  # seconds of event time
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_spans_lie_side_by_side_and_the_last_ends_with_the_stretch() -> None:
    spans = Spans("events", 1000, 1250, 100)
    assert [spans.span(number) for number in range(3)] == [(1000, 1100), (1100, 1200), (1200, 1250)]
    other = Spans("events", 1000, 1250, 50)
    assert spans.id != other.id and spans.planned(0).hash != other.planned(0).hash == other.planned(0).hash
    assert spans.planned(2).batch_time_us == 1250


@pytest.mark.parametrize(("sets", "days"), [((), 0), ((), -1), (("source.order=file", "source.columns.event_at=null"), 1)])
def test_a_stretch_that_is_none_is_refused_before_anything_is_read(sets: tuple[str, ...], days: int) -> None:
    settings = load([], {}, ["source.path=events", *sets])[0]
    with pytest.raises((FreshetError, SourceRefused)):
        backfill(None, settings, since=EPOCH, until=EPOCH + timedelta(days=days))  # type: ignore[arg-type]


def deal(site, *others) -> list[datetime]:
    """The records of the site for others, at random in five files whose order in time is none; the times of the records.

    The site's own are put into one file for each span.
    """
    records = [json.loads(line) for file in sorted(site.source.glob("*.json")) for line in file.read_text().splitlines()]
    records.sort(key=lambda record: record["event_at"])  # the generator's are in order but for a few
    times = [datetime.fromisoformat(record["event_at"]) for record in records]
    for file in site.source.glob("*.json"):
        file.unlink()
    spans: dict[int, list[dict]] = {}
    for record, at in zip(records, times, strict=True):
        spans.setdefault(int((at - times[0]).total_seconds()) // SPAN, []).append(record)
    for number, mine in sorted(spans.items()):
        put(site.source / f"{number:03}.json", mine, number)
    random.Random(5).shuffle(records)
    for other in others:
        other.source.mkdir(parents=True)
        for number in range(5):
            put(other.source / f"{number}.json", records[number::5], 5 - number)
    return times


def put(path, records, minute: int) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    os.utime(path, (1_760_000_000 + 60 * minute,) * 2)


def fill(site, first: datetime, last: datetime, *sets: str) -> None:
    settings = site.settings(f"stream.backfill_span={SPAN} seconds", *sets)
    assert backfill(site.spark, settings, since=first, until=last) == 0


def kinds(site) -> list[str]:
    return [row.kind for row in site.snapshots() if row.kind not in ("start", "maintain")]


@pytest.mark.spark
def test_it_is_the_stream_in_order_also_after_a_kill_and_a_second_start(site, new_site, monkeypatch) -> None:
    site.write(600, 100)
    killed = new_site("killed")
    times = deal(site, killed)
    first, end = times[0], max(times) + timedelta(seconds=1)
    site.train()
    monkeypatch.setenv("FRESHET_FAILPOINTS", "before_snapshot_row:raise:5")  # start, decision, two micro-batches
    monkeypatch.setattr("freshet.failpoint._passed", {})
    with pytest.raises(Injected):
        fill(killed, first, end)
    assert kinds(killed) == ["learn"] * 2
    monkeypatch.delenv("FRESHET_FAILPOINTS")
    fill(killed, first, end)
    assert killed.digest() == site.digest()
    before = kinds(killed)
    fill(killed, first, end)
    assert kinds(killed) == before == kinds(site)
    assert [row["kind"] for row in decided(site.spark, killed.settings(), n=9)] == ["backfill"]
    assert replay(site.spark, killed.settings(), verify=True)["verified"]

    # Live on the same source: nothing is learned twice, and what comes is learned.
    assert sum(report.accepted for report in killed.train()) == 0
    assert killed.digest() == site.digest()
    put(killed.source / "new.json", [{
        "event_id": "new", "user_id": "u1", "item_id": "i1", "event_type": "click", "value": 1, "event_at": end.isoformat()}], 9)
    assert sum(report.accepted for report in killed.train()) == 1
    shutil.copytree(killed.source, killed.folder / "archive")  # what fills a gap need not be what the stream reads
    before = kinds(killed)
    fill(killed, first, end, f"source.path={killed.folder / 'archive'}")
    assert kinds(killed)[: len(before)] == before and not killed.train()
    places = killed.sql("select source, position from events where event_id != 'new'")
    assert len({(row["source"], row["position"]) for row in places}) == len(places) == 600


@pytest.mark.spark
def test_what_would_be_late_and_what_is_not_there_is_refused_by_name(site) -> None:
    site.write(200, 100)
    times = deal(site)
    first, middle, end = times[0], times[100], max(times) + timedelta(seconds=1)
    fill(site, middle, end, "clean.dedup_window=1 seconds")
    digest = site.digest()
    with pytest.raises(FreshetError, match="would be late"):
        fill(site, first, end, "clean.dedup_window=1 seconds")
    with pytest.raises(FreshetError, match="no events in that stretch"):
        fill(site, first - timedelta(days=9), first - timedelta(days=8))
    assert site.digest() == digest
