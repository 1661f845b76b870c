"""Measures Freshet against its floors and its peers, holds every figure against bench/bars.yaml, writes docs/benchmarks.md.

    python bench/run.py                         everything that needs no data
    python bench/run.py --only kernels,head     some of it
    python bench/run.py --quick                 few pairs: a look, not a measurement
    python bench/run.py --data FOLDER           the public sets too, one folder each

Exits 1 when a bar is missed. A figure is a ratio measured in one run, pairs interleaved; seconds stand beside it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

from bars import Bars
from figures import Options, Result
from report import Written, print_figures, write

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"

# Name -> (module, heading). A module has `measure(options) -> Result`; it is imported when it is run.
BENCHMARKS: dict[str, tuple[str, str]] = {
    "small": ("speed_small", "Micro-batches of 1,000 events"),
    "catchup": ("speed_catchup", "Catching up with micro-batches of 200,000 events"),
    "blend": ("speed_blend", "What the default model costs"),
    "kernels": ("kernels", "Kernels on one core"),
    "head": ("head", "Cost follows the batch, not the model"),
    "quality": ("quality", "Shards and rounds"),
    "restart": ("restart", "Restart"),
    "deciding": ("deciding", "What deciding costs"),
    "topk": ("topk", "Lists for everybody"),
    "real": ("real", "Public sets"),
    "kafka": ("kafka", "From Kafka"),
    "labels": ("labels", "Clicked or not"),
    "batch": ("batch", "Several passes over the same events"),
    "scale": ("scale", "Twenty million ratings, and MLlib"),
    "daily": ("daily", "As events come, or at midnight"),
    "drift": ("drift", "Changes, and what is done about them"),
    "attacks": ("attacks", "Fake accounts"),
    "limits": ("limits", "What limits cost"),
    "hot": ("hot_key", "Half of all events on one item"),
}
NEEDS_DATA = ("quality", "real", "labels", "batch", "daily")


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 0, 1 when a bar was missed, 2 when the command line is wrong."""
    chosen = parser().parse_args(arguments)
    names = [name for text in chosen.only or [] for name in text.split(",")] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"run.py: no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    bars = Bars.load(HERE / "bars.yaml")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="freshet-bench-", dir=chosen.scratch) as scratch:
        options = Options(chosen.quick, Path(scratch), chosen.data)
        for name in names:
            if name in NEEDS_DATA and chosen.data is None:
                print(f"\n{name}: left out, it needs --data FOLDER")
                continue
            missed += run_one(name, options, bars, chosen.document)
    print(f"\n{missed} bars missed" if missed else "\nno bar missed")
    return 1 if missed else 0


def run_one(name: str, options: Options, bars: Bars, document: Path) -> int:
    """Run one benchmark, print and write it; the number of bars missed."""
    module, heading = BENCHMARKS[name]
    start = time.monotonic()
    result: Result = importlib.import_module(module).measure(options)
    judged = bars.judge(result.figures)
    print_figures(name, heading, result, judged)
    # With data some find more than without: a command that does not say so would not give these figures again.
    command = f"make bench ARGS='--only {name}{' --quick' if options.quick else ''}{' --data FOLDER' if options.data else ''}'"
    write(document, Written(name, heading, command, time.monotonic() - start), result, judged, list(BENCHMARKS))
    return sum(verdict.missed for verdict in judged.values())


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", action="append", metavar="NAME,...", help=", ".join(BENCHMARKS))
    made.add_argument("--quick", action="store_true", help="few pairs")
    made.add_argument("--data", type=Path, metavar="FOLDER", help="folder of the public sets")
    made.add_argument("--scratch", type=Path, metavar="FOLDER", help="where files may be written (default: the system's)")
    made.add_argument("--document", type=Path, default=DOCUMENT, metavar="FILE", help="default: docs/benchmarks.md")
    return made


if __name__ == "__main__":
    sys.exit(main())
