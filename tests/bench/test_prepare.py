"""Public sets become ordered, sized files: tried on a few invented rows written the way each set is."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

from freshet.settings import SourceSettings, load

BENCH = Path(__file__).parents[2] / "bench"
SECONDS = np.random.default_rng(1).permutation(np.repeat(np.arange(40, 90), 2)).tolist()  # 100 times, each twice


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCH))
    spec = importlib.util.spec_from_file_location("prepare", BENCH / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCH))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Rows of movielens-100k's shape; the item id is the row's number in the file."""
    folder = tmp_path / "films"
    folder.mkdir()
    rows = [f"{n % 7}\t{n}\t{1 + n % 5}\t{second}" for n, second in enumerate(SECONDS)]
    (folder / "u.data").write_text("\n".join(rows) + "\n")
    return folder


def run(script: ModuleType, *arguments: object) -> int:
    return script.main([str(argument) for argument in arguments])


def lines(folder: Path) -> list[str]:
    return [line for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]


def assert_by_time(rows: list[str]) -> None:
    """Ascending times; rows of one time in the order of the file."""
    read = [(int(row.split("\t")[3]), int(row.split("\t")[1])) for row in rows]
    assert read == sorted(read)
    assert sorted(item for _, item in read) == list(range(len(SECONDS)))


def test_by_time_sized_and_with_growing_modification_times(script, films, tmp_path):
    out = tmp_path / "out"
    assert run(script, "movielens-100k", "--source", films, "--out", out, "--order", "time", "--rows", 30) == 0
    files = sorted(out.iterdir())
    assert [path.name for path in files] == [f"u.data-{n:06d}.csv" for n in range(4)]
    assert [len(path.read_text().splitlines()) for path in files] == [30, 30, 30, 10]
    assert all(one.stat().st_mtime + 1 == two.stat().st_mtime for one, two in itertools.pairwise(files))
    assert_by_time(lines(out))


def test_file_order_is_not_time_order(script, films, tmp_path):
    out = tmp_path / "out"
    assert run(script, "movielens-100k", "--source", films / "u.data", "--out", out, "--order", "file") == 0
    assert lines(out) == (films / "u.data").read_text().splitlines()
    with pytest.raises(AssertionError):
        assert_by_time(lines(out))


@pytest.mark.parametrize("bucket", [1, 7, 99])
def test_sorting_on_disk_gives_the_same_rows(script, films, tmp_path, monkeypatch, bucket):
    monkeypatch.setattr(script, "BUCKET_ROWS", bucket)
    assert run(script, "movielens-100k", "--source", films, "--out", tmp_path / "out", "--rows", 8) == 0
    assert_by_time(lines(tmp_path / "out"))


def test_formats_say_the_same(script, films, tmp_path):
    for form in script.WRITERS:
        assert run(script, "movielens-100k", "--source", films, "--out", tmp_path / form, "--format", form) == 0
    rows = pq.read_table(tmp_path / "parquet" / "u.data-000000.parquet").to_pylist()
    assert rows[0].keys() == {"user_id", "item_id", "rating", "timestamp"}
    assert [json.loads(line) for line in lines(tmp_path / "json")] == rows
    assert lines(tmp_path / "csv") == ["\t".join(map(str, row.values())) for row in rows]


def test_interleaving_keeps_each_users_order_and_mixes_users(script):
    user = np.repeat(np.arange(50), 20)
    moved = np.argsort(script.interleaved(user, .2, seed=1), kind="stable")
    assert all((np.diff(moved[user[moved] == one]) > 0).all() for one in range(50))
    active = [len(np.unique(user[moved[start:start + 100]])) for start in range(200, 800, 100)]
    assert min(active) > 10
    nothing = np.argsort(script.interleaved(user, 0, seed=1), kind="stable")
    np.testing.assert_array_equal(nothing, np.arange(1000))
    assert (moved != np.argsort(script.interleaved(user, .2, seed=2), kind="stable")).any()


def test_behaviours_are_joined_user_by_user(script, tmp_path):
    rows = {
        "view": "1\t5\t1\n1\t4\t1\n2\t5\t1\n",
        "add_to_cart": "1\t5\t1\n2\t9\t1\n",
        "purchase": "1\t5\t1\n1\t4\t1\n",
    }
    for name, text in rows.items():
        with gzip.open(tmp_path / f"{name}_ecommerce.dat.gz", "wt") as file:
            file.write("visitorid\titemid\tevent\n" + text)
    assert run(script, "retailrocket-core", "--source", tmp_path, "--out", tmp_path / "out") == 0
    assert [line.split("\t") for line in lines(tmp_path / "out")] == [
        ["visitorid", "itemid", "event"],
        ["1", "5", "view"], ["1", "5", "addtocart"], ["1", "5", "transaction"],
        ["1", "4", "view"], ["1", "4", "transaction"],
        ["2", "5", "view"], ["2", "9", "addtocart"],
    ]


def test_hourly_files_are_put_in_order_and_a_header_without_rows_is_none(script, tmp_path):
    names = (
        "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment,"
        "click_deviceGroup,click_os,click_country,click_region,click_referrer_type"
    )
    (tmp_path / "clicks").mkdir()
    for hour, times in enumerate([[30, 10], [], [20, 10]]):
        rows = [f"{hour},1,1,2,7,{at},4,1,17,1,25,2" for at in times]
        (tmp_path / "clicks" / f"clicks_hour_{hour:03d}.csv").write_text("\n".join([names, *rows]) + "\n")
    assert run(script, "globo-clicks", "--source", tmp_path, "--out", tmp_path / "out", "--format", "json") == 0
    read = [json.loads(line) for line in lines(tmp_path / "out")]
    assert [(row["click_timestamp"], row["user_id"]) for row in read] == [(10, 0), (10, 2), (20, 2), (30, 0)]
    assert list(read[0]) == names.split(",")


