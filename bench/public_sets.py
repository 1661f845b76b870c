"""How each public set is written, and its rows as Arrow tables: read in pieces, in the order of its files.

A set that keeps its behaviours in one file each (views, purchases) is joined user by user, the rows of one user and
item together, so that a purchase follows the view that led to it; these sets are small and joined in memory.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

_INTEGER, _NUMBER = pa.int64(), pa.float64()
_USERS_AT_ONCE = 2000


class NotThere(Exception):
    """The source holds no file of the set, or several of which one must be named."""


@dataclass(frozen=True)
class PublicSet:
    """What a set is called by its files and columns, and how to read it."""

    wanted: str  # of --source, in words
    stem: str  # of the files that are written
    user: str
    time: str | None
    read: Callable[[Path], Iterator[pa.Table]]
    separator: str = ","
    header: bool = True


def found(source: Path, *patterns: str) -> list[Path]:
    """The files in `source`, by name, that fit a pattern, compressed or not; or `source` itself if it is a file."""
    if source.is_file():
        return [source]
    files = sorted({path for pattern in patterns for end in ("", ".gz") for path in source.glob(pattern + end)})
    if not files:
        raise NotThere(f"{source} holds no {' or '.join(patterns)} (.gz or not)")
    return files


def one(source: Path, *patterns: str) -> Path:
    """The only such file."""
    files = found(source, *patterns)
    if len(files) > 1:
        raise NotThere(f"{source} holds {', '.join(path.name for path in files)}; give one of them as --source")
    return files[0]


def _csv(path: Path, types: dict[str, pa.DataType], separator: str = ",", header: bool = True) -> Iterator[pa.Table]:
    """The columns of a delimited file under the names of `types`; its own header is passed over."""
    reading = pacsv.ReadOptions(column_names=list(types), skip_rows=int(header), block_size=1 << 24)
    converting = pacsv.ConvertOptions(column_types=types)
    with pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as raw:
        if not raw.read(1 << 16).partition(b"\n")[2] and header:
            return  # a header without rows
    parsing = pacsv.ParseOptions(delimiter=separator)
    with pacsv.open_csv(path, reading, parsing, converting) as batches:
        for batch in batches:
            yield pa.Table.from_batches([batch])


def _movielens_100k(source: Path) -> Iterator[pa.Table]:
    types = {"user_id": _INTEGER, "item_id": _INTEGER, "rating": _INTEGER, "timestamp": _INTEGER}
    yield from _csv(one(source, "u.data"), types, "\t", header=False)


def _movielens_latest(source: Path) -> Iterator[pa.Table]:
    types = {"userId": _INTEGER, "movieId": _INTEGER, "rating": _NUMBER, "timestamp": _INTEGER}
    yield from _csv(one(source, "ratings.csv"), types)


def _globo(source: Path) -> Iterator[pa.Table]:
    names = (
        "user_id", "session_id", "session_start", "session_size", "click_article_id", "click_timestamp",
        "click_environment", "click_deviceGroup", "click_os", "click_country", "click_region", "click_referrer_type",
    )
    for path in found(source, "clicks_hour_*.csv", "clicks/clicks_hour_*.csv"):
        yield from _csv(path, dict.fromkeys(names, _INTEGER))


def _retailrocket(source: Path) -> Iterator[pa.Table]:
    types = {"visitorid": _INTEGER, "itemid": _INTEGER, "count": _NUMBER}
    files = {
        "view": "view_ecommerce.dat",
        "addtocart": "add_to_cart_ecommerce.dat",
        "transaction": "purchase_ecommerce.dat",
    }
    yield _behaviours(source, files, types, "event").drop_columns("count")


def _steam(source: Path) -> Iterator[pa.Table]:
    types = {"User_ID": _INTEGER, "Game_ID": _INTEGER, "value": _NUMBER}
    yield _behaviours(source, {"purchase": "game_purchase.dat", "play": "game_play.dat"}, types, "event")


def _behaviours(source: Path, files: dict[str, str], types: dict[str, pa.DataType], name: str) -> pa.Table:
    """Rows of all files: user by user, in each by first sight of the item, in each by the order of `files`."""
    if source.is_file():
        raise NotThere(f"{source} is a file; give the folder that holds {', '.join(files.values())}")
    parts = []
    for behaviour, file in files.items():
        rows = pa.concat_tables(_csv(one(source, file), types, "\t"))
        parts.append(rows.append_column(name, pa.repeat(pa.scalar(behaviour), rows.num_rows)))
    whole = pa.concat_tables(parts)
    user, item = (whole[column].to_numpy() for column in list(types)[:2])
    _, first, pair = np.unique(user * (item.max() + 1) + item, return_index=True, return_inverse=True)
    return whole.take(pa.array(np.lexsort((first[pair], user))))


def _s3rec(source: Path) -> Iterator[pa.Table]:
    """Lines of a user and then the items in the order of time."""
    path = one(source, "LastFM.txt", "Beauty.txt", "Sports_and_Outdoors.txt")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        while histories := [np.array(line.split(), dtype=np.int64) for line in islice(lines, _USERS_AT_ONCE)]:
            lengths = [max(len(history) - 1, 0) for history in histories]
            users = np.repeat([history[0] if len(history) else 0 for history in histories], lengths)
            yield pa.table({"user_id": users, "item_id": np.concatenate([history[1:] for history in histories])})


FRAPPE = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
BANDIT = ("user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3")


def _frappe(source: Path) -> Iterator[pa.Table]:
    """Lines of a label, 1 or -1, and then one number:1 for each of the ten fields; the smaller part of the set's own split."""
    for name in ("frappe.validation.libfm", "frappe.test.libfm"):
        path = one(source, name)
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            rows = np.array([[int(word.partition(":")[0]) for word in line.split()] for line in lines])
        yield pa.table({"label": rows[:, 0], **{field: rows[:, 1 + at] for at, field in enumerate(FRAPPE)}})


