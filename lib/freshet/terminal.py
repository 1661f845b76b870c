"""What a person sees: the progress of learning, one line at a time, and results as tables.

Lines are only ever appended, so they read the same on a terminal, in a pipe and in a log; colour is for terminals.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from freshet.printable import printable
from freshet.report import BatchReport, Metric, limited_text

POPULARITY = "popularity"
LOSSES = ("rmse", "logloss", "hinge", "perceptron", "mae")
RANKINGS = ("recall", "ndcg", "mrr")

_Key = tuple[str, str, str]  # (metric, scoring, learner)


@dataclass
class Sums:
    """Counts and metric sums over some micro-batches; adding a report is all it can do."""

    read: int = 0
    refused: int = 0
    late: int = 0
    duplicate: int = 0
    seconds: float = 0.0
    limited: dict[str, int] = field(default_factory=dict)
    metrics: dict[_Key, Metric] = field(default_factory=dict)

    def add(self, report: BatchReport) -> None:
        self.read += report.read
        self.refused += report.quarantined
        self.late += report.late
        self.duplicate += report.duplicate
        self.seconds += report.seconds
        for name, count in report.limited.items():
            self.limited[name] = self.limited.get(name, 0) + count
        for new in report.metrics:
            if new.slice != "all":
                continue
            key = (new.metric, new.scoring, new.learner)
            old = self.metrics.get(key, Metric(*key, "all", 0.0, 0))
            self.metrics[key] = Metric(*key, "all", old.total + new.total, old.events + new.events)

    def mean(self, key: _Key | None) -> float | None:
        """The mean of a metric, None where nothing was measured."""
        metric = self.metrics.get(key) if key is not None else None
        return metric.mean if metric is not None and metric.events else None

    def find(self, kinds: Sequence[str], popularity: bool) -> _Key | None:
        """The first metric of one of these kinds: served before sequential, `recall@10` is of the kind `recall`."""
        found = [key for key in self.metrics if (key[2] == POPULARITY) == popularity]
        ranked = [(scoring != "served", kinds.index(_kind(metric)), metric, (metric, scoring, learner))
                  for metric, scoring, learner in found if _kind(metric) in kinds]  # fmt: skip
        return min(ranked)[3] if ranked else None


def _kind(metric: str) -> str:
    return metric.partition("@")[0].lower()


COLUMNS = (
    ("batch", 7), ("events", 11), ("refused", 8), ("events/s", 9), ("lag", 7), ("loss", 15), ("ranking", 15),
    ("popular", 15), ("users", 9), ("items", 8),
)  # fmt: skip


LEGEND = (
    "loss, ranking, popular (what popularity reached on the same events): in this run/since the last line; lag: from arrival to",
    "commit; counts: since the model began. A line for batches 1, 2, 4, 8 ... of this run, for each with a note and for the last.",
)


class ProgressTable:
    """Prints a line on the 1st, 2nd, 4th, 8th ... micro-batch and on every one that has a note; a `report.Listener`.

    What is said after that goes below a line for the last micro-batch. Metrics are `in this run/since the last line`. The
    loss is the first there is of LOSSES, the ranking of RANKINGS, named in the note where they change; the column
    `popular` is what popularity reached in the same measure on the same events. The note also tells what the limits have touched
    since the last line.
    """

    def __init__(self, out: IO[str] | None = None) -> None:
        stream = sys.stdout if out is None else out
        self.console = Console(file=stream, highlight=False, soft_wrap=True)
        self.total, self.since = Sums(), Sums()
        self.batches = 0
        self._next = 1
        self._measures: dict[str, str] | None = None
        self._waiting: BatchReport | None = None

    def __call__(self, report: BatchReport) -> None:
        self.batches += 1
        self.total.add(report)
        self.since.add(report)
        self._waiting = report
        if self.batches >= self._next or report.note:
            self._flush()
            while self._next <= self.batches:
                self._next *= 2

    def say(self, text: str) -> None:
        """A line between the lines: what is being waited for, what happens next, how it ended."""
        self._flush()
        self.console.print(_text(text, "italic"))

    def show(self, rows: Any) -> None:
        """Rows between the lines."""
        self._flush()
        _print(self.console, rows)

    def _flush(self) -> None:
        """The line of the last micro-batch, unless it was printed."""
        if self._waiting is not None:
            self._line(self._waiting)
            self._waiting, self.since = None, Sums()

    def _line(self, report: BatchReport) -> None:
        loss, ranking = self.total.find(LOSSES, False), self.total.find(RANKINGS, False)
        popular = self.total.find(RANKINGS if ranking else LOSSES, True)
        measures = self._head({"loss": loss, "ranking": ranking})
        speed = self.since.read / self.since.seconds if self.since.seconds > 0 else 0.0
        read = report.so_far.get("read", self.total.read)
        refused = report.so_far.get("quarantined", self.total.refused)
        cells = (
            str(report.batch_id), f"{read:,}", f"{refused:,}", f"{speed:,.0f}",
            lag_text(report.lag_seconds), self._pair(loss), self._pair(ranking), self._pair(popular),
            f"{report.users:,}", f"{report.items:,}",
        )  # fmt: skip
        line = Text(" ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True)))
        note = "; ".join(filter(None, (report.note, behind_text(report.behind), limited_text(self.since.limited), measures)))
        if note:
            line.append(f"  {printable(note)}", style="yellow")
        self.console.print(line)

    def _head(self, keys: Mapping[str, _Key | None]) -> str:
        """Legend and header before the first line; which measures the columns hold from here on, "" where it is known."""
        if self._measures is None:
            self._measures = {}
            heads = [f"{name:>{width}}" for name, width in COLUMNS]
            for text, style in (*((text, "italic") for text in LEGEND), (" ".join(heads) + "  note", "bold")):
                self.console.print(Text(text, style=style))
        names = {column: _title(key) for column, key in keys.items() if key is not None}
        new = [f"{column} is {name}" for column, name in names.items() if self._measures.get(column) != name]
        self._measures |= names
        return ", ".join(new)

    def _pair(self, key: _Key | None) -> str:
        return f"{_number(self.total.mean(key))}/{_number(self.since.mean(key))}"


def _title(key: _Key) -> str:
    metric, scoring, _ = key
    return metric if scoring == "served" else f"{metric} (sequential)"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


class ProgressLines:
    """The same for programs: one JSON object a line, `event` says which: batch, message or rows."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = sys.stdout if out is None else out

    def __call__(self, report: BatchReport) -> None:
        known = {name: value for name, value in vars(report).items() if name != "metrics"}
        metrics = [vars(one) for one in report.metrics if one.slice == "all"]
        self._line("batch", **known, metrics=metrics)

    def say(self, text: str) -> None:
        """What is being waited for, what happens next, how it ended."""
        self._line("message", text=text.strip())

    def show(self, rows: Any) -> None:
        """Rows of a table."""
        self._line("rows", rows=rows.to_pylist())

    def _line(self, event: str, **facts: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._out.write(json.dumps(_finite({"event": event, "at": at, **facts}), default=str) + "\n")
        self._out.flush()


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def progress(kind: str) -> ProgressTable | ProgressLines:
    """Who prints what happens: `table` or `json`."""
    return ProgressLines() if kind == "json" else ProgressTable()


def behind_text(behind: Mapping[str, int], most: int = 4) -> str:
    """How many messages are left, of each partition where they are few.

    >>> behind_text({"kafka://clicks/0": 1200, "kafka://clicks/1": 3})
    '1,203 behind (clicks/0 1,200, clicks/1 3)'
    """
    left = {name.partition("://")[2]: count for name, count in behind.items() if count}
    if not left:
        return ""
    largest = sorted(left, key=lambda name: -left[name])[:most]
    named = ", ".join(f"{name} {left[name]:,}" for name in largest) + (", ..." if len(left) > most else "")
    return f"{sum(left.values()):,} behind ({named})"


def lag_text(seconds: float) -> str:
    """A time span in seven characters: 0.4 s, 12 s, 3.5 min, 2.0 h, 4.1 d.

    >>> lag_text(210)
    '3.5 min'
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    for length, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    raise AssertionError(seconds)


def print_result(result: Any, out: IO[str] | None = None) -> None:
    """Print what a pipeline returned: rows as a table, a mapping as lines `name  value`, anything else as it is."""
    _print(Console(file=sys.stdout if out is None else out, highlight=False, soft_wrap=True), result)


def _print(console: Console, result: Any) -> None:
    if hasattr(result, "to_pylist"):  # pyarrow.Table
        _print_rows(console, result.column_names, result.to_pylist())
    elif hasattr(result, "to_dict") and hasattr(result, "columns"):  # pandas.DataFrame
        _print_rows(console, list(result.columns), result.to_dict("records"))
    elif isinstance(result, Mapping):
        for name, value in _pairs(result):
            console.print(Text(printable(f"{name:<24} {value}")))
    elif isinstance(result, list) and all(isinstance(row, Mapping) for row in result):
        _print_rows(console, list(result[0]) if result else [], result)
    else:
        console.print(_text(str(result)))


def _text(words: str, style: str = "") -> Text:
    return Text(printable(words, lines=True), style=style)


def _print_rows(console: Console, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A header and one line a row, as wide as the widest cell; numbers to the right."""
    cells = [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    numeric = [bool(rows) and all(isinstance(row[name], int | float) for row in rows) for name in names]
    for line, style in (([printable(name) for name in names], "bold"), *((row, "") for row in cells)):
        padded = [cell.rjust(width) if number else cell.ljust(width)
                  for cell, width, number in zip(line, widths, numeric, strict=True)]  # fmt: skip
        console.print(Text("  ".join(padded).rstrip(), style=style))


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))


def _pairs(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in mapping.items():
        if isinstance(value, Mapping) and len(value) > 1 and all(isinstance(inner, int | float) for inner in value.values()):
            pairs.append((f"{prefix}{name}", ", ".join(f"{inner} {_cell(number)}" for inner, number in value.items())))
        elif isinstance(value, Mapping):
            pairs += _pairs(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            pairs += [("" if place else f"{prefix}{name}", _cell(item)) for place, item in enumerate(value or ["none"])]
        else:
            pairs.append((f"{prefix}{name}", _cell(value)))
    return pairs
