"""The models, in one visible dict."""

from __future__ import annotations

from collections.abc import Callable

from freshet.models.blend import Blend
from freshet.models.bpr import BayesianPersonalizedRanking
from freshet.models.contract import Model
from freshet.models.cooccurrence import Cooccurrence
from freshet.models.fm import FactorizationMachine
from freshet.models.history import History
from freshet.models.linear import Linear
from freshet.models.mf import MatrixFactorization
from freshet.models.rating import Biases, Rating
from freshet.registry import pick
from freshet.settings import ModelSettings

MODELS: dict[str, Callable[[ModelSettings], Model]] = {
    "biases": Biases,
    "blend": Blend,
    "bpr": BayesianPersonalizedRanking,
    "cooccurrence": Cooccurrence,
    "fm": FactorizationMachine,
    "history": History,
    "linear": Linear,
    "mf": MatrixFactorization,
    "rating": Rating,
}


def make_model(settings: ModelSettings) -> Model:
    """The model the settings name; an unknown name raises UnknownName with the known and the nearest ones."""
    return pick("model", settings.name, MODELS)(settings)
