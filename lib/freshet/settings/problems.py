"""What is wrong with settings, all of it at once: where, what was given, what was wanted, what was likely meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from freshet.errors import SettingsError


@dataclass(frozen=True)
class Problem:
    """One refused setting.

    `where` is file:line, the variable or the flag, "" if nowhere; `nearest` the known name it resembles.
    """

    key: str
    where: str
    given: str
    wanted: str
    nearest: str = ""

    def __str__(self) -> str:
        hint = f" (did you mean {self.nearest}?)" if self.nearest else ""
        key = f"{self.key}: " if self.key and not self.where.endswith(f" {self.key}") else ""
        where = f"{self.where}: " if self.where else ""
        return f"{where}{key}got {self.given}, wanted {self.wanted}{hint}"


def refuse(problems: Sequence[Problem]) -> None:
    """Raise SettingsError with every problem, in the order given; return when there are none."""
    if not problems:
        return
    count = "1 setting was" if len(problems) == 1 else f"{len(problems)} settings were"
    lines = "\n".join(f"  {problem}" for problem in problems)
    raise SettingsError(
        f"{count} refused; nothing was started:\n{lines}",
        remedy="\n`freshet config show --origin` prints every setting and where it comes from.",
        problems=tuple(problems),
    )
