"""Whether files lie where a source says, as far as a name can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from freshet.pipelines.matching import _elsewhere
from freshet.pipelines.rolling import here
from freshet.settings import load

FILE = "/data/shop/events/a.json"


@pytest.mark.parametrize("path", [
    "/data/shop/events", "/data/shop/events/", "file:/data/shop/events", "file:///data/shop/events", "/data/shop/../shop/events", FILE,
    "/data/shop", "/data/2026-*/events", "s3a://bucket/{a,b}/events",
])  # fmt: skip
def test_the_same_place_in_another_spelling_is_no_other(path: str) -> None:
    assert _elsewhere([FILE], path) == ""


@pytest.mark.parametrize("path", ["/data/shop/event", "/data/other/events", "events", "s3a://data/shop/events"])
def test_another_place_is_told_with_a_file_that_is_not_there(path: str) -> None:
    assert _elsewhere([FILE], path) == FILE


def test_a_relative_path_is_of_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [str(tmp_path / "events" / "a.json")]
    assert _elsewhere(files, "events") == "" and _elsewhere(files, "../" + tmp_path.name + "/events") == ""
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    assert _elsewhere(files, "events") == files[0]
    assert _elsewhere(["s3a://bucket/events/a.json"], "s3a://bucket/events/") == ""


def test_topics_are_the_recorded_ones_where_none_are_given() -> None:
    kafka = ["source.format=kafka", "source.kafka.servers=[b:1]", "source.kafka.topics=[clicks]"]
    recorded, given = load([], {}, kafka)[0], load([], {}, ["store.root=there"])[0]
    gone_on = here(recorded, given)
    assert gone_on.source.kafka.topics == ("clicks",) and gone_on.store.root == "there"
    assert type(gone_on).from_json(gone_on.to_json()).source.format == "kafka"
    other = load([], {}, [*kafka[:2], "source.kafka.topics=[clicks, views]"])[0]
    assert here(recorded, other).source.kafka.topics == ("clicks", "views")
