"""Lists of actions from a seed: the same seed, the same list."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from actions import (
    BASE,
    PLACES,
    TABLES,
    Add,
    Advance,
    Check,
    Corrupt,
    Crash,
    Fill,
    Free,
    Late,
    LoseReply,
    Repair,
    Restart,
    Run,
    TakeOver,
)
from shell import WINDOW, Event

DAMAGE = (("parameters", "flip"), ("parameters", "drop"), ("parameters", "count"), ("source", "gone"), ("checkpoint", "lost"), ("commits", "lost"))


class Maker:
    """Draws actions; knows what time it is and which events there were, so that some come again."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = BASE

    def events(self) -> tuple[Event, ...]:
        """A file: few users, items and events, so that rows meet and events repeat; some late, corrected, or broken."""
        draw = self.random
        return tuple(
            Event(f"e{draw.randrange(60)}", f"u{draw.randrange(4)}", f"i{draw.randrange(5)}", float(draw.randint(1, 5)),
                  self.now + draw.choice((0, -5, -60, -WINDOW // 2, -2 * WINDOW, 90)) + draw.randrange(5),
                  draw.choice((0, 0, 0, 1, 2)), draw.random() < 0.1)
            for _ in range(draw.randint(1, 5)))  # fmt: skip

    def advance(self) -> Advance:
        seconds = self.random.choice((10, 300, 300, WINDOW, -600))
        self.now += seconds
        return Advance(seconds)

    def one(self) -> list[Any]:
        """An action, with what makes sense of it."""
        draw = self.random
        some: list[tuple[int, Callable[[], list[Any]]]] = [
            (5, lambda: [self.advance(), Add(self.events()), Run(draw.randint(1, 2))]),
            (4, lambda: [Add(self.events()), Crash(draw.choice(PLACES), draw.randint(1, 2)), Run(1)]),
            (2, lambda: [Restart()]),
            (1, lambda: [Add(self.events()), LoseReply(draw.choice((*TABLES, "snapshots")))]),
            (1, lambda: [Add(self.events()), Fill(draw.randrange(7)), Run(), Free()]),
            (1, lambda: [Corrupt(*draw.choice(DAMAGE)), Run(), Repair()]),
            # A file that is gone matters to a micro-batch that is planned and not learned, and to that one alone.
            (1, lambda: [Add(self.events()), Crash("batch_start"), Run(1), Corrupt("source", "gone"), Run(), Repair()]),
            (1, lambda: [TakeOver(), Add(self.events()), Late()]),
        ]  # fmt: skip
        [(_, make)] = draw.choices(some, [weight for weight, _ in some])
        return make()


def schedule(seed: int, parts: int = 5) -> list[Any]:
    """The list of a seed; at the end all that is mended, read and looked at."""
    maker = Maker(seed)
    listed = [Add(maker.events()), Run()]
    for _ in range(parts):
        listed += maker.one()
    return [*listed, Free(), Repair(), Run(), Run(), Restart(), Check()]
