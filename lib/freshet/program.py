"""How `freshet` is called from here, and by whom: what is printed to be pasted must be found by the shell it is pasted into."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """`freshet` where PATH has it, else the path of the script beside this Python, as one word of a shell."""
    script = Path(sys.executable).with_name("freshet")
    if shutil.which("freshet") or not script.exists():
        return "freshet"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


def actor() -> str:
    """Who asks, for decisions and requests: the login name, or uid-N where this machine has no name for the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def quoted(text: str) -> str:
    """Text as one word of a shell, in double quotes where these leave it as it is: SQL has single ones of its own."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'
