"""`learned`: a small model that predicts, for each request, how much better every version does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from lepton_plugins.errors import EvidenceColumnMissing, GainMissing, PackageMissing, PolicyUnfit
from lepton_plugins.records.plan import DeploymentPlan, PolicyDocument
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.routing.policy import (
    Batch,
    Candidate,
    Choice,
    CompiledPolicy,
    Proposal,
    RowChoice,
    SelectionPolicy,
)
from lepton_selection.encoding import Encoder, declare
from lepton_selection.target_price import price_for, relative_costs

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

Floats = NDArray[np.float64]

FILE = "learned.onnx"
_INSTALL = "pip install 'lepton-plugins[learned]'"


class LearnedParams(Record):
    """Parameters of `learned`."""

    features: Annotated[
        tuple[str, ...], Field(min_length=1, max_length=64, description="Context columns to learn from.")
    ]
    price: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="What the default's model time is worth, in the metric.")
    ] = 0.0
    quality: Annotated[
        float | None,
        Field(gt=0, description="Least utility, as a part of the best version's alone; then the cheapest."),
    ] = None
    budget: Annotated[
        float | None, Field(gt=0, description="Most model time, as a part of the dearest version's; then the best.")
    ] = None
    sure: Annotated[
        float, Field(ge=0.5, lt=1, description="How sure it must be that these two are kept; 0.5: by the mean.")
    ] = 0.95
    cost: Annotated[
        dict[VersionNumber, Annotated[float, Field(gt=0, allow_inf_nan=False)]],
        Field(description="Cost of a row by version; absent: the measured model time."),
    ] = {}
    trees: Annotated[int, Field(ge=1, le=500)] = 50
    depth: Annotated[int, Field(ge=1, le=12)] = 5
    force: Annotated[bool, Field(description="Plan it even if no held-out gain is shown.")] = False

    @model_validator(mode="after")
    def _one_price(self) -> LearnedParams:
        if self.price and self.targeted:
            raise ValueError("found price beside quality or budget, expected one of them: they set the price")
        return self

    @property
    def targeted(self) -> bool:
        """Whether the price follows from what is to be kept."""
        return self.quality is not None or self.budget is not None


class Learned(SelectionPolicy):
    """Each row goes to the version of the highest predicted net improvement over the default, if any is above zero.

    Net: less `price` × (the version's model time - the default's) / the default's. The model is a random forest
    (Breiman 2001) of the paired differences, stored as ONNX; its choice at a row is certain. With `quality` or `budget`
    the price is the one that keeps it, by the forest's out-of-bag predictions.
    """

    Params: ClassVar[type[BaseModel]] = LearnedParams

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        content = document.document
        self._file = files.get(FILE)
        self._others = [self.arms.index(version) for version in content["versions"]]
        self._prices = np.array(content["prices"], dtype=np.float64)
        self._metric = content["metric"]
        self._scale = content["scale"]
        self._encoder = Encoder(content["encoding"])
        self._session = None
        if self._file is not None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(self._file, options, providers=["CPUExecutionProvider"])
        self._vectors = np.eye(len(self.arms))
        self._reasons = [f"predicted best by {self._metric}" for _ in self.arms]
        self._reasons[default] = "default: nothing predicted better"
        rows = self._vectors.tolist()
        self._rows = [RowChoice(arm, rows[arm], reason, None) for arm, reason in enumerate(self._reasons)]

    def __reduce__(self) -> tuple[Any, ...]:
        files = {} if self._file is None else {FILE: self._file}
        return type(self), (self.document, files, self.arms, self.default)

    # --- planning --------------------------------------------------------------------------

    @classmethod
    def needs(cls, params: BaseModel) -> tuple[str, ...]:
        assert isinstance(params, LearnedParams)
        return params.features

    @classmethod
    def compile(
        cls,
        params: BaseModel,
        paired: PairedPredictions,
        proposal: Proposal | None,
        shares: NDArray[np.float64] | None,
        arms: Sequence[str],
        previous: PolicyDocument | None,
    ) -> CompiledPolicy:
        assert isinstance(params, LearnedParams)
        for name in params.features:
            if name not in paired.columns:
                raise EvidenceColumnMissing(name, "learned policy's", paired.columns)
        if params.cost:
            costs = [params.cost.get(version, np.nan) for version in paired.versions]
            paired = replace(paired, costs=np.array(costs))
        default = paired.default
        others = [i for i, version in enumerate(paired.versions) if version in arms and i != default]
        encoding = declare(params.features, paired.columns)
        files, scale, price = {}, 1.0, params.price
        if others:
            sign = 1.0 if paired.greater_is_better else -1.0
            better = sign * (paired.values[:, others] - paired.values[:, [default]])
            scale = float(f"{float(better.std()) or 1.0:.6g}")
            matrix = Encoder(encoding).encode(paired.columns, paired.rows)
            files[FILE], unseen = _trained(params, matrix, better / scale, paired.seed)
            if params.targeted:
                price = _target(params, paired, others, unseen * scale)
        document = {
            "versions": [paired.versions[i] for i in others],
            "prices": _prices(price, paired, others),
            "metric": paired.metric,
            "scale": scale,
            "encoding": encoding,
        }
        return CompiledPolicy(features=params.features, document=document, files=files)

    def check(self, plan: DeploymentPlan) -> None:
        params, gain = self.params, plan.gain
        assert isinstance(params, LearnedParams)
        if params.force:
            return
        time = None if gain is None else gain.relative_time
        if params.targeted and time is not None and time < 0.995:
            return
        saved = 0.0 if time is None else params.price * (1.0 - time)
        if gain is None or gain.low is None or gain.low + saved <= 0:
            raise GainMissing("learned", gain, saved)

    # --- serving ---------------------------------------------------------------------------

    def choose(self, batch: Batch) -> Choice:
        arms = self._best(self._net(batch.context, batch.rows))
        return Choice(arms, arms, self._vectors, self._reasons, [None] * len(self.arms))

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        return self._rows[int(self._best(self._net_of_one(context))[0])]

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        net = self._net_of_one(context)
        chosen = int(self._best(net)[0])
        scores = dict(zip(self._others, net[0].tolist(), strict=True)) | {self.default: 0.0}
        price = dict(zip(self._others, self._prices.tolist(), strict=True))
        shown = []
        for index, arm in enumerate(self.arms):
            score = scores.get(index)
            if score is None:
                reason = "no part of the model"
            elif index == self.default:
                reason = self._reasons[index] if index == chosen else "another is predicted better"
            else:
                reason = f"{self._metric} predicted better by {score + price[index]:.4g}"
                reason += f", less a price of {price[index]:.4g}" if price[index] else ""
            shown.append(Candidate(version=arm, score=score, propensity=float(index == chosen), reason=reason))
        return shown

    def _net(self, context: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float64]:
        """Predicted improvement over the default less the price, shape (rows, other versions)."""
        if self._session is None or rows == 0:
            return np.zeros((rows, len(self._others)))
        return self._net_of(self._session, self._encoder.encode(context, rows))

    def _net_of_one(self, context: Mapping[str, Any]) -> Floats:
        if self._session is None:
            return np.zeros((1, len(self._others)))
        return self._net_of(self._session, self._encoder.encode_one(context)[None, :-1].astype(np.float32))

    def _net_of(self, session: onnxruntime.InferenceSession, matrix: NDArray[Any]) -> Floats:
        predicted = session.run(None, {"features": matrix})[0]
        # What sums of single precision leave behind must not decide.
        net: NDArray[np.float64] = np.round(predicted.astype(np.float64), 6) * self._scale - self._prices
        return net

    def _best(self, net: NDArray[np.float64]) -> NDArray[np.intp]:
        if not self._others:
            return np.full(len(net), self.default, dtype=np.intp)
        best = np.asarray(self._others, dtype=np.intp)[net.argmax(axis=1)]
        return np.where(net.max(axis=1) > 0, best, self.default).astype(np.intp)


def _target(params: LearnedParams, paired: PairedPredictions, others: Sequence[int], predicted: Floats) -> float:
    if relative_costs(paired, others) is None:
        raise _untimed("a quality or a budget")
    price = price_for(paired, others, predicted, quality=params.quality, budget=params.budget, sure=params.sure)
    if price is None:
        raise PolicyUnfit(
            "learned", f"no version within budget {params.budget}", "a greater part of the dearest's time"
        )
    return price


def _prices(price: float, paired: PairedPredictions, others: Sequence[int]) -> list[float]:
    if price == 0:
        return [0.0] * len(others)
    relative = relative_costs(paired, others)
    if relative is None:
        raise _untimed("a price")
    return [float(f"{price * part:.9g}") for part in relative.tolist()]


def _untimed(wanted: str) -> PolicyUnfit:
    return PolicyUnfit(
        "learned", f"{wanted}, but versions whose cost isn't known", "a report with it, or policy.params.cost"
    )


def _trained(params: LearnedParams, matrix: NDArray[np.float32], better: Floats, seed: int) -> tuple[bytes, Floats]:
    """A forest of the differences, as ONNX: features (rows, width) in, (rows, versions) out; and what it predicts
    of each row by the trees that have not seen it."""
    try:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType
        from sklearn.ensemble import RandomForestRegressor
    except ModuleNotFoundError as error:
        raise PackageMissing(str(error.name), "Planning the policy 'learned'", _INSTALL) from error
    forest = RandomForestRegressor(
        n_estimators=params.trees,
        max_depth=params.depth,
        min_samples_leaf=max(20, len(matrix) // 100),
        max_features=0.5,
        max_samples=min(len(matrix), 20_000),
        random_state=seed,
        n_jobs=1,
        oob_score=params.targeted,
    )
    forest.fit(matrix, better if better.shape[1] > 1 else better[:, 0])
    inputs = [("features", FloatTensorType([None, matrix.shape[1]]))]
    exported: bytes = to_onnx(forest, initial_types=inputs, target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString()
    unseen = forest.oob_prediction_.reshape(better.shape) if params.targeted else np.zeros_like(better)
    return exported, unseen
