"""A command as a job: what `spark-submit jobs/train.py` runs is what `freshet train` runs."""

from __future__ import annotations

from collections.abc import Sequence

from freshet.cli.commands import main


def job(name: str, argv: Sequence[str]) -> int:
    """Run the command `name` with these arguments and return its exit code."""
    try:
        main.commands[name].main(args=list(argv), prog_name=f"{name}.py", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
