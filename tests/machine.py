"""What the kernel says of a process and its children (Linux): where they listen, and what everybody can read of how they were started."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
PROC = Path("/proc")
LISTEN = "0A"
needs_proc = pytest.mark.skipif(not (PROC / "self/task").exists(), reason="no /proc on this system")


def family(pid: int) -> Iterator[int]:
    """The process and all that came of it, as far as they live."""
    yield pid
    with suppress(OSError):  # it may end while it is looked at
        for thread in (PROC / str(pid) / "task").iterdir():
            children = ""
            with suppress(OSError):
                children = (thread / "children").read_text()
            for child in children.split():
                yield from family(int(child))


def command_lines(pid: int) -> str:
    """What `ps` shows anybody of these processes."""
    found = ""
    for one in family(pid):
        with suppress(OSError):
            found += (PROC / str(one) / "cmdline").read_text(errors="replace")
    return found


def listening(pid: int) -> list[Address]:
    """The addresses on which these processes listen for TCP; an IPv4 address in the clothes of IPv6 is IPv4."""
    mine = set(_sockets(pid))
    found: list[Address] = []
    for name in ("tcp", "tcp6"):
        with suppress(OSError):  # a system without IPv6
            rows = [line.split() for line in (PROC / "net" / name).read_text().splitlines()[1:]]
            found += [_address(row[1].split(":")[0]) for row in rows if row[3] == LISTEN and row[9] in mine]
    return found


def _sockets(pid: int) -> Iterator[str]:
    for one in family(pid):
        with suppress(OSError):
            for handle in (PROC / str(one) / "fd").iterdir():
                with suppress(OSError):
                    target = str(handle.readlink())
                    if target.startswith("socket:["):
                        yield target[8:-1]


def _address(text: str) -> Address:
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(packed) == 4:
        return ipaddress.IPv4Address(socket.inet_ntop(socket.AF_INET, packed))
    found = ipaddress.IPv6Address(socket.inet_ntop(socket.AF_INET6, packed))
    return found.ipv4_mapped or found
