"""The files are whole, ordered and the same bytes every time; the manifest tells what is in them."""

from __future__ import annotations

import csv
import itertools
import json
import math
import threading
from collections import Counter
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from freshet.demo.dirt import LONG_ID_LENGTH, OUTCOMES, UNTYPED, Dirt
from freshet.demo.generator import events
from freshet.demo.truth import World
from freshet.demo.writer import Generator, Manifest, generate_all, write_items

WORLD = World(users=300, items=200, events=20_000, seed=3)
DIRTY = Dirt.spread(.3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def judge(folder: Path) -> Counter[str]:
    """What a strict reader of the files makes of each line, file after file: its own rules, none of the generator's."""
    found: Counter[str] = Counter()
    ids: set[str] = set()
    clock = ""
    for path in sorted(folder.iterdir()):
        for line in path.read_text().splitlines():
            kind = _judge(line, ids, clock)
            found[kind] += 1
            if kind == "accepted":
                event = json.loads(line)
                ids.add(event["event_id"])
                clock = max(clock, event["event_at"])
    return found


def _judge(line: str, ids: set[str], clock: str) -> str:
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return "malformed"
    value = event["value"]
    tests = {
        "text_value": isinstance(value, str),
        "nan_value": isinstance(value, float) and math.isnan(value),
        "infinite_value": isinstance(value, float) and math.isinf(value),
        "missing_user": "user_id" not in event,
        "empty_item": event["item_id"] == "",
        "far_future": event["event_at"] > "2090",
        "unknown_type": event["event_type"] not in ("click", "rating"),
        "long_id": len(event.get("user_id", "")) == LONG_ID_LENGTH,
        "bad_revision": event["revision"] < 0,
        "late": event["event_at"] < "2025" <= clock,
        "duplicate": event["event_id"] in ids,
    }
    return next((kind for kind, is_so in tests.items() if is_so), "accepted")


def assert_as_told(manifest: Manifest, found: Counter[str]) -> None:
    told = Counter(manifest.kinds)
    told["duplicate"] += told.pop("duplicate_later", 0)
    told["accepted"] = manifest.accepted
    assert +told == found
    assert manifest.lines == sum(found.values())
    assert manifest.lines == manifest.accepted + manifest.quarantined + manifest.duplicate + manifest.late


def test_the_manifest_tells_what_a_strict_reader_finds(tmp_path):
    manifest = generate_all(WORLD, tmp_path, 3000, per_file=250, dirt=DIRTY)
    assert manifest.files == 12 and manifest.accepted == 3000
    assert set(manifest.kinds) == set(OUTCOMES)
    assert_as_told(manifest, judge(tmp_path))


def test_nothing_is_late_before_a_learner_can_have_a_clock(tmp_path):
    assert "late" not in generate_all(WORLD, tmp_path / "few", 800, per_file=100, dirt=Dirt(late=.5)).kinds
    assert generate_all(WORLD, tmp_path / "more", 900, per_file=100, dirt=Dirt(late=.5)).late > 0


def test_a_lost_line_would_be_noticed(tmp_path):
    manifest = generate_all(WORLD, tmp_path, 800, per_file=400, dirt=DIRTY)
    last = sorted(tmp_path.iterdir())[-1]
    last.write_text("".join(last.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(AssertionError):
        assert_as_told(manifest, judge(tmp_path))


def test_dirt_is_added_and_takes_nothing_away(tmp_path):
    generate_all(WORLD, tmp_path / "clean", 900, per_file=300)
    generate_all(WORLD, tmp_path / "dirty", 900, per_file=300, dirt=DIRTY)
    for name, clean in contents(tmp_path / "clean").items():
        lines = Counter((tmp_path / "dirty" / name).read_bytes().splitlines())
        assert lines > Counter(clean.splitlines())
        assert not Counter(clean.splitlines()) > lines


def test_the_same_settings_give_the_same_bytes_at_any_speed(tmp_path):
    generate_all(WORLD, tmp_path / "at once", 900, per_file=300, dirt=DIRTY)
    generator = Generator(WORLD, tmp_path / "slowly", 900, per_file=300, rate=20_000, dirt=DIRTY).start()
    assert generator.join(60)
    assert contents(tmp_path / "at once") == contents(tmp_path / "slowly")
    generate_all(World(users=300, items=200, events=20_000, seed=4), tmp_path / "other", 900, per_file=300, dirt=DIRTY)
    assert contents(tmp_path / "at once") != contents(tmp_path / "other")


def test_modification_times_grow_by_whole_milliseconds(tmp_path):
    generate_all(WORLD, tmp_path, 200, per_file=10)
    times = [path.stat().st_mtime_ns // 1_000_000 for path in sorted(tmp_path.iterdir())]
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_files_appear_whole(tmp_path, monkeypatch):
    seen = []
    move = Path.replace

    def watching(source, target):
        seen.append((source.name, target.exists(), source.read_bytes()))
        return move(source, target)

    monkeypatch.setattr(Path, "replace", watching)
    generate_all(WORLD, tmp_path, 20, per_file=10)
    assert [name for name, _, _ in seen] == ["_events-000000.json", "_events-000001.json"]
    assert not any(existed for _, existed, _ in seen)
    assert [data for _, _, data in seen] == list(contents(tmp_path).values())


def test_stop_ends_the_stream_and_the_manifest_tells_what_was_written(tmp_path):
    generator = Generator(WORLD, tmp_path, 20_000, per_file=100, rate=1000, dirt=DIRTY).start()
    assert not generator.join(.3)
    generator.stop()
    assert generator.join(60)
    assert generator.manifest.files == len(list(tmp_path.iterdir())) < 200
    assert_as_told(generator.manifest, judge(tmp_path))


def test_resume_leaves_what_is_there_and_counts_it(tmp_path):
    whole = generate_all(WORLD, tmp_path / "whole", 900, per_file=100, dirt=DIRTY)
    generate_all(WORLD, tmp_path / "part", 400, per_file=100, dirt=DIRTY)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "part").iterdir()}
    generator = Generator(WORLD, tmp_path / "part", 950, per_file=100, dirt=DIRTY, resume=True)
    assert generator.left() == 550
    resumed = Generator(WORLD, tmp_path / "part", 900, per_file=100, dirt=DIRTY, resume=True).run()
    assert generator.left() == 50
    assert resumed == whole
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_an_error_of_the_thread_is_raised_where_it_is_joined(tmp_path):
    generate_all(WORLD, tmp_path, 100, per_file=100)
    generator = Generator(WORLD, tmp_path, 100, per_file=100).start()
    with pytest.raises(FileExistsError, match="resume"):
        generator.join(60)
    assert threading.main_thread().is_alive()


def test_csv_says_the_same_as_json(tmp_path):
    generate_all(WORLD, tmp_path / "json", 500, per_file=500)
    generate_all(WORLD, tmp_path / "csv", 500, per_file=500, format="csv")
    lines = (tmp_path / "json" / "events-000000.json").read_text().splitlines()
    with (tmp_path / "csv" / "events-000000.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{name: str(value) for name, value in json.loads(line).items()} for line in lines] == rows


def test_times_as_text_are_the_drawn_times(tmp_path):
    generate_all(WORLD, tmp_path, 300, per_file=300)
    said = [json.loads(line)["event_at"] for line in (tmp_path / "events-000000.json").read_text().splitlines()]
    assert all(text.endswith("Z") and text[10] == "T" for text in said)
    micros = [int(datetime.fromisoformat(text).timestamp() * 1_000_000 + .5) for text in said]
    assert micros == events(WORLD, 0, 300).event_at.tolist()


def test_a_malformed_line_of_csv_lacks_fields(tmp_path):
    manifest = generate_all(WORLD, tmp_path, 500, per_file=500, dirt=Dirt(malformed=.2), format="csv")
    fields = Counter(len(line.split(",")) for line in (tmp_path / "events-000000.csv").read_text().splitlines()[1:])
    assert fields.pop(8) == 500
    assert fields.total() == manifest.kinds["malformed"] > 0


def test_parquet_says_the_same_and_holds_no_text_in_numbers(tmp_path):
    manifest = generate_all(WORLD, tmp_path, 500, per_file=500, dirt=Dirt.spread(.3, without=UNTYPED), format="parquet")
    table = pq.read_table(tmp_path / "events-000000.parquet").to_pandas()
    assert len(table) == manifest.lines
    assert table["value"].isna().sum() == manifest.kinds["nan_value"]
    assert math.isinf(table["value"].max())
    drawn = events(WORLD, 0, 500)
    clean = table.drop_duplicates("event_id").set_index("event_id").loc[[f"e{n}" for n in drawn.ordinal]]
    assert clean["item_id"].tolist() == [f"i{n}" for n in drawn.item]
    assert (clean["event_at"].astype("int64") == drawn.event_at).all()
    with pytest.raises(ValueError, match="malformed"):
        Generator(WORLD, tmp_path, 500, dirt=DIRTY, format="parquet")


@pytest.mark.parametrize("wrong", [{"format": "xml"}, {"events": 0}, {"per_file": 0}, {"rate": 0}])
def test_impossible_orders_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError):
        Generator(WORLD, tmp_path, **{"events": 10, **wrong})


def test_shares_outside_zero_and_one_are_refused():
    with pytest.raises(ValueError, match="late"):
        Dirt(late=1.5)


def test_items_side_file(tmp_path):
    write_items(WORLD, tmp_path / "items.json")
    write_items(WORLD, tmp_path / "items.parquet")
    rows = [json.loads(line) for line in (tmp_path / "items.json").read_text().splitlines()]
    table = pq.read_table(tmp_path / "items.parquet")
    assert [row["title"] for row in rows] == table["title"].to_pylist()
    assert rows[0].keys() == {"item_id", "title", "category"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.json", "items.parquet"]
