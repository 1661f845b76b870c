"""The head: the newest state, whole, in the memory of the driver.

Per block one RowTable: an int64 hash index and flat arrays (values float32 [vector | slots], links, counts, times,
digests), no Python object per row. The head changes in one place, `apply`, and only after a commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from freshet.kernels.digest import as_hex, block_seed, fold, row_digests
from freshet.kernels.history import CHUNK, OPEN
from freshet.kernels.rows import RowTable
from freshet.kernels.seen import SeenEvents
from freshet.labels import Waiting
from freshet.models.contract import ATTRIBUTE, FEATURE, ITEM, USER, Block, Rows, View
from freshet.rates import Rates
from freshet.revisions import Revisions
from freshet.schema import HISTORY, HISTORY_ARCHIVE, ITEM_ATTRIBUTES, LAST_CONTEXT, MIX, POPULARITY, SEGMENT, WINDOW

TOTALS = "totals"
TOTALS_KEY = 0
WINDOW_LINKS = 32


def companions(half_lives: int = 1, features: int = 0, attributes: int = 0, segment: int = 0) -> tuple[Block, ...]:
    """Blocks learned beside every model (see freshet.companions), popularity with that many half-lives; the last context of
    a user where events have that many features; what is known of an item where it may have that many attributes; that many items
    of a segment."""
    return (
        Block(POPULARITY, ITEM, 1 + half_lives, merge="sum"),
        Block(TOTALS, None, 1 + half_lives, merge="sum"),
        Block(HISTORY, USER, 0, links=OPEN),
        Block(HISTORY_ARCHIVE, None, 0, links=1 + CHUNK),
        Block(WINDOW, None, 0, links=WINDOW_LINKS),
        Block(MIX, None, 6, merge="sum"),
        *([Block(LAST_CONTEXT, USER, 0, links=features)] if features else []),
        *([Block(ITEM_ATTRIBUTES, ITEM, 0, links=attributes)] if attributes else []),
        *([Block(SEGMENT, FEATURE, 1 + segment, links=segment, merge="sum")] if segment else []),
    )


def digests(block: Block, rows: Rows) -> np.ndarray:
    """uint64[r] digests of the rows (see kernels.digest)."""
    vectors = np.ascontiguousarray(rows.values[:, : block.width])
    slots = np.ascontiguousarray(rows.values[:, block.width :])
    return row_digests(block_seed(block.name), rows.keys, vectors, slots, rows.links, rows.filled, rows.count, rows.last_at)


class Head:
    """State of a model at one version, with what deduplication and id checks need beside it.

    `digest` is the XOR of all row digests, kept up to date by `apply`; `clock` the event clock in microseconds.
    """

    def __init__(
        self, blocks: Iterable[Block], dedup_window: int, half_lives: int = 1, features: int = 0, attributes: int = 0,
        segment: int = 0,
    ) -> None:
        beside = companions(half_lives, features, attributes, segment)
        self.blocks: dict[str, Block] = {block.name: block for block in (*blocks, *beside)}
        self.tables = {name: _table(block) for name, block in self.blocks.items()}
        self.digest = 0
        self.clock = 0
        self.seen = SeenEvents(dedup_window)
        self.revisions = Revisions()
        self.rates = Rates()
        self.waiting: Waiting | None = None  # impressions and answers, where impressions wait
        # First sight of a natural id, with a second, independent hash of it that tells two ids of one key apart.
        self.ids = {space: RowTable({"check": (np.int64, 0)}) for space in (USER, ITEM, FEATURE, ATTRIBUTE)}
        self._item_rows: dict[str, np.ndarray] = {}

    def share_memory(self, other: Head) -> None:
        """Know of ids and of events that were accepted what another head of the same events knows: it is kept once for both."""
        self.ids, self.seen, self.revisions, self.rates = other.ids, other.seen, other.revisions, other.rates

    def __len__(self) -> int:
        return sum(len(table) for table in self.tables.values())

    @property
    def hex_digest(self) -> str:
        """The digest as the snapshots table has it."""
        return as_hex(self.digest)

    @property
    def row_counts(self) -> dict[str, int]:
        """Rows of each block."""
        return {name: len(table) for name, table in self.tables.items()}

    def rows_after(self, changed: Mapping[str, Rows]) -> dict[str, int]:
        """Rows of each block once these changes are taken."""
        counts = self.row_counts
        for name, rows in changed.items():
            counts[name] += int((self.lookup(name, rows.keys) < 0).sum())
        return counts

    @property
    def nbytes(self) -> int:
        """Memory of rows, indexes, ids and the dedup window."""
        tables = [*self.tables.values(), *self.ids.values()]
        return sum(table.nbytes for table in tables) + self.seen.nbytes + self.revisions.nbytes + self.rates.nbytes

    def lookup(self, block: str, keys: np.ndarray) -> np.ndarray:
        """int32 row of each key in the block, -1 for a key it does not have."""
        return self.tables[block].lookup(keys)

    def values(self, block: str) -> np.ndarray:
        """float32[n, width + slots] of all rows of a block: a view, good until the next `apply`."""
        return self.tables[block].column("values")

    def gather(self, block: str, keys: np.ndarray) -> tuple[Rows, np.ndarray]:
        """Copies of the rows of unique keys and whether each exists; cells of a row that does not are 0."""
        table, spec = self.tables[block], self.blocks[block]
        found = table.lookup(keys)
        known = found >= 0
        rows = np.where(known, found, 0)
        def take(name: str) -> np.ndarray:
            if not len(table):
                return _empty(table, name, len(keys))
            cells = table.gather(name, rows)
            cells[~known] = 0
            return cells
        links = take("links") if spec.links else np.empty((len(keys), 0), np.int64)
        filled = take("filled") if spec.links else np.zeros(len(keys), np.int32)
        values = take("values") if spec.width + spec.slots else np.empty((len(keys), 0), np.float32)
        return Rows(keys, values, links, filled, take("count"), take("last_at")), known

    def digest_of(self, block: str, keys: np.ndarray) -> int:
        """XOR of the digests of the rows under these unique keys; a key without a row adds nothing."""
        rows = self.lookup(block, keys)
        return fold(self.tables[block].column("digest")[rows[rows >= 0]])

    def changes(self, rows: Mapping[str, Rows]) -> tuple[dict[str, tuple[Rows, np.ndarray]], int]:
        """(per block the rows with their digests, the state's digest with them), as `apply` takes them; blocks without rows are
        left out, the head stays as it is."""
        found = {name: (one, digests(self.blocks[name], one)) for name, one in rows.items() if len(one)}
        digest = self.digest
        for name, (one, row_digest) in found.items():
            digest ^= fold(row_digest) ^ self.digest_of(name, one.keys)
        return found, digest

    def put(self, block: str, rows: Rows, row_digest: np.ndarray | None = None) -> None:
        """Write rows over what stands under their keys; the digest follows."""
        table, spec = self.tables[block], self.blocks[block]
        row_digest = digests(spec, rows) if row_digest is None else row_digest
        at = table.insert(rows.keys)
        cells = table.column("digest")
        self.digest ^= fold(cells[at]) ^ fold(row_digest)
        cells[at] = row_digest
        table.column("count")[at] = rows.count
        table.column("last_at")[at] = rows.last_at
        if spec.width + spec.slots:
            table.column("values")[at] = rows.values
        if spec.links:
            table.column("links")[at] = rows.links
            table.column("filled")[at] = rows.filled

    def apply(self, changes: Mapping[str, tuple[Rows, np.ndarray]], digest: int) -> None:
        """Take the committed changes: per block rows and their digests."""
        for block, (rows, row_digest) in changes.items():
            self.put(block, rows, row_digest)
        if self.digest != digest:
            raise AssertionError("the head's digest left the committed one")  # a bug, never an input

    def view(self, block: str) -> View:
        """All rows of a block, not to be written, good until the next `apply`."""
        table, spec = self.tables[block], self.blocks[block]
        values = table.column("values") if spec.width + spec.slots else np.empty((len(table), 0), np.float32)
        links = table.column("links") if spec.links else np.empty((len(table), 0), np.int64)
        filled = table.column("filled") if spec.links else np.zeros(len(table), np.int32)
        return View(values, links, filled, table.column("last_at"))

    def item_rows(self, block: str) -> np.ndarray:
        """int32[n]: for each row of `popularity` (all known items) the row of a block of the ITEM space, or -1."""
        keys = self.tables[POPULARITY].keys
        rows = self._item_rows.get(block, np.empty(0, np.int32))
        if len(rows) < len(keys):
            rows = np.concatenate([rows, self.lookup(block, keys[len(rows) :])])
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            rows[missing] = self.lookup(block, keys[missing])
        self._item_rows[block] = rows
        return rows

    def attributes(self, items: np.ndarray) -> np.ndarray:
        """int64[..., A]: keys of the attributes of items int64[...], 0 for none."""
        if ITEM_ATTRIBUTES not in self.tables:
            return np.empty((*items.shape, 0), np.int64)
        rows, table = self.lookup(ITEM_ATTRIBUTES, items.ravel()), self.tables[ITEM_ATTRIBUTES]
        found = np.zeros((len(rows), self.blocks[ITEM_ATTRIBUTES].links), np.int64)
        known = np.flatnonzero(rows >= 0)
        found[known] = table.column("links")[rows[known]]
        return found.reshape(*items.shape, found.shape[1])

    def window(self) -> np.ndarray:
        """int64 item keys of recent events, oldest first (rows lie in slot order: the first was slot 0)."""
        table = self.tables[WINDOW]
        if not len(table):
            return np.empty(0, np.int64)
        ring = table.column("links").reshape(-1)[: int(table.column("filled").sum())]
        return np.roll(ring, -(self.events_in_window() % len(ring)))

    def events_in_window(self) -> int:
        """Events that ever entered the window."""
        table = self.tables[WINDOW]
        return int(table.column("count").max()) if len(table) else 0


def _table(block: Block) -> RowTable:
    columns: dict[str, tuple[type, int]] = {"count": (np.int64, 0), "last_at": (np.int64, 0), "digest": (np.uint64, 0)}
    if block.width + block.slots:
        columns["values"] = (np.float32, block.width + block.slots)
    if block.links:
        columns |= {"links": (np.int64, block.links), "filled": (np.int32, 0)}
    return RowTable(columns)


def _empty(table: RowTable, name: str, rows: int) -> np.ndarray:
    column = table.column(name)
    return np.zeros((rows, *column.shape[1:]), column.dtype)
