"""Expected gain of a plan, cross-fitted: chosen on some rows, measured on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from lepton_plugins.errors import Infeasible
from lepton_plugins.records.plan import Gain, PolicyDocument
from lepton_plugins.routing.policy import Batch, Choice, CompiledPolicy, Proposal, SelectionPolicy, settled

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


@dataclass(frozen=True, slots=True)
class Answered:
    """What a served policy does with the evaluation rows.

    `better` (rows,) is how much better the metric is than the default's; `work` (rows, versions of the evidence)
    which part of each row every version is asked for.
    """

    choice: Choice
    better: Floats
    work: Floats


def answered(policy: SelectionPolicy, paired: PairedPredictions) -> Answered:
    """The evaluation rows as the policy would answer them; features that they lack count as missing."""
    choice = _choice(policy, paired)
    place = [paired.versions.index(arm) if arm in paired.versions else -1 for arm in policy.arms]
    if policy.consults:
        work = np.zeros((paired.rows, len(paired.versions)))

        def run(arm: int, rows: NDArray[np.intp] | None) -> NDArray[Any]:
            work[slice(None) if rows is None else rows, place[arm]] = 1.0
            output = paired.outputs[place[arm]]
            return output if rows is None else output[rows]

        made = policy.consult(paired.rows, run)
        assert made is not None
        sign = 1.0 if paired.greater_is_better else -1.0
        better = sign * (paired.measure(made.values) - paired.values[:, paired.default])
        return Answered(settled(made, len(policy.arms)), better, work)
    shares = np.zeros((paired.rows, len(paired.versions)))
    propensities = choice.propensities
    for column, index in enumerate(place):
        if index >= 0:
            shares[:, index] = propensities[:, column]
    return Answered(choice, paired.improvement(shares), shares)


def _choice(policy: SelectionPolicy, paired: PairedPredictions) -> Choice:
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
    explore: float = 0.0,
    explored: Floats | None = None,
    level: float = 0.95,
    folds: int = FOLDS,
) -> Gain | None:
    """How much better the plan's metric is than its default arm's, were it used on rows it hasn't seen.

    Each fold's rows are answered by a plan that was made, solver included, on the other folds; groups stay
    together. The interval's half width is Student's t on the weighted row differences, clustered by group
    (valid for cross-validated means of stable rules: Bayle et al. 2020). Near the edge of proof a rule is not
    stable: what all rows show, some folds don't. So the interval is laid around both the cross-fitted mean
    and that of `whole` (rows,), the improvement by the plan itself, which errs the other way.

    `weights` (rows,) have mean one; `kept` is the part of the traffic that isn't held out, of which `explore` is
    answered by versions drawn with the probabilities `explored` (versions,). None where there are fewer than two
    units a fold.
    """
    from scipy.stats import t

    units = np.arange(paired.rows) if paired.groups is None else np.unique(paired.groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    if count < 2 * folds:
        return None
    if not policy.consults:
        # Nobody needs them again.
        paired = replace(paired, outputs=[np.zeros((paired.rows, 0))] * len(paired.versions))
    fold = (np.random.default_rng(paired.seed).permutation(count) % folds)[units]
    better, work = np.zeros(paired.rows), np.zeros(paired.values.shape)
    for number in range(folds):
        here = fold == number
        better[here], work[here] = _measured(kind, policy, params, paired.take(~here), paired.take(here), allocate)
    if explored is not None and explore:
        drawn = explore * paired.improvement(np.tile(explored, (paired.rows, 1)))
        better, whole = (1 - explore) * better + drawn, (1 - explore) * whole + drawn
        work = (1 - explore) * work + explore * explored
    better *= kept
    mean = float((weights * better).mean())
    chosen = float((weights * whole).mean()) * kept
    residual = np.bincount(units, weights=weights * (better - mean), minlength=count)
    error = float(np.sqrt(np.square(residual).sum() * count / (count - 1))) / paired.rows
    half = float(t.isf((1 - level) / 2, count - 1)) * error
    method = f"paired row differences, {folds}-fold cross-fitted, Student's t"
    if paired.ratio is not None:
        method = f"{paired.metric} to first order about the default's: {method}"
    return Gain(
        metric=paired.metric,
        value=mean,
        low=min(mean, chosen) - half,
        high=max(mean, chosen) + half,
        level=level,
        method=method if paired.groups is None else f"{method} clustered by group",
        n=paired.rows,
        relative_time=_relative_time(paired, (weights[:, None] * work).mean(axis=0), kept),
    )


def _relative_time(paired: PairedPredictions, work: Floats, kept: float) -> float | None:
    """Model time for `work` (versions,) rows of each version, as a part of the default's for one."""
    if paired.costs is None or not paired.costs[paired.default] > 0:
        return None
    used = work > 0
    if not np.isfinite(paired.costs[used]).all():
        return None
    ratio = float(work[used] @ paired.costs[used] / paired.costs[paired.default])
    return float(f"{kept * ratio + 1 - kept:.6g}")


def _measured(
    kind: str,
    policy: type[SelectionPolicy],
    params: BaseModel,
    train: PairedPredictions,
    test: PairedPredictions,
    allocate: Allocate,
) -> tuple[Floats, Floats]:
    proposal = policy.propose(params, train)
    try:
        shares = None if proposal is None else allocate(proposal)
    except Infeasible:
        # The traffic of these folds just misses the budget: the default answers.
        return np.zeros(test.rows), np.tile(np.arange(len(test.versions)) == test.default, (test.rows, 1)).astype(float)
    made = policy.compile(params, train, proposal, shares, train.versions, None)
    served = compiled(kind, policy, params, made, train.versions, train.versions[train.default])
    found = answered(served, test)
    return found.better, found.work
