"""A real broker: every message becomes what it had to become, whatever happens to the learner, the broker or the topic."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from processes import start
from sites import WORLD, Site
from topics import Topic

from freshet.demo.broker import Broker
from freshet.demo.dirt import Dirt
from freshet.engine.brokers import behind, gone, missing
from freshet.engine.checkpoint import fingerprint
from freshet.errors import CheckpointRefused, SettingsError, SourceChanged, SourceRefused, StoreFailed
from freshet.pipelines.doctor import FAIL, of_storage
from freshet.pipelines.publishing import publish_version as publish
from freshet.pipelines.recommend import recommend_batch
from freshet.pipelines.status import status
from freshet.pipelines.totals import totals
from freshet.settings import load

pytestmark = pytest.mark.spark


@pytest.fixture
def topic(spark, broker: Broker, request: pytest.FixtureRequest) -> Topic:
    """A topic of two partitions, named after the test."""
    return Topic(spark, broker, request.node.name[:200]).create(2)


def lines(site: Site, events: int = 600, dirt: Dirt | None = None) -> list[bytes]:
    """Events of the generator as messages, in the order of its files."""
    site.write(events, 200, dirt)
    return [line for path in sorted(site.source.glob("*.json")) for line in path.read_bytes().splitlines()]


def reading(new_site, name: str, topic: Topic, *sets: str) -> Site:
    return new_site(name, topic.settings("source.kafka.max_events_per_trigger=250", *sets))


def test_every_message_is_learned_once_and_knows_where_it_stood(site, new_site, topic) -> None:
    said = lines(site)
    topic.write(said[:400], 0)
    topic.write(said[400:], 1)
    mine = reading(new_site, "mine", topic)
    reports = mine.train()
    assert sum(report.read for report in reports) == 600 and len(reports) == 3
    assert reports[-1].behind == {f"kafka://{topic.name}/0": 0, f"kafka://{topic.name}/1": 0} and sum(reports[0].behind.values()) > 0
    rows = mine.sql("select source, count(*) as n, min(position) as first, max(position) as last from events group by 1 order by 1")
    assert [tuple(row.values()) for row in rows] == [
        (f"kafka://{topic.name}/0", 400, 0, 399), (f"kafka://{topic.name}/1", 200, 0, 199)]
    sources = [json.loads(text) for row in mine.sql("select sources from snapshots where kind = 'learn' order by version")
               for text in row["sources"]]
    assert sorted((one["partition"][-1], one["until"]) for one in sources[-2:]) == [("0", 400), ("1", 200)]
    assert all(before["until"] == after["from"] for before, after in zip(sources[:-2], sources[2:], strict=True))
    assert status(mine.spark, mine.settings())["behind"] == {f"kafka://{topic.name}/0": 0, f"kafka://{topic.name}/1": 0}
    topic.write(said[:7], 1)
    assert status(mine.spark, mine.settings())["behind"][f"kafka://{topic.name}/1"] == 7
    assert mine.train()[0].duplicate == 7


def test_poison_goes_into_quarantine_and_nowhere_else(site, new_site, topic) -> None:
    said = lines(site, 200)
    poison = [None, b"", b"   ", b"{broken", b'{"user_id": "\xff\xfe"}', b"[1, 2]", b'{"a": "' + b"x" * (1 << 20) + b'"}']
    topic.write([*said[:100], *poison, *said[100:]])
    mine = reading(new_site, "mine", topic, "clean.max_refused_share=1")
    reports = mine.train()
    assert (sum(r.read for r in reports), sum(r.accepted for r in reports), sum(r.quarantined for r in reports)) == (207, 200, 7)
    rows = mine.sql("select position, reason, length(raw) as size from quarantine order by position")
    assert [row["position"] for row in rows] == list(range(100, 107))
    assert [row["reason"] for row in rows[:4]] == ["unreadable"] * 4 and all(row["reason"] for row in rows)
    assert max(row["size"] or 0 for row in rows) <= mine.settings().clean.max_raw_length


def test_messages_without_ids_get_one_of_their_place(new_site, topic) -> None:
    same = b'{"user_id": "u1", "item_id": "i1", "event_type": "click", "value": 1.0, "event_at": "2026-01-01T00:00:00Z"}'
    topic.write([same] * 5)
    mine = new_site("mine", topic.settings("source.kafka.max_events_per_trigger=2", "source.columns.event_id=null"))
    assert sum(report.accepted for report in mine.train()) == 5  # equal messages in different micro-batches too


def test_messages_that_end_as_lines_and_producers_whose_clock_is_ahead(new_site, topic) -> None:
    event = {"user_id": "u1", "item_id": "i1", "event_type": "click", "value": 1.0}
    fine, ahead = ({**event, "event_id": str(year), "event_at": f"{year}-01-01T00:00:00Z"} for year in (2026, 2090))
    topic.write([json.dumps(fine).encode() + b"\r\n"])
    topic.write([json.dumps(ahead).encode()], at="2090-01-01")
    mine = new_site("mine", topic.settings("clean.min_refused_events=10"))
    mine.train()
    assert [row["reason"] for row in mine.sql("select reason from quarantine")] == ["future"]
    [row] = mine.sql("select event_id, arrived_at from events")
    assert row["event_id"] == "2026" and mine.snapshots()[-1].event_clock < 2e15  # what is ahead moved no clock


def test_killed_and_started_again_it_is_the_model_of_the_run_never_killed(site, new_site, topic, monkeypatch) -> None:
    topic.write(lines(site, 600, Dirt.spread(0.2)))
    unhurt, hurt = (reading(new_site, name, topic) for name in ("unhurt", "hurt"))
    unhurt.train()
    hurt.train_until(monkeypatch, "before_spark_commit:raise:1")
    hurt.train_until(monkeypatch, "before_snapshot_row:raise:3")
    hurt.train()
    assert (hurt.digest(), totals(hurt.snapshots())) == (unhurt.digest(), totals(unhurt.snapshots()))
    fingerprints = [[row.fingerprint for row in one.snapshots() if row.kind == "learn"] for one in (hurt, unhurt)]
    assert fingerprints[0] == fingerprints[1]


@pytest.mark.slow
def test_kill_9_with_offsets_of_kafka_loses_and_doubles_nothing(site, new_site, topic, spark) -> None:
    topic.write(lines(site, 400))
    unhurt, hurt = (reading(new_site, name, topic) for name in ("unhurt", "hurt"))
    unhurt.train()
    jars = spark.conf.get("spark.jars")
    conf = (f"spark.conf.spark.jars={jars}",)
    process = start(hurt, "killed", "--available-now", failpoints="after_snapshot_row:kill9:2", sets=conf)
    assert process.code() == -signal.SIGKILL, process.text()
    assert 0 < sum(report.read for report in hurt.train()) < 400  # some were learned by the one that died
    assert (hurt.digest(), totals(hurt.snapshots())["read"]) == (unhurt.digest(), 400)


def test_a_broker_that_dies_in_mid_stream_is_waited_for(site, new_site, topic, broker) -> None:
    said = lines(site, 400)
    topic.write(said[:200])
    mine = reading(new_site, "mine", topic)
    mine.train()
    with mine.learning("stream.trigger=0.2"):
        broker.kill()
        broker.start()
        topic.write(said[200:])
        wait_until(lambda: totals(mine.snapshots())["read"] == 400)
    assert totals(mine.snapshots())["accepted"] == 400


def wait_until(there) -> None:
    import time

    until = time.monotonic() + 120
    while not there():
        assert time.monotonic() < until
        time.sleep(0.5)


def test_a_new_partition_is_read_from_its_first_message(site, new_site, topic) -> None:
    said = lines(site, 400)
    topic.write(said[:200])
    mine = reading(new_site, "mine", topic)
    mine.train()
    topic.more_partitions(3)
    topic.write(said[200:], 2)
    mine.train()
    assert totals(mine.snapshots())["accepted"] == 400
    [row] = mine.sql(f"select count(*) as n, min(position) as first from events where source = 'kafka://{topic.name}/2'")
    assert (row["n"], row["first"]) == (200, 0)


def test_what_retention_took_unread_stops_the_stream_unless_told_otherwise(site, new_site, topic) -> None:
    said = lines(site, 600)
    topic.write(said[:200])
    mine = reading(new_site, "mine", topic)
    mine.train()
    topic.write(said[200:])
    topic.forget(300)
    with pytest.raises(SourceChanged, match=r"gone from Kafka.*on_data_loss=continue"):
        mine.train()
    assert totals(mine.snapshots())["read"] == 200
    mine.train("source.kafka.on_data_loss=continue")
    assert totals(mine.snapshots())["accepted"] == 500
    [told] = mine.sql("select reason, evidence from decisions where kind = 'data loss'")
    assert json.loads(told["evidence"])["missing"] == 100 and "100 of the planned offsets" in told["reason"]
    assert json.loads(told["evidence"])["partitions"] == {f"kafka://{topic.name}/0": 100}


def test_what_is_missing_is_counted_by_partition() -> None:
    spans = [("kafka://a/0", 10, 30), ("kafka://a/1", None, 5), ("kafka://a/2", 100, 7), ("kafka://a/3", 0, 4)]
    sources = [json.dumps({"partition": name, "from": first, "until": until}) for name, first, until in spans]
    read = {"kafka://a/0": 15, "kafka://a/1": 3, "kafka://a/3": 4}
    assert missing(sources, read) == {"kafka://a/0": 5, "kafka://a/2": 7}  # a/2 was made anew
    assert gone(sources) == {} and behind({"kafka://a/1": 9}, sources) == {"kafka://a/1": 4}


def test_a_partition_that_is_gone_is_told_of_with_where_reading_it_ended(tmp_path: Path) -> None:
    for name, offsets in ((0, {"a": {"0": 7, "1": 5}, "b": {"0": 3}}), (1, {"a": {"0": 9, "2": 4}})):
        (tmp_path / "offsets").mkdir(exist_ok=True)
        text = f'v1\n{{"batchTimestampMs": 1000}}\n{json.dumps(offsets)}\n'
        (tmp_path / "offsets" / str(name)).write_text(text, encoding="utf-8")
    planned = fingerprint(str(tmp_path), 1, "kafka")
    assert gone(planned.sources) == {"kafka://a/1": 5, "kafka://b/0": 3}
    assert missing(planned.sources, {"kafka://a/0": 2}) == {}
    assert behind({"kafka://a/0": 9, "kafka://a/1": 8}, planned.sources) == {"kafka://a/0": 0, "kafka://a/1": 8}


def test_a_checkpoint_of_files_is_not_gone_on_with_from_kafka(site, topic) -> None:
    site.write(200, 200)
    site.train()
    with pytest.raises(CheckpointRefused, match=r"is of a source of files.*source\.format is kafka"):
        site.train(*topic.settings())
    with pytest.raises(CheckpointRefused, match=r"is of a source of files.*source\.format is delta"):
        site.train("source.format=delta", "source.path=" + str(site.folder / "model" / "events"))


def test_a_stream_begins_where_it_is_told_to(site, new_site, topic) -> None:
    topic.write(lines(site, 200))
    latest = new_site("latest", topic.settings("source.kafka.start=latest"))
    assert sum(report.read for report in latest.train()) == 0
    given = json.dumps({topic.name: {"0": 150, "1": 0}})
    some = new_site("some", topic.settings(f"source.kafka.start='{given}'"))
    assert sum(report.read for report in some.train()) == 50
    later = new_site("later", topic.settings("source.kafka.start=2100-01-01T00:00:00Z"))
    assert sum(report.read for report in later.train()) == 0


def test_from_here_passes_by_what_is_there(site, new_site, topic) -> None:
    said = lines(site, 400)
    topic.write(said[:200])
    mine = reading(new_site, "mine", topic)
    mine.train(from_here=True, reason="old")
    topic.write(said[200:])
    mine.train()
    assert totals(mine.snapshots())["accepted"] == 200


def test_a_broker_that_is_not_there_is_told_in_one_sentence(new_site, spark, broker) -> None:
    nobody = ["source.format=kafka", "source.kafka.servers=[localhost:1]", "source.kafka.topics=[clicks]",
              "source.kafka.options={kafka.default.api.timeout.ms: '3000', kafka.request.timeout.ms: '2000', "
              "fetchOffset.numRetries: '1'}"]  # fmt: skip
    with pytest.raises(SourceRefused, match=r"Kafka does not answer.*source\.kafka\.servers"):
        new_site("mine", nobody).train()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["source.kafka.topics=[clicks]"], "brokers in kafka.servers"),
        (["source.kafka.servers=[here]", "source.kafka.topics=[clicks]"], "host:port"),
        (["source.kafka.servers=['a:1']", "source.kafka.topics=['a b']"], "names of topics"),
        (["source.kafka.servers=['a:1']", "source.kafka.topics=[b]", "source.kafka.start=yesterday"], "earliest, latest, a time"),
        (["source.kafka.servers=['a:1']", "source.kafka.topics=[b]", "source.kafka.options={subscribe: c}"], "as kafka.NAME"),
        (["source.kafka.servers=['a:1']", "source.kafka.topics=[b]", "source.order=file", "source.columns.event_at=null"], "order"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: list[str], wanted: str) -> None:
    with pytest.raises(SettingsError, match=wanted):
        load([], dict(os.environ), ["source.format=kafka", *given])


def test_passwords_are_neither_shown_nor_recorded() -> None:
    jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=ann password=hunter2;"
    settings = load([], {}, ["source.format=kafka", "source.kafka.servers=['a:1']", "source.kafka.topics=[b]", (
        f"source.kafka.options={{kafka.sasl.jaas.config: '{jaas}', kafka.ssl.keystore.password: hunter2, "
        "kafka.security.protocol: SASL_SSL}")])[0]
    assert settings.source.kafka.options["kafka.sasl.jaas.config"] == jaas
    for text in (settings.to_json(), repr(settings), repr(settings.source.kafka)):
        assert "hunter2" not in text and "SASL_SSL" in text


@pytest.mark.parametrize("options", [
    'kafka.sasl.jaas.config=x password="hunter2"', '{kafka.sasl.jaas.config:x password="hunter2";}',
    "{kafka.ssl.key.password: a, hunter2}", "[kafka.sasl.jaas.config, hunter2]",
])  # fmt: skip
def test_a_slip_in_the_options_shows_no_password(options: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load([], {"FRESHET_SOURCE__KAFKA__OPTIONS": options, "FRESHET_SOURCE__KAFKA__SERVERS": "[ann:hunter2@b:1]"})
    assert "hunter2" not in str(caught.value) and "source.kafka.options" in str(caught.value)


assert WORLD.events >= 600  # what is written here


def messages(topic: Topic, name: str) -> list[tuple[str, dict]]:
    options = {"kafka.bootstrap.servers": topic.broker.address, "subscribe": name, "startingOffsets": "earliest"}
    rows = topic.spark.read.format("kafka").options(**options).load().orderBy("partition", "offset")
    told = rows.selectExpr("string(key) key", "string(value) value").collect()
    return [(row["key"], json.loads(row["value"])) for row in told if (row["value"] or "").startswith("{")]


def test_lists_and_decisions_are_sent_as_they_are_published(site, new_site, topic, broker) -> None:
    topic.write(lines(site, 200))
    parts = {"lists": 1, "decisions": 3}
    out = {what: Topic(topic.spark, broker, f"{what}-of-{topic.name}").create(count) for what, count in parts.items()}
    mine = reading(new_site, "mine", topic, f"sink.kafka.servers=[{broker.address}]", f"sink.kafka.decisions={out['decisions'].name}",
                   f"sink.kafka.recommendations={out['lists'].name}", "gate.publish=manual")
    mine.train()
    told = messages(topic, out["decisions"].name)
    wanted = mine.sql("select decision_id, kind, snapshot_version from decisions order by snapshot_version")
    assert [{name: value[name] for name in wanted[0]} for _, value in told] == wanted and wanted and told[0][0] == "main"
    version = mine.snapshots()[-1].version
    publish(mine.spark, mine.settings(), version=version, reason="seen", force=True)
    mine.train()  # it is a start that asks the topic what it knows
    told = messages(topic, out["decisions"].name)
    ids = [row["decision_id"] for row in mine.sql("select decision_id from decisions order by snapshot_version")]
    assert [value["decision_id"] for _, value in told] == ids and len(ids) > len(wanted)
    out["decisions"].write([b"no JSON", b"[1]", None])  # by somebody else: then all are sent again, and nobody stops
    mine.train()
    ended = messages(topic, out["decisions"].name)[len(told) :]
    assert {value["decision_id"] for _, value in ended if isinstance(value, dict)} >= set(ids)
    for _ in range(2):
        recommend_batch(mine.spark, mine.settings(), n=3)
    sent = messages(topic, out["lists"].name)
    first, second = sent[: len(sent) // 2], sent[len(sent) // 2 :]
    assert sorted(first, key=lambda one: one[0]) == sorted(second, key=lambda one: one[0]) and len(first) > 10
    user, value = first[0]
    assert value["user_id"] == user and value["snapshot_version"] == version and [one["rank"] for one in value["items"]] == [1, 2, 3]


def test_a_sink_without_a_broker_stops_nothing_and_is_told_of_once(site, new_site, topic) -> None:
    topic.write(lines(site, 400))
    quick = "{kafka.max.block.ms: '1000', kafka.default.api.timeout.ms: '1000', kafka.request.timeout.ms: '500'}"
    mine = reading(new_site, "mine", topic, "sink.kafka.servers=[localhost:1]", "sink.kafka.decisions=nowhere",
                   f"sink.kafka.options={quick}", "gate.publish=manual")
    said: list[str] = []
    mine.train(announce=said.append)
    assert totals(mine.snapshots())["accepted"] == 400
    assert len([text for text in said if "cannot be sent" in text]) == 1
    publish(mine.spark, mine.settings(), version=mine.snapshots()[-1].version, reason="seen", force=True)
    with pytest.raises(StoreFailed, match=r"in the table `recommendations`, and not all in the topic nobody"):
        recommend_batch(mine.spark, mine.settings("sink.kafka.recommendations=nobody"), n=3)
    assert mine.sql("select count(*) as n from recommendations")[0]["n"] > 0
    absent = mine.settings(f"sink.kafka.servers=[{topic.broker.address}]")
    [check] = [check for check in of_storage(mine.spark, absent) if check.name == "kafka sink"]
    assert check.state == FAIL and "there is no topic nowhere" in check.found
