"""Settings of learners with other settings that are fed the same micro-batches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from freshet.settings.fields import Section, Texts

MOST = 2
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


def _few(learners: Mapping[str, Texts]) -> Mapping[str, Texts]:
    wrong = [name for name in learners if not _NAME.fullmatch(name)]
    if wrong or len(learners) > MOST:
        wanted = f"at most {MOST} learners, each under a name of small letters, digits, - and _ (at most 31, a letter first)"
        raise PydanticCustomError("learners", "{wanted}", {"wanted": wanted})
    return learners


class ChallengerSettings(Section):
    """What else is learned beside the model, and where it begins."""

    learners: Annotated[Mapping[str, Texts], AfterValidator(_few)] = {}
    begin: Literal["auto", "events", "nothing"] = "auto"
