"""The bars: what each figure must reach, read from bars.yaml, and the verdict on figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from figures import Figure

MOST, LEAST = "most", "least"


@dataclass(frozen=True)
class Bar:
    """`limit` is the largest value allowed (direction most) or the smallest (least); `why` says what it stands for."""

    limit: float
    direction: str
    why: str

    def met(self, value: float) -> bool:
        """Whether a value reaches the bar; no number never does."""
        if math.isnan(value):
            return False
        return value <= self.limit if self.direction == MOST else value >= self.limit

    def __str__(self) -> str:
        return f"at {self.direction} {self.limit:g}"


@dataclass(frozen=True)
class Verdict:
    """A figure's bar, if it has one, and whether it was missed."""

    bar: Bar | None
    missed: bool

    @property
    def word(self) -> str:
        if self.bar is None:
            return ""
        return "MISSED" if self.missed else "met"


class Bars:
    """Bars by name; a name that ends in * holds for every figure that fits, an exact name goes before it."""

    def __init__(self, bars: Mapping[str, Bar]) -> None:
        self._bars = dict(bars)

    @classmethod
    def load(cls, path: Path) -> Bars:
        """Read a file of bars; raises ValueError naming the first that is not one."""
        found = {}
        for name, given in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).items():
            if not isinstance(given, dict) or set(given) != {"limit", "direction", "why"} or given["direction"] not in (MOST, LEAST):
                raise ValueError(f"{path.name}: {name} wants limit, direction ({MOST} or {LEAST}) and why")
            found[name] = Bar(float(given["limit"]), given["direction"], str(given["why"]))
        return cls(found)

    def of(self, name: str) -> Bar | None:
        """The bar of a figure."""
        if name in self._bars:
            return self._bars[name]
        return next((bar for pattern, bar in self._bars.items() if "*" in pattern and fnmatchcase(name, pattern)), None)

    def judge(self, figures: Iterable[Figure]) -> dict[str, Verdict]:
        """Verdict by figure name. A figure that could not be measured is not missed: it says why it is missing."""
        found = {}
        for figure in figures:
            bar = self.of(figure.name)
            found[figure.name] = Verdict(bar, bar is not None and figure.value is not None and not bar.met(figure.value))
        return found