def test_sequences_and_games(script, tmp_path):
    (tmp_path / "LastFM.txt").write_text("1 10 11\n2 12\n")
    assert run(script, "s3rec", "--source", tmp_path, "--out", tmp_path / "songs") == 0
    assert lines(tmp_path / "songs") == ["user_id,item_id", "1,10", "1,11", "2,12"]
    (tmp_path / "game_purchase.dat").write_text("User_ID\tGame_ID\tPurchase\n1\t1\t1.0\n")
    (tmp_path / "game_play.dat").write_text("User_ID\tGame_ID\tHours\n1\t1\t2.5\n")
    assert run(script, "steam-games", "--source", tmp_path, "--out", tmp_path / "games") == 0
    assert lines(tmp_path / "games")[1:] == ["1\t1\t1\tpurchase", "1\t1\t2.5\tplay"]


@pytest.mark.parametrize(("arguments", "said"), [
    (["movielens-100k", "--source", "/nowhere/at/all"], "does not exist; wanted the folder with u.data"),
    (["movielens-latest-small", "--source", "{films}"], "holds no ratings.csv"),
    (["retailrocket-core", "--source", "{films}", "--order", "time"], "has no times; use --order file"),
    (["movielens-100k", "--source", "{films}", "--rows", "0"], "--rows must be at least 1"),
    (["movielens-100k", "--source", "{films}", "--interleave", ".1"], "--interleave mixes users"),
])
def test_refusals_say_what_is_wrong_and_leave_nothing(script, films, tmp_path, capsys, arguments, said):
    out = tmp_path / "out"
    assert run(script, *[part.format(films=films) for part in arguments], "--out", out) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_filled_folder_is_left_alone(script, films, tmp_path, capsys):
    assert run(script, "movielens-100k", "--source", films, "--out", films) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in films.iterdir()] == ["u.data"]


def test_help_teaches(script, capsys):
    with pytest.raises(SystemExit) as left:
        run(script, "--help")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in script.SETS)
    assert "--interleave SHARE" in shown and "conf/examples" in shown


EXAMPLES = sorted((BENCH.parent / "conf" / "examples").glob("*.yaml"))


def assert_reads(source: SourceSettings, written: Path, read_header: bool, separator: str) -> None:
    """The mapping names columns that are in the written file, and the file's way of writing is the one that is set."""
    assert source.format == "csv" and source.csv.header == read_header and source.csv.separator == separator
    assert source.glob is None or fnmatch(written.name, source.glob)
    first = written.read_text().splitlines()[0].split(separator)
    columns = first if read_header else list(source.csv.columns)
    assert len(columns) == len(first)
    mapped = [column for column in source.columns.model_dump().values() if column is not None]
    assert mapped and set(mapped) | set(source.context) <= set(columns)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load_and_read_what_is_written(script, tmp_path, path):
    settings, _ = load([path], env={}, sets=[f"source.path={tmp_path}"])
    name = next(name for name in sorted(script.SETS, key=len, reverse=True) if path.stem.startswith(name))
    chosen = script.SETS[name]
    raw = write_raw(tmp_path / "raw", name)
    assert run(script, name, "--source", raw, "--out", tmp_path / "out") == 0
    written = min((tmp_path / "out").iterdir())
    assert_reads(settings.source, written, chosen.header, chosen.separator)
    assert settings.source.order == ("time" if chosen.time else "file")
    with pytest.raises(AssertionError):
        assert_reads(settings.source, written, not chosen.header, chosen.separator)


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


IMPRESSION = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3,other\n"
    "0,2019-11-24 00:03:13.442536+00:00,14,3,0,0.03,cef3390e11,03a5648a22,7bc94a2d33,9bde591f44,0.5\n"
)


def test_impressions_have_a_user_an_item_of_their_shop_and_a_propensity(script, tmp_path):
    raw = write_raw(tmp_path / "raw", "open-bandit")
    assert run(script, "open-bandit", "--source", raw, "--out", tmp_path / "out", "--format", "json") == 0
    rows = [json.loads(line) for line in lines(tmp_path / "out")]
    assert {row["item"] for row in rows} == {"men-14", "women-14"} and {row["user"] for row in rows} == {"cef3390e-03a5648a-7bc94a2d-9bde591f"}
    assert all(row["timestamp"] == 1574553793442536 and row["propensity"] == 0.03 and row["click"] == 0 for row in rows)


def write_raw(folder: Path, name: str) -> Path:
    """One row of each file of a set that has an example."""
    files = {
        "movielens-100k": {"u.data": "1\t2\t3\t4\n"},
        "movielens-latest-small": {"ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.5,4\n"},
        "globo-clicks": {"clicks_hour_000.csv": ",".join("abcdefghijkl") + "\n1,2,3,4,5,6,7,8,9,10,11,12\n"},
        "retailrocket-core": {
            f"{behaviour}_ecommerce.dat": "visitorid\titemid\tevent\n1\t2\t1\n"
            for behaviour in ("view", "add_to_cart", "purchase")
        },
        "s3rec": {"LastFM.txt": "1 2 3\n"},
        "frappe-partial": {f"frappe.{part}.libfm": "1 " + " ".join(f"{n}:1" for n in range(10)) + "\n" for part in ("validation", "test")},
        "open-bandit": {
            f"{policy}_{shop}.csv": IMPRESSION for policy in ("random", "bts") for shop in ("men", "women")
        },
    }[name]
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text)
    return folder
