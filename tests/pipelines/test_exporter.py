"""What Prometheus is told, and what programs read line by line."""

from __future__ import annotations

import io
import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from sites import Site

from freshet.demo.broker import free_ports
from freshet.errors import FreshetError
from freshet.pipelines.exporter import Exporter, exported
from freshet.report import BatchReport, Metric
from freshet.settings import StreamSettings
from freshet.store.snapshots import History, Snapshot
from freshet.terminal import ProgressLines

ALERTS = Path(__file__).parents[2] / "docs" / "workflows" / "alerts.yaml"


def report(version: int = 3, **more: object) -> BatchReport:
    metrics = (Metric("ndcg@10", "served", "blend", "all", 5.0, 10), Metric("ndcg@10", "served", "blend", "new_user", 1.0, 4))
    known = {"stage_seconds": {"learn": 0.25}, "metrics": metrics, "behind": {"kafka://clicks/0": 7}, "rows": {"item": 40}}
    return BatchReport(version, "learn", 2, 100, 90, 5, 3, 2, 1.5, 0.75, 30, 40, **{**known, "decided": {"publish": 2}, **more})


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_counters_add_up_and_gauges_stand() -> None:
    [port] = free_ports(1)
    heard: list[BatchReport] = []
    with exported(StreamSettings(prometheus_port=port), heard.append) as listener:
        assert listener is not None
        listener(report())
        listener(report(4, decided={"publish": 3, "roll back": 1}, behind={"kafka://clicks/0": 0}))
        found = scraped(port)
    assert [one.version for one in heard] == [3, 4]
    assert found['freshet_events_total{outcome="accepted"}'] == 180 and found['freshet_events_total{outcome="late"}'] == 4
    assert (found['freshet_decisions_total{kind="publish"}'], found['freshet_decisions_total{kind="roll back"}']) == (3, 1)
    assert found["freshet_version"] == 4 and found['freshet_rows{block="item"}'] == 40
    assert found['freshet_behind_messages{partition="kafka://clicks/0"}'] == 0
    assert found['freshet_stage_seconds_total{stage="learn"}'] == 0.5 and found["freshet_batch_seconds_count"] == 2
    assert found['freshet_metric{learner="blend",metric="ndcg@10",scoring="served"}'] == 0.5
    assert "process_resident_memory_bytes" in found
    with pytest.raises(urllib.error.URLError):
        scraped(port)  # it ended with the learner


def test_one_that_is_started_again_and_again_looks_as_its_model_stands() -> None:
    exporter = Exporter(None)
    assert exporter.registry.get_sample_value("freshet_last_commit_timestamp_seconds") > time.time() - 60  # a new model
    rows = [Snapshot(0, "a", kind="start"), Snapshot(1, "b", committed_at=5_000_000), Snapshot(2, "c", kind="refused", committed_at=9_000_000),
            Snapshot(3, "d", kind="start", committed_at=70_000_000)]
    exporter.stands(History(rows), {"item": 7})
    found = {name: exporter.registry.get_sample_value(f"freshet_{name}") for name in ("version", "last_commit_timestamp_seconds", "refusing")}
    assert found == {"version": 3, "last_commit_timestamp_seconds": 9.0, "refusing": 1}
    assert exporter.registry.get_sample_value("freshet_rows", {"block": "item"}) == 7
    exporter(report())
    assert exporter.registry.get_sample_value("freshet_refusing") == 0


def test_without_a_port_nothing_is_served_and_a_taken_one_is_refused() -> None:
    heard: list[BatchReport] = []
    with exported(StreamSettings(), heard.append) as listener:
        assert listener == heard.append
    [port] = free_ports(1)
    with (
        exported(StreamSettings(prometheus_port=port), None), pytest.raises(FreshetError, match="cannot be served"),
        exported(StreamSettings(prometheus_port=port), None),
    ):  # fmt: skip
        pass


def test_every_alert_asks_for_what_is_exported() -> None:
    exporter = Exporter(None)
    exporter(report())
    known = {name for family in exporter.registry.collect() for sample in family.samples for name in [sample.name]}
    rules = [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"freshet_\w+", rule["expr"])}
    assert len(rules) >= 5 and asked and asked <= known


def test_lines_for_programs_are_json_whatever_is_in_them() -> None:
    out = io.StringIO()
    lines = ProgressLines(out)
    lines.say("\nwaiting for events")
    lines(report())
    lines(BatchReport(1, "learn", 0, 0, 0, 0, 0, 0, 0.1, float("nan"), 0, 0))
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["event"] for one in said] == ["message", "batch", "batch"] and said[0]["text"] == "waiting for events"
    assert said[1]["metrics"] == [
        {"metric": "ndcg@10", "scoring": "served", "learner": "blend", "slice": "all", "total": 5.0, "events": 10}]
    assert said[1]["accepted"] == 90 and said[1]["behind"] == {"kafka://clicks/0": 7} and said[2]["lag_seconds"] is None


@pytest.mark.spark
def test_a_learner_exports_what_it_commits(site: Site) -> None:
    site.write(400, 200)
    [port] = free_ports(1)
    seen: list[dict[str, float]] = []
    assert site.train(f"stream.prometheus_port={port}", "gate.publish=manual")
    from freshet.pipelines.online import train

    site.write(800, 200, resume=True)
    train(site.spark, site.settings(f"stream.prometheus_port={port}", "gate.publish=manual"), available_now=True,
          listener=lambda _: seen.append(scraped(port)))
    last = site.snapshots()[-1]
    assert seen[-1]["freshet_version"] == last.version and seen[-1]['freshet_events_total{outcome="accepted"}'] == 400
    assert seen[-1]['freshet_rows{block="popularity"}'] == last.row_counts["popularity"]
    named = {row["natural_id"] for row in site.sql("select natural_id from ids where block in ('user', 'item')")}
    labels = {label for name in seen[-1] for label in re.findall(r'"(.*?)"', name)}
    assert len(named) > 50 and labels and not named & labels
