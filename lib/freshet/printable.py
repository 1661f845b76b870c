"""What others wrote, as a terminal may show it: nothing in an id, a title or a file's name speaks to the terminal itself.

>>> printable("i\\x1b[2J7"), printable("two\\nlines"), printable("two\\nlines", lines=True)
('i\\\\x1b[2J7', 'two\\\\nlines', 'two\\nlines')
"""

from __future__ import annotations

import re

# Control characters (ESC moves the cursor, clears screens, sets titles), line ends that are none to Python, marks that turn the
# direction of what follows, and halves of characters, which no output takes. Spark and cleaning refuse them in ids of events, not
# in what was refused, nor in titles and ids of the table `items`.
_SPEAKS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, lines: bool = False) -> str:
    """The text with such characters written out as Python writes them; with `lines` its line ends and tabs stay."""
    return _SPEAKS.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _written(found[0]), text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
