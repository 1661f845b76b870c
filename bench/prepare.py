"""Turns a public event set into sized, ordered event files: the input of benchmarks and of conf/examples.

    python bench/prepare.py movielens-100k --source PATH --out DIR --order time --rows 1000

Spark takes whole files, so --rows is the size of a micro-batch at one file a trigger. The files are numbered, their
modification times go up by a second each, and the columns keep the names that the set itself gives them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from public_sets import SETS, NotThere, PublicSet

BUCKET_ROWS = 1_000_000  # rows sorted at once; larger sets are split by time on disk first
ABOUT = """\
sets and what --source is:
{sets}

A file may be gzip-compressed and may be named itself. Sets without times (order: file) hold one user after the other.
--interleave SHARE lets the histories of that share of the users run beside each other, as they would in a shop: each
user's own order is kept, everything else is drawn from --seed. 0 keeps the files' order, 1 mixes all users.

then, for instance:
  freshet train --available-now --config conf/examples/movielens-100k-mf.yaml --set source.path=DIR
"""


class Refused(Exception):
    """What was asked for cannot be done; the message says what can."""


def order_keys(chosen: PublicSet, source: Path, order: str, share: float, seed: int) -> np.ndarray | None:
    """The number each row is sorted by (equal ones stay in the order read); None when nothing is to be moved."""
    if order == "file" and share == 0:
        return None
    name = chosen.time if order == "time" else chosen.user
    parts = [table[name].to_numpy() for table in chosen.read(source)]
    column = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return column if order == "time" else interleaved(column, share, seed)


def interleaved(user: np.ndarray, share: float, seed: int) -> np.ndarray:
    """time of a row = (1 - share) * (rank of its user's first row) / users + share * uniform draw

    The draws of one user are handed out in ascending order, so each user's rows stay in the order read.
    """
    _, first, code = np.unique(user, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[code]
    draw = np.random.default_rng(seed).random(len(user))
    own = np.empty(len(user))
    own[np.argsort(code, kind="stable")] = draw[np.lexsort((draw, code))]
    return (1 - share) * rank / max(len(first), 1) + share * own


def in_order(tables: Iterator[pa.Table], keys: np.ndarray | None, scratch: Path) -> Iterator[pa.Table]:
    """The rows of `tables` by ascending key, in pieces; on disk in between where they are many."""
    if keys is None:
        yield from tables
        return
    places = np.arange(BUCKET_ROWS, len(keys), BUCKET_ROWS)
    borders = np.unique(np.partition(keys, places)[places]) if len(places) else keys[:0]
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    start = 0
    for table in tables:
        key = keys[start:start + table.num_rows]
        start += table.num_rows
        table = table.append_column("_key", pa.array(key))
        bucket = np.searchsorted(borders, key, side="right")
        for number in np.unique(bucket).tolist():
            if number not in writers:
                writers[number] = pa.ipc.new_stream(str(scratch / f"{number}.arrow"), table.schema)
            writers[number].write_table(table.filter(pa.array(bucket == number)))
    for number in sorted(writers):
        writers[number].close()
        piece = pa.ipc.open_stream(pa.memory_map(str(scratch / f"{number}.arrow"))).read_all()
        yield piece.take(pa.array(np.argsort(piece["_key"].to_numpy(), kind="stable"))).drop_columns("_key")


def sized(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows each, the last one shorter."""
    held: list[pa.Table] = []
    have = 0
    for table in tables:
        held.append(table)
        have += table.num_rows
        if have < rows:
            continue
        whole = pa.concat_tables(held)
        full = have - have % rows
        for start in range(0, full, rows):
            yield whole.slice(start, rows)
        held, have = [whole.slice(full)], have - full
    if have:
        yield pa.concat_tables(held)


def write_json(table: pa.Table, path: Path, chosen: PublicSet) -> None:
    """One JSON object a line."""
    parts: list[pa.Array | str] = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        text = column.cast(pa.string())
        if pa.types.is_string(column.type):
            text = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), '"', '\\"')
            text = pc.binary_join_element_wise('"', text, '"', "")
        parts += [f', "{name}": ' if parts else f'{{"{name}": ', text]
    write_lines(path, [], pc.binary_join_element_wise(*parts, "}", ""))