def _bandit(source: Path) -> Iterator[pa.Table]:
    """Impressions of both policies and both shops, whose items are other ones; a user is who shares all four features."""
    for policy in ("random", "bts"):
        for shop in ("men", "women"):
            path = one(source, f"{policy}_{shop}.csv")
            wanted = ["timestamp", "item_id", "position", "click", "propensity_score", *BANDIT]
            types = {name: pa.string() for name in ("item_id", "position", *BANDIT)} | {"timestamp": pa.timestamp("us", tz="UTC")}
            table = pacsv.read_csv(path, convert_options=pacsv.ConvertOptions(include_columns=wanted, column_types=types))
            # A feature is a hash; its first 8 digits tell its values apart.
            features = [pc.utf8_slice_codeunits(table[name], 0, 8) for name in BANDIT]
            yield pa.table({
                "timestamp": table["timestamp"].cast(pa.int64()), "user": pc.binary_join_element_wise(*features, "-"),
                "item": pc.binary_join_element_wise(shop, table["item_id"], "-"), "click": table["click"],
                "propensity": table["propensity_score"], "position": table["position"], "shop": pa.repeat(shop, len(table)),
                **dict(zip(BANDIT, features, strict=True)),
            })


SETS: dict[str, PublicSet] = {
    "movielens-100k": PublicSet(
        "the folder with u.data, or that file", "u.data", "user_id", "timestamp", _movielens_100k, "\t", header=False,
    ),
    "movielens-latest-small": PublicSet(
        "the folder with ratings.csv, or that file", "ratings", "userId", "timestamp", _movielens_latest,
    ),
    "globo-clicks": PublicSet(
        "the folder with clicks/ or with clicks_hour_*.csv, or one of these", "clicks", "user_id", "click_timestamp",
        _globo,
    ),
    "retailrocket-core": PublicSet(
        "the folder with view_, add_to_cart_ and purchase_ecommerce.dat", "behaviour", "visitorid", None,
        _retailrocket, "\t",
    ),
    "s3rec": PublicSet("LastFM.txt, Beauty.txt or Sports_and_Outdoors.txt", "sequence", "user_id", None, _s3rec),
    "frappe-partial": PublicSet(
        "the folder with frappe.validation.libfm and frappe.test.libfm", "usage", "user", None, _frappe,
    ),
    "open-bandit": PublicSet("the folder with {random,bts}_{men,women}.csv", "impressions", "user", "timestamp", _bandit),
    "steam-games": PublicSet(
        "the folder with game_purchase.dat and game_play.dat", "behaviour", "User_ID", None, _steam, "\t",
    ),
}
