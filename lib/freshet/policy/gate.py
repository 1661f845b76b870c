"""The gate: may the newest version take the place of the published one?

    d_b = sum over the events of micro-batch b of (head - published), of an error (published - head)
    m   = sum_b d_b / sum_b n_b
    se  = sqrt(B / (B - 1) * sum_b (d_b - m n_b)^2) / sum_b n_b               ratio estimator, micro-batches as clusters
    low, high = (m -+ t * se) / |published mean|                              t: Student, B - 1 degrees of freedom

Both were made before the events they are scored on, and they are scored on the same ones. Not worse: low > -margin. Worse:
high < -margin. Ratio estimator: Cochran, Sampling Techniques (1977), section 6.3; non-inferiority: Piaggio et al., JAMA 308
(2012). Looks come at min_events and whenever the sample has doubled, so that looking often does not decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.stats import t as student

from freshet.settings import GateSettings

PUBLISH, HOLD, REFUSE = "publish", "hold", "refuse"
COVERAGE, NEW_USERS = "coverage", "new users"
ERRORS = ("rmse", "mae", "logloss", "hinge", "perceptron", "softmax")  # the smaller the better
ALL = "all"


@dataclass(frozen=True)
class Paired:
    """Sums over the same events of one micro-batch, by slice: (of the head, of the published version, events); and of what is
    guarded beside it, by name, of which more is better."""

    metric: str
    sums: Mapping[str, tuple[float, float, int]]
    guards: Mapping[str, tuple[float, float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Gap:
    """How much better the head is, as a share of the published version's value: mean and interval; negative is worse."""

    head: float
    published: float
    gap: float
    low: float
    high: float
    events: int
    batches: int


@dataclass(frozen=True)
class Verdict:
    """What was decided, the rule that decided, why in words, and the numbers it rests on."""

    kind: str
    rule: str
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def judge(seen: Sequence[Paired], learned: int, norm_growth: Callable[[], float], rules: GateSettings) -> Verdict | None:
    """`weigh`, and None while it is not time to look: `norm_growth`, which takes all rows of items, is not asked for then."""
    events = [paired.sums[ALL][2] for paired in seen]
    return weigh(seen, learned, norm_growth(), rules) if _time_to_look(events, rules.min_events) else None


def weigh(seen: Sequence[Paired], learned: int, norm_growth: float, rules: GateSettings) -> Verdict:
    """The verdict over the micro-batches scored since the published version became it.

    `learned`: events the published version had learned; `norm_growth`: how much larger the head's vectors are than its own, on
    the root of the mean square.
    """
    whole = compare(seen, ALL, rules.confidence)
    if whole.events < rules.min_events:
        return Verdict(HOLD, "sample", f"{whole.events} events were scored by both, {rules.min_events} are wanted")
    evidence: dict[str, Any] = {"metric": seen[-1].metric, "norm_growth": round(norm_growth, 4), **rounded(whole)}
    if learned < rules.min_events:
        return Verdict(PUBLISH, "first", f"what is published has learned from {learned} events only", evidence)
    if whole.batches < rules.min_batches:
        return Verdict(HOLD, "sample", f"{whole.batches} micro-batches were scored, {rules.min_batches} are wanted", evidence)
    if whole.high < -rules.margin:
        return Verdict(REFUSE, "worse", in_words(whole, seen[-1].metric), evidence)
    if norm_growth > rules.max_norm_growth:
        return Verdict(HOLD, "norm_growth", f"vectors have grown {norm_growth:.3g} times", evidence)
    for name in ("new_user", "known_user"):
        part = compare(seen, name, rules.confidence)
        evidence[name] = rounded(part)
        if part.events >= rules.min_events / 4 and part.high < -rules.slice_margin:
            return Verdict(HOLD, f"slice {name}", f"{in_words(part, seen[-1].metric)} for {name}", evidence)
    lost = _lost(seen, rules, evidence)
    if lost is not None:
        return lost
    if whole.low > -rules.margin:
        return Verdict(PUBLISH, "not worse", in_words(whole, seen[-1].metric), evidence)
    return Verdict(HOLD, "unsure", in_words(whole, seen[-1].metric), evidence)


