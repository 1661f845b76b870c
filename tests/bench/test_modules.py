"""Every benchmark can be imported, so that a change of the library it measures does not leave it behind."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCH.glob("*.py")))
def test_a_benchmark_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    try:
        assert importlib.import_module(name).__doc__
    finally:  # their short names must not stand in the way of others
        for made in set(sys.modules) - before:
            if (BENCH / f"{made}.py").exists():
                del sys.modules[made]
