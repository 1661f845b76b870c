"""Java's warning is kept back, and nothing else that a process says; in processes of their own, without Spark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freshet.engine.banner import BANNER, _shown

LIB = Path(__file__).parents[2] / "lib"
CODE = """
import subprocess, sys
from freshet.engine.banner import without_banner
child = "import sys; sys.stderr.write(sys.argv[1]); sys.stderr.flush(); sys.stdin.read(); sys.stderr.write('late\\\\n')"
with without_banner():
    print("mine", file=sys.stderr)
    started = subprocess.Popen([sys.executable, "-c", child, sys.argv[1]], stdin=subprocess.PIPE)
    {inside}
started.communicate(b"")
import threading
[one.join() for one in threading.enumerate() if one.name == "freshet-stderr"]
print("mine after", file=sys.stderr)
"""


@pytest.mark.parametrize("inside", ["pass", "started.communicate(b''); raise ValueError('odd')"])
def test_only_the_warning_is_kept_back(inside: str) -> None:
    said = f"first\n{BANNER.decode()}\nsecond {BANNER.decode()}\n"
    code = CODE.replace("{inside}", inside)
    env = {**os.environ, "PYTHONPATH": str(LIB)}
    done = subprocess.run([sys.executable, "-c", code, said], env=env, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert lines[:4] == ["mine", "first", f"second {BANNER.decode()}", "late"]
    assert lines[-1] == ("mine after" if inside == "pass" else "ValueError: odd")


def test_a_password_inside_of_an_address_is_kept_back() -> None:
    assert _shown(b"at hdfs://ann:canary@host/model\n") == b"at hdfs://[redacted]@host/model\n"
    assert _shown(b"ann@host: \xff\n") == b"ann@host: \xff\n"  # what is no text passes as it is
