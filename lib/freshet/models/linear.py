"""linear: a weight for each user, item and feature; logistic regression, support vector machine or perceptron by the loss."""

from __future__ import annotations

import numpy as np

from freshet.kernels.optimizers import Step, plain
from freshet.models.contract import USER, Asked
from freshet.models.fm import FactorizationMachine
from freshet.settings import ModelSettings


class Linear(FactorizationMachine):
    """score = w_0 + sum of the weights of what is there: fm without factors; it ranks the items alike for all who ask."""

    name = "linear"

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self.factors = 0
        self.bias_step = plain(Step(*self.bias_step)._replace(l1=settings.l1))  # its weights are what L1 makes sparse

    def known(self, asked: Asked) -> np.ndarray:
        """Everybody: the items' weights are not about the one who asks."""
        return np.ones(len(asked.user[USER]), bool)
