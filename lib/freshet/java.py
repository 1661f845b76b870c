"""Which Java: JAVA_HOME, then PATH, at least version 17; asked before anything of Spark is imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from freshet.errors import EngineRefused

WANTED = 17
INSTALL = "apt install openjdk-17-jre-headless (Debian, Ubuntu) or brew install openjdk@17 (Homebrew) brings it."


@dataclass(frozen=True)
class Java:
    """A Java that was found: its program, its version and where the search met it."""

    program: Path
    version: int
    found_in: str


def find_java(env: Mapping[str, str] | None = None) -> Java:
    """The Java that Spark shall use, or EngineRefused with what was looked at and the package to install.

    A JAVA_HOME that is wrong does not hide a Java on PATH that is right.
    """
    env = os.environ if env is None else env
    looked: list[str] = []
    for place, program in _candidates(env):
        version = _version(program)
        if version is not None and version >= WANTED:
            return Java(program, version, place)
        looked.append(f"{place} has {f'Java {version}' if version else 'none that starts'} ({program})")
    seen = " and ".join(looked) or "neither JAVA_HOME nor PATH has one"
    what = f"Freshet needs Java {WANTED} or newer, but {seen}:"
    raise EngineRefused(what, remedy=INSTALL, wanted=WANTED, looked=tuple(looked))


def use_java() -> Java:
    """Find Java and make sure that Spark, which looks at JAVA_HOME first, takes the same one."""
    java = find_java()
    if java.found_in == "PATH":
        os.environ.pop("JAVA_HOME", None)
    return java


def _candidates(env: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    home = env.get("JAVA_HOME")
    if home:
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    on_path = shutil.which("java", path=env.get("PATH", os.defpath))
    if on_path:
        yield "PATH", Path(on_path)


def _version(program: Path) -> int | None:
    """Feature version that `java -version` prints (1.8.0 is 8), None when it does not start."""
    try:
        answer = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else None


@cache
def java_class(jvm: Any, name: str) -> Any:
    """The class of this full name in a running JVM, asked for once. `jvm.org.apache.spark.Name` asks at every dot for a class
    of what stands before it, and Java looks through all jars to find none: 2 to 6 ms a name, a fifth of a micro-batch together."""
    return getattr(jvm, name)


def main() -> int:
    """Print the JAVA_HOME to use (empty: the Java on PATH), or the refusal; for `make`, with nothing installed yet."""
    try:
        java = find_java()
    except EngineRefused as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(java.program.parent.parent if java.found_in == "JAVA_HOME" else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
