"""Expected gain of a plan, cross-fitted: chosen on some rows, measured on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from lepton_plugins.errors import Infeasible
from lepton_plugins.records.plan import Gain, PolicyDocument
from lepton_plugins.routing.policy import Batch, Choice, CompiledPolicy, Proposal, SelectionPolicy

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

Floats = NDArray[np.float64]
#: From a proposal to the shares (segments, versions) that the solver gives.
Allocate = Callable[[Proposal], Floats]

FOLDS = 10


def compiled(
    kind: str, policy: type[SelectionPolicy], params: BaseModel, made: CompiledPolicy, arms: Sequence[str], default: str
) -> SelectionPolicy:
    """A compiled policy as it will be served."""
    document = PolicyDocument(
        kind=kind, params=params.model_dump(mode="json"), features=made.features, document=dict(made.document)
    )
    return policy(document, made.files, arms, list(arms).index(default))


def answer(policy: SelectionPolicy, paired: PairedPredictions) -> Choice:
    """What a served policy does with the evaluation rows; features that they lack count as missing."""
    context = {
        name: paired.columns[name] if name in paired.columns else np.full(paired.rows, None, dtype=object)
        for name in policy.features
    }
    rng = np.random.default_rng(paired.seed)
    draws = rng.integers(0, 2**64, paired.rows, dtype=np.uint64)
    return policy.choose(Batch(paired.rows, context, draws))


def row_weights(segments: Sequence[str | None], cells: NDArray[np.intp], traffic: Mapping[str, float]) -> Floats:
    """Weights (rows,) of mean one that give each named segment its part of `traffic`.

    What the named ones leave is spread over the other segments as the evaluation data has them.
    """
    if not traffic:
        return np.ones(len(cells))
    own = np.bincount(cells, minlength=len(segments)) / len(cells)
    part: dict[str | None, float] = {}
    for segment, rows in zip(segments, own.tolist(), strict=True):
        part[segment] = part.get(segment, 0.0) + rows
    rest = sum(value for segment, value in part.items() if segment not in traffic)
    others = max(1.0 - sum(traffic.values()), 0.0) / rest if rest else 0.0
    factor = {
        segment: traffic[segment] / value if segment is not None and segment in traffic and value else others
        for segment, value in part.items()
    }
    weights = np.array([factor[segment] for segment in segments])[cells]
    normalised: Floats = weights / weights.mean()
    return normalised


def cross_fitted_gain(
    kind: str,
    policy: type[SelectionPolicy],
    params: BaseModel,
    paired: PairedPredictions,
    allocate: Allocate,
    weights: Floats,
    whole: Floats,
    *,
    kept: float = 1.0,
    level: float = 0.95,
    folds: int = FOLDS,
) -> Gain | None:
    """How much better the plan's metric is than its default arm's, were it used on rows it hasn't seen.

    Each fold's rows are answered by a plan that was made, solver included, on the other folds; groups stay
    together. The interval's half width is Student's t on the weighted row differences, clustered by group
    (valid for cross-validated means of stable rules: Bayle et al. 2020). Near the edge of proof a rule is not
    stable: what all rows show, some folds don't. So the interval is laid around both the cross-fitted mean
    and that of `whole` (rows,), the improvement by the plan itself, which errs the other way.

    `weights` (rows,) have mean one; `kept` is the part of the traffic that isn't held out. None where there
    are fewer than two units a fold.
    """
    from scipy.stats import t

    units = np.arange(paired.rows) if paired.groups is None else np.unique(paired.groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    if count < 2 * folds:
        return None
    paired = replace(paired, outputs=[np.zeros((paired.rows, 0))] * len(paired.versions))  # Nobody needs them again.
    fold = (np.random.default_rng(paired.seed).permutation(count) % folds)[units]
    better = np.zeros(paired.rows)
    for number in range(folds):
        here = fold == number
        better[here] = _measured(kind, policy, params, paired.take(~here), paired.take(here), allocate)
    better *= kept
    mean = float((weights * better).mean())
    chosen = float((weights * whole).mean()) * kept
    residual = np.bincount(units, weights=weights * (better - mean), minlength=count)
    error = float(np.sqrt(np.square(residual).sum() * count / (count - 1))) / paired.rows
    half = float(t.isf((1 - level) / 2, count - 1)) * error
    method = f"paired row differences, {folds}-fold cross-fitted, Student's t"
    return Gain(
        metric=paired.metric,
        value=mean,
        low=min(mean, chosen) - half,
        high=max(mean, chosen) + half,
        level=level,
        method=method if paired.groups is None else f"{method} clustered by group",
        n=paired.rows,
    )


def _measured(
    kind: str,
    policy: type[SelectionPolicy],
    params: BaseModel,
    train: PairedPredictions,
    test: PairedPredictions,
    allocate: Allocate,
) -> Floats:
    proposal = policy.propose(params, train)
    try:
        shares = None if proposal is None else allocate(proposal)
    except Infeasible:
        return np.zeros(test.rows)  # The traffic of these folds just misses the budget: the default answers.
    made = policy.compile(params, train, proposal, shares, train.versions, None)
    served = compiled(kind, policy, params, made, train.versions, train.versions[train.default])
    return test.improvement(answer(served, test).propensities)
