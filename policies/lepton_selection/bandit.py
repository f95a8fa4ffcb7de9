"""What all bandits share: rewards on [0, 1], sums that fade, a floor under the propensities, a start from evidence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from threading import RLock
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from lepton_plugins.canonical import canonical_json, digest_bytes
from lepton_plugins.errors import PolicyUnfit, RewardInvalid
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.records.quantity import Seconds
from lepton_plugins.records.record import Record
from lepton_plugins.routing.learning import LearningPolicy
from lepton_plugins.routing.policy import CompiledPolicy, Proposal, RowChoice

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

Floats = NDArray[np.float64]

_TWO64 = 2.0**64
#: Scores so near to the best share its part: sums in another order must not decide.
TIE = 1e-9


class BanditParams(Record):
    """Parameters of every bandit."""

    reward: Annotated[
        tuple[float, float], Field(description="The least and the greatest reward that feedback gives.")
    ] = (0.0, 1.0)
    half_life: Annotated[
        Seconds | None, Field(description="A reward counts half after this time, such as 24h: for what drifts.")
    ] = None
    floor: Annotated[float, Field(ge=0, lt=1, description="No version's propensity falls below it.")] = 0.001
    prior: Annotated[
        float,
        Field(ge=0, le=1e6, description="How many rewards the evaluation's evidence counts as at the start; 0: none."),
    ] = 10.0

    @model_validator(mode="after")
    def _ordered(self) -> BanditParams:
        if not -1e12 < self.reward[0] < self.reward[1] < 1e12:
            raise ValueError(f"found the reward {list(self.reward)}, expected [least, greatest]")
        return self


class Bandit(LearningPolicy):
    """The engine: subclasses say what the sums are, and policies which vector follows from them.

    Versions that the evidence doesn't have (shadows) are never chosen. What is learned is on the scale of
    `reward` brought to [0, 1], as is the evidence's utility that it starts from.
    """

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        params = self.params
        assert isinstance(params, BanditParams)
        self.half_life = params.half_life
        self._low, self._range = params.reward[0], params.reward[1] - params.reward[0]
        live = document.document["live"]
        self._live = [index for index, arm in enumerate(self.arms) if arm in live] or [default]
        #: The place of an arm among those that may be chosen.
        self._place = {arm: place for place, arm in enumerate(self._live)}
        self._floor = min(params.floor, 1.0 / len(self._live))
        self._files = dict(files)
        self._lock = RLock()
        self.spec = digest_bytes(canonical_json(self._meaning()))[7:23]

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.document, self._files, self.arms, self.default, self._learned())

    def _meaning(self) -> dict[str, Any]:
        """What the sums depend on."""
        return {"reward": [self._low, self._low + self._range], "half_life": self.half_life}

    def _learned(self) -> Floats:
        """The sums that it chooses by, shape (arms, width)."""
        raise NotImplementedError(f"{type(self).__name__} doesn't define _learned()")

    # --- planning --------------------------------------------------------------------------

    @classmethod
    def propose(cls, params: BaseModel, paired: PairedPredictions) -> Proposal | None:
        """None: whoever is left may be tried."""
        assert isinstance(params, BanditParams)
        if params.floor * len(paired.versions) > 1:
            found = f"floor: {params.floor:g} for each of {len(paired.versions)} versions, more than all there is"
            raise PolicyUnfit(cls.__name__.lower(), found, f"at most {1 / len(paired.versions):.3g}")
        return None

    @classmethod
    def compile(
        cls,
        params: BaseModel,
        paired: PairedPredictions,
        proposal: Proposal | None,
        shares: Floats | None,
        arms: Sequence[str],
        previous: PolicyDocument | None,
    ) -> CompiledPolicy:
        assert isinstance(params, BanditParams)
        live = [arm for arm in arms if arm in paired.versions]
        document, files = cls._start(params, paired, live)
        return CompiledPolicy(
            features=cls.needs(params),
            document={"live": live, "metric": paired.metric, "baseline": paired.baseline, **document},
            files=files,
            runs=tuple(live),
        )

    @classmethod
    def _start(
        cls, params: BanditParams, paired: PairedPredictions, live: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What is known before the first reward."""
        raise NotImplementedError(f"{cls.__name__} doesn't define _start()")

    # --- learning --------------------------------------------------------------------------

    def reward(self, given: float) -> float:
        value = (given - self._low) / self._range
        if not -1e-9 <= value <= 1 + 1e-9:
            raise RewardInvalid(given, self._low, self._low + self._range)
        return min(max(value, 0.0), 1.0)

    # --- serving ---------------------------------------------------------------------------

    def _whole(self, vectors: Floats) -> Floats:
        """Vectors (rows, live arms) over the floor, as vectors (rows, arms)."""
        raised = vectors * (1.0 - self._floor * len(self._live)) + self._floor
        if len(self._live) == len(self.arms):
            return raised
        whole = np.zeros((len(vectors), len(self.arms)))
        whole[:, self._live] = raised
        return whole


class Wheel:
    """One vector ready to be drawn from: the same arm at a draw as `policy.invert` gives."""

    __slots__ = ("_last", "cumulated", "rows", "vector")

    def __init__(self, vector: Sequence[float], reasons: Sequence[str]) -> None:
        self.vector = tuple(vector)
        self.cumulated = list(accumulate(self.vector))
        self._last = max(arm for arm, share in enumerate(self.vector) if share > 0)
        self.rows = [RowChoice(arm, self.vector, reason, None) for arm, reason in enumerate(reasons)]

    def draw(self, draw: int) -> RowChoice:
        arm = bisect_right(self.cumulated, draw / _TWO64 * self.cumulated[-1])
        return self.rows[arm if arm < self._last else self._last]

    def many(self, draws: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The arms at many draws, shape (rows,)."""
        found = np.searchsorted(self.cumulated, draws / _TWO64 * self.cumulated[-1], side="right")
        return np.minimum(found, self._last)


def drawn(vector: Sequence[float], draw: int) -> int:
    """The arm at a draw from a vector that is needed once."""
    cumulated = list(accumulate(vector))
    arm = bisect_right(cumulated, draw / _TWO64 * cumulated[-1])
    while arm >= len(vector) or not vector[arm] > 0:
        arm -= 1
    return arm


def greedy(scores: Floats) -> Floats:
    """Vectors that go to the best score of each row (rows, arms); those that tie share it."""
    best = scores.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # inf - inf: of several without evidence each is best.
        ties = (scores >= best - TIE * (1.0 + np.abs(best))) | (scores == best)
    return np.asarray(ties / ties.sum(axis=1, keepdims=True), dtype=np.float64)


def _again(
    kind: type[Bandit],
    document: PolicyDocument,
    files: Mapping[str, bytes],
    arms: Sequence[str],
    default: int,
    sums: Floats,
) -> Bandit:
    policy = kind(document, files, arms, default)
    policy.restore(sums)
    return policy
