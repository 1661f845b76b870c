"""A learner in a process of its own, watched from outside: what it has committed, and what it takes of the machine (Linux)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from freshet.demo.dirt import Dirt
from freshet.demo.truth import World
from freshet.demo.writer import generate_all

PROC = Path("/proc")
CLEANED = 4.0  # seconds within which Spark has let go of what was collected
MB = 2**20


@contextmanager
def scratch_folder(kept: Path | None) -> Iterator[Path]:
    """A folder of its own that goes with the run, or one that stays, for another run to go on from."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="freshet-soak-") as scratch:
        yield Path(scratch)


def write_events(folder: Path, batches: int, events: int, seed: int) -> None:
    """One file for each micro-batch, some dirt in them; all of them or, after an end halfway, all of them again."""
    if folder.exists():
        return
    half = folder.with_name(f"{folder.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    world = World(users=2000, items=500, seed=seed, events=batches * events)
    generate_all(world, half, batches * events, events, Dirt.spread(0.02))
    half.rename(folder)


def start(
    command: list[str], sets: Mapping[str, object], said: Path, more: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A command of freshet as the leader of a session, what it says in the file `said`."""
    program = [sys.executable, "-c", "from freshet.cli import main; main()", *command]
    program += [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    with said.open("wb") as told:
        return subprocess.Popen(program, stdout=told, stderr=told, start_new_session=True, env={**os.environ, **(more or {})})


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a learner and its Java, if it runs; Spark's Python workers end with these."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """However this ends, the process does too: as leader of a session it does not hear of ctrl-C."""
    try:
        yield process
    finally:
        end(process)


def committed(model: Path) -> int:
    """Micro-batches that have ended: the newest in the checkpoint counts them, for Spark keeps the last hundred only."""
    names = [path.name for path in (model / "_checkpoint" / "commits").glob("*") if path.name.isdigit()]
    return max(map(int, names), default=-1) + 1


def session_of(pid: int) -> dict[int, int]:
    """Resident bytes by process of the session that a process leads: Spark gives its Python workers a group of their own."""
    found = {}
    for folder in PROC.iterdir() if PROC.is_dir() else []:
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile, or is no process
            continue
        if folder.name.isdigit() and int(words[3]) == pid:
            found[int(folder.name)] = int(words[21]) * os.sysconf("SC_PAGE_SIZE")
    return found


def memory(pid: int) -> int:
    """Resident bytes of a session."""
    return sum(session_of(pid).values())


def java_of(pid: int) -> int | None:
    """The Java process of a session."""
    return next((one for one in session_of(pid) if name_of(one) == "java"), None)


def name_of(pid: int) -> str:
    """The name of a process, empty when it has ended."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def look(pid: int, root: Path, temporary: Path) -> dict[str, float]:
    """What the session of a process takes now, and what lies in two folders."""
    resident = session_of(pid)
    java = [one for one in resident if name_of(one) == "java"]
    files, size = under(root)
    scratch, scratch_size = under(temporary)
    return {
        "resident": sum(resident.values()) / MB, "java": sum(resident[one] for one in java) / MB,
        "python": resident.get(pid, 0) / MB, "workers": sum(b for one, b in resident.items() if one != pid and one not in java) / MB,
        "handles": sum(entries(one, "fd") for one in resident), "threads": sum(entries(one, "task") for one in resident),
        "files": files, "bytes": size / MB, "temporary": scratch, "temporary_bytes": scratch_size / MB,
    }


def entries(pid: int, name: str) -> int:
    """Open files (fd) or threads (task) of a process; 0 when it has ended."""
    try:
        return sum(1 for _ in (PROC / str(pid) / name).iterdir())
    except OSError:
        return 0


def under(folder: Path) -> tuple[int, int]:
    """Files under a folder and their bytes; what goes while it is counted is not counted."""
    count = size = 0
    try:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                more, bytes_ = under(Path(entry.path))
                count, size = count + more, size + bytes_
            else:
                size += entry.stat(follow_symlinks=False).st_size
                count += 1
    except FileNotFoundError:
        pass
    return count, size


def java_look(pid: int) -> dict[str, float]:
    """Java's objects that are in use, after a full collection, and its classes, in MB; nothing where there is no jcmd."""
    home, java = os.environ.get("JAVA_HOME"), java_of(pid)
    tool = f"{home}/bin/jcmd" if home else shutil.which("jcmd")
    if java is None or tool is None or not Path(tool).exists():
        return {}
    said = []
    for what in ("GC.class_histogram", "GC.class_histogram", "GC.heap_info"):  # each histogram is after a full collection
        said.append(subprocess.run([tool, str(java), what], capture_output=True, text=True, check=False).stdout)
        time.sleep(CLEANED / 2)  # Spark lets go of what belonged to objects that the first has collected, files and all
    said = said[1:]
    live, classes = re.search(r"^Total\s+\d+\s+(\d+)", said[0], re.MULTILINE), re.search(r"Metaspace\s+used (\d+)K", said[1])
    return {"live": int(live[1]) / MB, "classes": int(classes[1]) / 1024} if live and classes else {}