def write_csv(table: pa.Table, path: Path, chosen: PublicSet) -> None:
    """As the set itself is written: its separator, with a header line where it has one."""
    columns = [table[name].combine_chunks().cast(pa.string()) for name in table.column_names]
    header = [chosen.separator.join(table.column_names)] if chosen.header else []
    write_lines(path, header, pc.binary_join_element_wise(*columns, chosen.separator))


def write_lines(path: Path, header: list[str], lines: pa.Array) -> None:
    """Text, each line ended."""
    path.write_text("\n".join([*header, *lines.to_pylist()]) + "\n")


def write_parquet(table: pa.Table, path: Path, chosen: PublicSet) -> None:
    """Typed columns."""
    pq.write_table(table, path)


WRITERS: dict[str, Callable[[pa.Table, Path, PublicSet], None]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
}


def prepare(
    name: str, source: Path, out: Path, *, order: str = "", rows: int = 1000, share: float = 0.0, seed: int = 1,
    format: str = "csv",
) -> tuple[int, int]:
    """Write the files of a set to `out`, which appears when it is whole; (rows, files) written."""
    chosen = SETS[name]
    order = order or ("time" if chosen.time else "file")
    check(chosen, name, source, out, order, rows, share)
    making = out.with_name(f"_{out.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    scratch = making / "_sorting"
    scratch.mkdir(parents=True)
    count = files = 0
    keys = order_keys(chosen, source, order, share, seed)
    for files, table in enumerate(sized(in_order(chosen.read(source), keys, scratch), rows), start=1):
        WRITERS[format](table, making / f"{chosen.stem}-{files - 1:06d}.{format}", chosen)
        count += table.num_rows
    shutil.rmtree(scratch)
    newest = int(time.time())
    for number, path in enumerate(sorted(making.iterdir()), start=1):
        os.utime(path, (newest - files + number,) * 2)
    if out.exists():
        out.rmdir()
    making.rename(out)
    return count, files


def check(chosen: PublicSet, name: str, source: Path, out: Path, order: str, rows: int, share: float) -> None:
    """Raise `Refused` for what cannot be done, before anything is read or written."""
    if not source.exists():
        raise Refused(f"--source {source} does not exist; wanted {chosen.wanted}")
    if order == "time" and not chosen.time:
        raise Refused(f"{name} has no times; use --order file, with --interleave to mix its users")
    if order == "time" and share:
        raise Refused("--interleave mixes users of a set in file order; with --order time the times decide")
    if rows < 1 or not 0 <= share <= 1:
        raise Refused("--rows must be at least 1 and --interleave between 0 and 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refused(f"--out {out} is there already and not empty; give a new folder")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    width = max(map(len, SETS))
    lines = [
        f"  {name:<{width}}  {chosen.wanted} (order: {'time' if chosen.time else 'file'})"
        for name, chosen in SETS.items()
    ]
    made = argparse.ArgumentParser(
        prog="prepare.py", description=__doc__, epilog=ABOUT.format(sets="\n".join(lines)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("set", choices=SETS, metavar="SET", help="name of the set, see below")
    made.add_argument("--source", type=Path, required=True, metavar="PATH", help="folder or file of the set")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the event files")
    made.add_argument("--order", choices=("time", "file"), default="", help="default: time where the set has times")
    made.add_argument("--rows", type=int, default=1000, help="events in a file (default: 1000)")
    made.add_argument("--interleave", type=float, default=0.0, metavar="SHARE", help="see below (default: 0)")
    made.add_argument("--seed", type=int, default=1, help="seed of --interleave (default: 1)")
    made.add_argument("--format", choices=WRITERS, default="csv", help="default: csv, as the set itself is written")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0, or 2 with one sentence of what is wrong."""
    given = parser().parse_args(argv)
    try:
        rows, files = prepare(
            given.set, given.source, given.out, order=given.order, rows=given.rows, share=given.interleave,
            seed=given.seed, format=given.format,
        )
    except (Refused, NotThere, pa.ArrowInvalid) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    print(f"{rows} events in {files} files: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
