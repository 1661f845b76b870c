"""Java's warning about the vector module, which Spark's launcher asks for, kept from people: it is printed at every start,
cannot be switched off, and nothing can be done about it. And passwords inside of addresses."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from freshet.settings.secrets import redacted

BANNER = b"WARNING: Using incubator modules: jdk.incubator.vector"


@contextmanager
def without_banner() -> Iterator[None]:
    """A process that is started while this is open writes to our standard error as before, but for that line.

    It writes into a pipe, for as long as it lives; a thread passes on each line. Once this process has ended, nobody is
    left to read it.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # a daemon without standard error
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    passing = threading.Thread(target=_pass_on, args=(reading, terminal), name="freshet-stderr", daemon=True)
    passing.start()
    try:
        yield
    except BaseException:
        _restore(terminal, writing)
        passing.join(1.0)  # what it said last explains the error, and comes before it
        raise
    _restore(terminal, writing)


def _restore(terminal: int, writing: int) -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
    os.dup2(terminal, 2)
    os.close(writing)


def _pass_on(reading: int, terminal: int) -> None:
    # The terminal may go before the process does.
    with suppress(OSError), os.fdopen(reading, "rb") as lines, os.fdopen(terminal, "wb", buffering=0) as out:
        for line in lines:
            if line.rstrip() != BANNER:
                out.write(_shown(line) if b"@" in line else line)


def _shown(line: bytes) -> bytes:
    """A line without user and password inside of addresses: Java names the place that it could not reach."""
    text: str = redacted(line.decode("utf-8", "surrogateescape"))
    return text.encode("utf-8", "surrogateescape")
