"""Figures for people: on the terminal, and as a section of docs/benchmarks.md that the next run of it replaces."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numba
import numpy as np
import pyspark
from bars import Verdict
from figures import Figure, Result, shown

HEAD = """\
# Benchmarks

Written by `make bench` (and `make soak`); each section says when, where and by which command. Figures are ratios
measured inside one run, pairs interleaved: median [95 % interval of the median]. Seconds stand beside them as context
and mean nothing on another machine. Bars are in `bench/bars.yaml`; default settings throughout unless a row says so.
FOLDER is where the public sets lie, one folder each.
"""


@dataclass(frozen=True)
class Written:
    """Which section is written: its name, heading, the command and the seconds it took."""

    name: str
    heading: str
    command: str
    seconds: float


def machine() -> str:
    """The machine in one line: cores, memory, Python, Java, the libraries that matter."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores ({processor()}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, Java {java()}, pyspark {pyspark.__version__}, numpy {np.__version__}, "
        f"numba {numba.__version__}; load average {load:.1f}"
    )


def processor() -> str:
    """The name of the processor as the system has it."""
    try:
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def java() -> str:
    """Version of the Java that Spark takes."""
    home = os.environ.get("JAVA_HOME")
    try:
        said = subprocess.run([f"{home}/bin/java" if home else "java", "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return "none"
    found = re.search(r'version "([^"]+)"', said.stderr)
    return found[1] if found else "unknown"


def print_figures(name: str, heading: str, result: Result, judged: Mapping[str, Verdict]) -> None:
    """The figures and tables of one benchmark."""
    print(f"\n{name}: {heading}")
    for figure in result.figures:
        verdict = judged[figure.name]
        bar = f"{verdict.bar} {verdict.word}" if verdict.bar else ""
        print(f"  {figure.what:<68} {value_text(figure):<26} {bar:<24} {figure.beside}", flush=True)
    for table in result.tables:
        print(f"\n  {table.title}")
        widths = [max(len(row[i]) for row in table.rows) for i in range(len(table.rows[0]))]
        for row in table.rows:
            print("    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), flush=True)


def value_text(figure: Figure) -> str:
    """`1.23 [1.20 .. 1.27]`, or why there is none."""
    if figure.value is None:
        return f"missing: {figure.missing}"
    if figure.low is None or figure.high is None:
        return shown(figure.value, figure.digits)
    value, low, high = (shown(part, figure.digits) for part in (figure.value, figure.low, figure.high))
    return f"{value} [{low} .. {high}]"


def write(path: Path, written: Written, result: Result, judged: Mapping[str, Verdict], order: Sequence[str]) -> None:
    """Put the section into the document, over the one of the same name, sections in the registry's order."""
    sections = read_sections(path)
    sections[written.name] = section(written, result, judged)
    names = [name for name in order if name in sections] + [name for name in sections if name not in order]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "".join(f"\n<!-- {name} -->\n{sections[name]}" for name in names), encoding="utf-8")


def read_sections(path: Path) -> dict[str, str]:
    """The sections of the document as it is."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = re.split(r"^<!-- (\w+) -->\n", text, flags=re.MULTILINE)
    return {name: body.rstrip("\n") + "\n" for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def section(written: Written, result: Result, judged: Mapping[str, Verdict]) -> str:
    """One benchmark in Markdown."""
    lines = [f"## {written.heading}", "", result.protocol, ""]
    rows = [["what", "figure", "bar", "", "beside"]]
    for figure in result.figures:
        verdict = judged[figure.name]
        rows.append([figure.what, value_text(figure), str(verdict.bar) if verdict.bar else "", verdict.word, figure.beside])
    lines += [*markdown(rows), ""]
    for table in result.tables:
        lines += [f"{table.title}:", "", *markdown(table.rows), ""]
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines += [f"`{written.command}`, {when}, {written.seconds:.0f} s, on {machine()}.", ""]
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; the first row is its heading."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
