"""Compares the jars that Maven brought for the tests with jars.sha256: `python tests/kafka/pinned.py FOLDER`.

`--write` makes the list anew, after the versions in broker.xml or connector.xml have changed.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

LIST = Path(__file__).with_name("jars.sha256")


def found(folder: Path) -> dict[str, str]:
    """Jar -> sha256, of all below the folder."""
    jars = sorted(folder.rglob("*.jar"))
    return {jar.relative_to(folder).as_posix(): hashlib.sha256(jar.read_bytes()).hexdigest() for jar in jars}


def pinned() -> dict[str, str]:
    """The same, as it should be."""
    pairs = [line.split() for line in LIST.read_text(encoding="utf-8").splitlines()]
    return {name: digest for digest, name in pairs}


def differences(folder: Path) -> list[str]:
    """Names of jars that are missing, too many, or not what they should be."""
    here, wanted = found(folder), pinned()
    return sorted(name for name in {*here, *wanted} if here.get(name) != wanted.get(name))


if __name__ == "__main__":
    chosen = Path(sys.argv[1])
    if "--write" in sys.argv:
        LIST.write_text("".join(f"{digest}  {name}\n" for name, digest in found(chosen).items()), encoding="utf-8")
    elif wrong := differences(chosen):
        sys.exit(f"These jars are not as tests/kafka/jars.sha256 has them: {', '.join(wrong)}.")
