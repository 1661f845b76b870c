"""What Freshet refuses, as facts: every error carries attributes, and its message says where, got, wanted, way out.

Exit codes: 0 ok, 1 finished but a gate or check failed, 2 refused or crashed.
"""

from __future__ import annotations


class FreshetError(Exception):
    """Base of every named refusal.

    `what` says the fact, `remedy` the way out; every keyword becomes an attribute that tests and callers read.
    """

    exit_code = 2

    def __init__(self, what: str, *, remedy: str = "", **facts: object) -> None:
        self.what = what
        self.remedy = remedy
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)
        super().__init__(f"{what}{'' if remedy.startswith(chr(10)) else ' '}{remedy}".strip())


class SettingsError(FreshetError):
    """Settings were refused; `problems` lists every one of them."""


class UnknownName(FreshetError):
    """A registry was asked for a name it does not hold; `known` lists the names, `nearest` the likely one."""


class SourceChanged(FreshetError):
    """A file of an already planned micro-batch is gone, shrunk or rewritten (`path`, `planned`, `found`)."""


class CheckpointRefused(FreshetError):
    """The streaming checkpoint does not belong to the tables (`reason`: lost, older, newer, foreign, changed)."""


class AlreadyRunning(FreshetError):
    """Another learner holds this model (`root`, `holder`)."""


class Fenced(FreshetError):
    """Another learner with a higher epoch has taken this model over (`epoch`, `winner`)."""


class BatchRefused(FreshetError):
    """A micro-batch was not learned (`reason`, `batch_id`, `counts`); a snapshot row of kind `refused` tells."""


class StateDamaged(FreshetError):
    """The tables contradict themselves: a digest, a base or a path that does not verify (`table`, `version`)."""


class CheckFailed(FreshetError):
    """A verification ran to its end and found a difference."""

    exit_code = 1


class EngineRefused(FreshetError):
    """The Spark session cannot be trusted or did not start (`setting`, `wanted`, `found`, or `jar`)."""


class SourceRefused(FreshetError):
    """A source does not have the shape the settings say (`path`, `wanted`, `found`)."""


class StoreFailed(FreshetError):
    """The engine could not write a table (`table`, `action`, `version`, `cause`); nothing was committed."""
