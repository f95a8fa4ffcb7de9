"""What a policy that learns adds to a selection policy: sums over rewarded decisions, from which it chooses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.policy import SelectionPolicy


class LearningPolicy(SelectionPolicy):
    """Base of policies that learn from rewards.

    All that it learns are sums, `width` numbers an arm, to which each rewarded decision adds its `contribution`:
    so the sums of several replicas add up to those of one, in any order. Whatever is known beforehand (a prior)
    stays outside of the sums. The choice is the inverse of the logged vector at the logged draw.
    """

    learns: ClassVar[bool] = True

    #: Names what the sums mean. Sums of equal `spec` go on with another plan, and with another policy.
    spec: str
    #: Numbers an arm.
    width: int
    #: Seconds after which a contribution counts half; None: all count alike.
    half_life: float | None = None

    @abstractmethod
    def reward(self, given: float) -> float:
        """The reward that is learned from, for the one that was given. RewardInvalid where it is out of range."""

    @abstractmethod
    def contribution(self, context: Mapping[str, Any], reward: float, propensity: float) -> NDArray[np.float64]:
        """What a rewarded decision adds to its arm's sums, shape (width,)."""

    @abstractmethod
    def learn(self, arm: int, contribution: NDArray[np.float64], weight: float) -> None:
        """Choose from now on as if `weight` times this had been among the arm's sums."""

    @abstractmethod
    def restore(self, sums: NDArray[np.float64]) -> None:
        """Choose from now on by these sums alone, shape (arms, width)."""