def _lost(seen: Sequence[Paired], rules: GateSettings, evidence: dict[str, Any]) -> Verdict | None:
    """The verdict where something guarded is lost for certain by more than its margin; `evidence` takes the numbers."""
    for name, margin in ((COVERAGE, rules.guards.coverage), (NEW_USERS, rules.guards.new_users)):
        if margin is None:
            continue
        mine = [Paired(name, {ALL: paired.guards[name]}) for paired in seen if name in paired.guards]
        gap = compare(mine, ALL, rules.confidence) if mine else None
        if gap is None or not gap.events:
            continue
        evidence[name] = rounded(gap)
        enough = gap.batches >= rules.min_batches and (name == COVERAGE or gap.events >= rules.min_events / 4)
        if enough and gap.high < -margin:
            what, of = ("coverage", "items") if name == COVERAGE else ("recall of new users", "events")
            return Verdict(HOLD, name, in_words(gap, what, of), evidence)
    return None


def _time_to_look(events: Sequence[int], least: int) -> bool:
    """Whether the last micro-batch brought the sample to `least` or past a doubling of it."""
    now, before = sum(events), sum(events[:-1])
    if now < least:
        return False
    return before < least or int(math.log2(now / least)) > int(math.log2(before / least))


def compare(seen: Sequence[Paired], part: str, confidence: float) -> Gap:
    """Head against published on one slice; the interval is without bounds where fewer than two micro-batches have events."""
    sums = np.array([paired.sums[part] for paired in seen if paired.sums.get(part, (0, 0, 0))[2]], np.float64).reshape(-1, 3)
    batches, events = len(sums), sums[:, 2].sum()
    if not batches:
        return Gap(math.nan, math.nan, math.nan, -math.inf, math.inf, 0, 0)
    head, published = sums[:, 0].sum() / events, sums[:, 1].sum() / events
    better = (sums[:, 0] - sums[:, 1]) * (-1.0 if seen[-1].metric in ERRORS else 1.0)
    mean = better.sum() / events
    scale = abs(published) or 1.0
    if batches < 2:
        return Gap(head, published, mean / scale, -math.inf, math.inf, int(events), batches)
    rest = better - mean * sums[:, 2]
    error = math.sqrt(batches / (batches - 1) * float(rest @ rest)) / events
    wide = float(student.ppf(0.5 + confidence / 2, batches - 1)) * error
    return Gap(head, published, mean / scale, (mean - wide) / scale, (mean + wide) / scale, int(events), batches)


def rounded(gap: Gap) -> dict[str, float | int | None]:
    """The numbers as evidence: five digits, None for what is not finite."""
    return {
        name: value if isinstance(value, int) else float(f"{value:.5g}") if math.isfinite(value) else None
        for name, value in asdict(gap).items()
    }


def in_words(gap: Gap, metric: str, of: str = "events") -> str:
    """The comparison as one clause.

    >>> in_words(Gap(0.25, 0.2, 0.25, 0.2, 0.3, 1000, 9), "ndcg@10")
    'ndcg@10 0.25 against 0.2 on 1,000 events: 25.0 % better (20.0 to 30.0 %)'
    """
    word = "worse" if gap.gap < 0 else "better"
    ends = sorted((100 * abs(gap.low), 100 * abs(gap.high))) if gap.low * gap.high > 0 else None
    span = f"{ends[0]:.1f} to {ends[1]:.1f} %" if ends else f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f} %"
    values = f"{metric} {gap.head:.4g} against {gap.published:.4g}"
    return f"{values} on {gap.events:,} {of}: {100 * abs(gap.gap):.1f} % {word} ({span})"
