"""Writes the *.lock files beside it from pyproject.toml and constraints.txt: `make lock`.

constraints.txt says which version of each package; a lock file says which of them an extra needs, with the sha256 of every file the
index holds of each, of all platforms and Pythons. Files build on each other: bench.lock holds what the benchmarks need beyond those
before it, so no hash stands in two places.

The index is the one pip is configured with. It is asked by uv, whose resolution holds for every Python from 3.11 on; its name goes
into no file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
# In the order in which they build on each other: each is an extra of pyproject.toml, but for `run`, what Freshet itself needs.
LOCKS = ("build", "run", "test", "bench", "audit", "vowpalwabbit", "lock")
BROUGHT = {"pip"}  # in every environment from its beginning; pip-audit names it
HEAD = "# Made by `make lock` from pyproject.toml and constraints.txt: what {} adds to the locks before it.\n"
_WINDOWS = "sys_platform == 'win32'"
ENTRY = re.compile(r"^(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>\S+)(?P<marker> ;[^\\\n]*)?", re.MULTILINE)


def plain(name: str) -> str:
    """A name as indexes compare it: py_Thing.x -> py-thing-x."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Package -> version of a list of pins."""
    pairs = [line.split("==") for line in text.splitlines() if line and not line.startswith("#")]
    return {plain(name): version for name, version in pairs}


def entries(text: str) -> dict[str, str]:
    """Package -> its lines, of what uv prints with hashes."""
    blocks = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return {found["name"]: block for block in blocks if (found := ENTRY.match(block))}


def shares(wanted: dict[str, str], pinned: dict[str, str]) -> dict[str, list[str]]:
    """Lock file -> the packages it adds, from what uv resolved for each.

    A package without a pin is an error, but for one that only Windows wants: Freshet does not run there.
    """
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for lock, text in wanted.items():
        names = {match["name"]: match["marker"] or "" for match in ENTRY.finditer(text)}
        unpinned = [name for name, marker in names.items() if name not in {*pinned, *BROUGHT} and _WINDOWS not in marker]
        if unpinned:
            raise SystemExit(f"Not in constraints.txt, and wanted by {lock}: {', '.join(unpinned)}.")
        found[lock] = sorted((set(names) & set(pinned)) - taken)
        taken |= set(names)
    left = sorted(set(pinned) - taken)
    if left:
        raise SystemExit(f"In constraints.txt, and wanted by nothing: {', '.join(left)}.")
    return found


def wishes(lock: str) -> str:
    """What pyproject.toml asks for, a requirement a line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = [] if lock == "build" else project["dependencies"]
    return "\n".join([*own, *project["optional-dependencies"].get(lock, [])])


def uv(text: str, *arguments: str) -> str:
    """What `uv pip compile` makes of a list of requirements, asking the index that pip is configured with."""
    program = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    index = os.environ.get("PIP_INDEX_URL") or shown.stdout.strip()
    env = os.environ | ({"UV_DEFAULT_INDEX": index} if index else {}) | {"UV_NO_CONFIG": "1"}
    options = ("--universal", "--python-version", "3.11", "--system-certs", "--no-header", "--no-annotate", "--quiet")
    command = [program, "pip", "compile", "-", *options, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, input=text, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit("uv could not resolve; the lines above say why.")
    return done.stdout


def main() -> None:
    constraints = ROOT / "constraints.txt"
    text = constraints.read_text(encoding="utf-8")
    hashed = entries(uv(text, "--no-deps", "--generate-hashes"))
    wanted = {lock: uv(wishes(lock), "--constraint", str(constraints)) for lock in LOCKS}
    for lock, names in shares(wanted, pins(text)).items():
        lines = HEAD.format(lock) + "\n".join(hashed[name].rstrip() for name in names) + "\n"
        (HERE / f"{lock}.lock").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
