"""Clicked or not on public sets, one pass by the learner over arrays: log loss and AUC of `fm` with the settings of conf/examples.

River's factorization machine predicts each event and then learns it, and stands beside our sequential score; scikit-learn's
logistic regression predicts a micro-batch of 1,000 and then learns it, and stands beside our served one, without the first
micro-batch, before which nothing is known. All get the same columns and weights. AUC counts pairs of one micro-batch. Rates
of all three were chosen on the first 70 %. open-bandit has 207 clicks: what differs there is within the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from arrays import events
from figures import Figure, Options, Result, Table, missing
from peers import NOT_HERE, river_fm, sklearn_logistic
from prequential_runs import Triples, borders, impressions, run, usages
from public_sets import NotThere
from real import example

from freshet.kernels.ranking import pairs_won
from freshet.learner import by_propensity
from freshet.settings import Settings

SIZE = 1000
METRICS = ("auc", "logloss")


@dataclass(frozen=True)
class Labelled:
    """A set: its name in figures, its example, how to read it, learning rates of River's (weights, factors) and scikit-learn's."""

    name: str
    example: str
    read: Callable[[Path], Triples]
    river: tuple[float, float]
    sklearn: float


SETS = (
    Labelled("frappe", "frappe-partial", usages, (0.5, 0.15), 0.2),
    Labelled("bandit", "open-bandit", impressions, (0.03, 0.03), 0.01),
)
PEERS = {"river": "sequential", "sklearn": "served"}


def measure(options: Options) -> Result:
    """Every set that is in the folder."""
    result = Result(" ".join((__doc__ or "").split()))
    for one in SETS:
        try:
            triples = one.read(options.data or Path())
        except NotThere as error:
            names = [f"labels.{one.name}.{metric}.{peer}" for peer in PEERS for metric in METRICS]
            result.figures += [missing(name, name, str(error)) for name in names]
            continue
        _beside_peers(one, triples[:20_000] if options.quick else triples, result)
    return result


def _beside_peers(one: Labelled, triples: Triples, result: Result) -> None:
    settings = example(one.example)
    parts = run(triples, SIZE, settings, (0.0, 0.7))
    columns = {"user": triples.user, "item": triples.item, **triples.context}
    label, weight = triples.value > 0, _weight(triples, settings)
    cuts = borders(len(label), SIZE, (0.0, 0.7))
    chances = {
        "river": river_fm(columns, label, weight, one.river),
        "sklearn": sklearn_logistic(columns, label, weight, one.sklearn, cuts),
    }
    popular = [f"{sums.value('auc', 'served', 'popularity'):.4f}" for sums in parts.values()]
    rows = [[f"{one.example}, {len(label):,} events, {label.mean():.2%} positive", "AUC", "log loss", "the same, last 30 %", ""]]
    for peer, scoring in PEERS.items():
        ours = [sums.value(metric, scoring, "fm") for sums in parts.values() for metric in METRICS]
        calibration = [f"{sums.value('calibration', scoring, 'fm'):.3f}" for sums in parts.values()]
        rows.append([f"fm, {scoring} (calibration {', last 30 %: '.join(calibration)})", *_shown(ours)])
        chance = chances[peer]
        names = [f"labels.{one.name}.{metric}.{peer}" for metric in METRICS]
        if isinstance(chance, str):
            result.figures += [missing(name, name, chance) for name in names]
            rows.append([peer, NOT_HERE, "", "", ""])
            continue
        first = 0 if scoring == "sequential" else SIZE
        theirs = [figure for start in (first, int(0.7 * len(label))) for figure in _figures(chance, label, weight, cuts, start)]
        rows.append([peer, *_shown(theirs)])
        for at, name in enumerate(names):
            beside = f"{ours[at]:.4f} / {theirs[at]:.4f}; last 30 %: {ours[at + 2]:.4f} / {theirs[at + 2]:.4f}"
            what = f"{one.example}, {scoring} {METRICS[at]} over that of {peer}"
            result.figures.append(Figure(name, what, ours[at] / theirs[at], None, None, beside, digits=4))
    rows.append(["popularity, served", popular[0], "", popular[1], ""])
    result.tables.append(Table(f"Labels of {one.example}", rows))


def _weight(triples: Triples, settings: Settings) -> np.ndarray:
    """float64[n]: the weights that the learner gives the events."""
    every = events(triples.user, triples.item, triples.value, triples.at, propensity=triples.propensity)
    return np.asarray(by_propensity(every, settings.model.propensity_clip).weight)


def _figures(chance: np.ndarray, label: np.ndarray, weight: np.ndarray, cuts: list[int], start: int) -> tuple[float, float]:
    """(AUC, weighted log loss) of the events from `start` on, micro-batch by micro-batch."""
    pairs = [pairs_won(chance[begin:end], label[begin:end]) for begin, end in pairwise(cuts) if begin >= start]
    sure = np.clip(chance[start:], 1e-15, 1 - 1e-15)  # as scikit-learn's own log loss does
    loss = -weight[start:] * np.log(np.where(label[start:], sure, 1 - sure))
    return sum(won for won, _ in pairs) / sum(every for _, every in pairs), float(loss.mean())


def _shown(figures: list[float]) -> list[str]:
    return [f"{figure:.4f}" for figure in figures]
