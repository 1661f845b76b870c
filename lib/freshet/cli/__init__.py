"""The command line: `freshet ...` in a shell, and the same commands as jobs for spark-submit."""

from __future__ import annotations

from freshet.cli.commands import main
from freshet.cli.job import job

__all__ = ["job", "main"]
