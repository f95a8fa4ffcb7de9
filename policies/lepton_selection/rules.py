"""`rules`: the first rule whose condition holds says which version answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator, model_validator

from lepton_plugins.errors import ArmMissing, RuleInvalid
from lepton_plugins.records.plan import DeploymentPlan, PolicyDocument
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.routing.policy import (
    HEADER,
    Batch,
    Candidate,
    Choice,
    CompiledPolicy,
    Proposal,
    RowChoice,
    SelectionPolicy,
)
from lepton_plugins.routing.store import plain
from lepton_selection.condition import Condition, context_of
from lepton_selection.simple_rules import NONE, OPEN, first_of_all, first_rule
from lepton_selection.slot_table import SHIFT, SlotTable, assign

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

#: Decisions kept by the values they were made for: categories come again, and a look-up costs less than CEL.
_KEPT = 4096

Shares = dict[VersionNumber, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Rule(Record):
    """A condition, and who answers where it holds."""

    when: Annotated[str, Field(description='In CEL, such as `carrier == "UA" && distance > 500`.')]
    use: Annotated[VersionNumber | Shares, Field(description="A version, or parts of the traffic by version.")]
    name: Annotated[str | None, Field(max_length=80, description="What explanations call it.")] = None

    @field_validator("when")
    @classmethod
    def _compiles(cls, when: str) -> str:
        Condition(when)
        return when

    @model_validator(mode="after")
    def _somebody_answers(self) -> Rule:
        if isinstance(self.use, dict) and sum(self.use.values()) <= 0:
            raise ValueError("found no share above zero in `use`, expected a version or shares")
        return self


class RulesParams(Record):
    """Parameters of `rules`."""

    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=100, description="Tried in this order.")]
    otherwise: Annotated[
        VersionNumber | Shares | None, Field(description="Who answers where none holds; absent: the default arm.")
    ] = None


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """Who answers under a rule (or none), for rows in which rule number `lacking` had no value to go by."""

    rule: int
    lacking: int
    table: SlotTable
    reason: str
    rows: Sequence[RowChoice]


class Rules(SelectionPolicy):
    """First match wins. A condition whose value is missing, null or of another kind doesn't match, and is counted."""

    Params: ClassVar[type[BaseModel]] = RulesParams

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        params = self.params
        assert isinstance(params, RulesParams)
        self._conditions = [Condition(rule.when) for rule in params.rules]
        self._places = tuple(dict.fromkeys(place for condition in self._conditions for place in condition.places))
        self._names = [rule.name or f"rule {number}" for number, rule in enumerate(params.rules, 1)]
        self._tables = [SlotTable(slots, self.arms) for slots in document.document["slots"]]
        self._outcomes: dict[tuple[int, int], _Outcome] = {}
        self._kept: dict[tuple[Any, ...], _Outcome] = {}
        self._lock = Lock()
        self.missing: dict[str, int] = dict.fromkeys(self._names, 0)
        #: The outcome of each rule, and last that of none, where no value was lacking.
        self._plain = [self._made(rule, -1) for rule in [*range(len(params.rules)), NONE]]
        self._first = first_rule([rule.when for rule in params.rules], self.features)
        self._first_of_all = first_of_all(self._conditions, self.features)

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled conditions don't pickle.
        return type(self), (self.document, {}, self.arms, self.default)

    # --- planning --------------------------------------------------------------------------

    @classmethod
    def needs(cls, params: BaseModel) -> tuple[str, ...]:
        assert isinstance(params, RulesParams)
        features = (feature for rule in params.rules for feature in Condition(rule.when).features)
        return tuple(dict.fromkeys(features))

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
        assert isinstance(params, RulesParams)
        default = paired.versions[paired.default]
        parts = [(f"policy.params.rules.{number}.use", rule.use) for number, rule in enumerate(params.rules)]
        parts.append(("policy.params.otherwise", params.otherwise if params.otherwise is not None else default))
        before = {}
        if previous is not None:
            # A rule is the same one as long as its condition is.
            whens = [rule["when"] for rule in previous.params["rules"]]
            before = dict(zip([*whens, None], previous.document["slots"], strict=True))
        slots, runs = [], set()
        for (place, use), when in zip(parts, [*(rule.when for rule in params.rules), None], strict=True):
            wanted = {use: 1.0} if isinstance(use, str) else use
            for version in wanted:
                if version not in arms:
                    raise ArmMissing(version, place, arms)
            runs |= {version for version, share in wanted.items() if share > 0}
            slots.append(assign({version: wanted.get(version, 0.0) for version in arms}, before.get(when)))
        features = cls.needs(params)
        document = {"slots": slots, "columns": sorted(paired.columns)}
        return CompiledPolicy(features=features, document=document, runs=tuple(v for v in arms if v in runs))

    def check(self, plan: DeploymentPlan) -> None:
        taken = [name for arm in plan.arms if arm.signature is not None for name in arm.signature.input_names]
        known = list(dict.fromkeys([*taken, *self.document.document["columns"]]))
        fields = {field.name: field for field in plan.signature.inputs if not field.name.startswith(HEADER)}
        for number, condition in enumerate(self._conditions):
            for name in condition.features:
                if name not in known and not name.startswith(HEADER):
                    raise RuleInvalid(number, condition.source, f"nobody knows the column {name!r}", known)
            problem = condition.problem(fields)
            if problem is not None:
                raise RuleInvalid(number, condition.source, problem)

    # --- serving ---------------------------------------------------------------------------

    def choose(self, batch: Batch) -> Choice:
        columns = [_values(batch.context[name]) for name in self.features]
        first = self._first
        if first is not None and columns:
            rows = list(zip(*columns, strict=True))
            found = [
                self._plain[rule] if rule != OPEN else self._outcome(values)
                for rule, values in zip([first(*values) for values in rows], rows, strict=True)
            ]
        else:
            found = [self._outcome(values) for values in zip(*columns, strict=True)] if columns else []
        if not columns:
            found = [self._outcome(())] * batch.rows
        used = list(dict.fromkeys(found))
        place = {outcome: index for index, outcome in enumerate(used)}
        cells = np.fromiter((place[outcome] for outcome in found), dtype=np.intp, count=batch.rows)
        arms = np.zeros(batch.rows, dtype=np.intp)
        for index, outcome in enumerate(used):
            here = np.flatnonzero(cells == index)
            arms[here] = outcome.table.choose(batch.draws[here])
            self._count(outcome, len(here))
        vectors = np.asarray([outcome.table.vector for outcome in used]).reshape(len(used), len(self.arms))
        return Choice(arms, cells, vectors, [outcome.reason for outcome in used], [None] * len(used))

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        if self._first is not None:
            rule = self._first(*map(context.get, self.features))
            if rule != OPEN:
                outcome = self._plain[rule]
                return outcome.rows[outcome.table.row[draw >> SHIFT]]
        outcome = self._outcome(tuple(map(context.get, self.features)))
        if outcome.lacking >= 0:
            self._count(outcome, 1)
        return outcome.rows[outcome.table.row[draw >> SHIFT]]

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        outcome = self._outcome(tuple(map(context.get, self.features)))
        return [
            Candidate(
                version=arm,
                score=None,
                propensity=share,
                reason=outcome.reason if share else self._lost(index, outcome),
            )
            for index, (arm, share) in enumerate(zip(self.arms, outcome.table.vector, strict=True))
        ]

    # --- inside ----------------------------------------------------------------------------

    def _outcome(self, values: tuple[Any, ...]) -> _Outcome:
        # Types belong to the key: 1, 1.0 and true are equal in Python and differ in CEL.
        key = (*values, *map(type, values))
        try:
            known = self._kept.get(key)
        except TypeError:  # A list or the like in an object column.
            return self._decide(values)
        if known is not None:
            return known
        outcome = self._decide(values)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[key] = outcome
        return outcome

    def _decide(self, values: tuple[Any, ...]) -> _Outcome:
        rule, lacking = self._first_of_all(*values)
        if rule != OPEN:
            return self._plain[rule] if lacking < 0 else self._made(rule, lacking)
        context, lacking = context_of(self._places, dict(zip(self.features, values, strict=True))), -1
        for rule, condition in enumerate(self._conditions):
            holds = condition.holds(context)
            if holds:
                return self._made(rule, lacking)
            if holds is None and lacking < 0:
                lacking = rule
        return self._made(NONE, lacking)

    def _made(self, rule: int, lacking: int) -> _Outcome:
        known = self._outcomes.get((rule, lacking))
        if known is not None:
            return known
        reason = f"{self._names[rule]}: {_short(self._conditions[rule].source)}" if rule >= 0 else "no rule holds"
        if lacking >= 0:
            reason += f" ({self._names[lacking]} lacks a value)"
        table = self._tables[rule]
        rows = [RowChoice(arm, table.vector, reason, None) for arm in range(len(self.arms))]
        return self._outcomes.setdefault((rule, lacking), _Outcome(rule, lacking, table, reason, rows))

    def _count(self, outcome: _Outcome, rows: int) -> None:
        if outcome.lacking >= 0:
            with self._lock:
                self.missing[self._names[outcome.lacking]] += rows

    def _lost(self, arm: int, outcome: _Outcome) -> str:
        giving = [name for name, table in zip(self._names, self._tables, strict=False) if table.vector[arm] > 0]
        if not giving:
            return "no rule gives it rows" if not self._tables[-1].vector[arm] else "only where no rule holds"
        return f"{', '.join(giving)} would give it this row, but {outcome.reason.partition(':')[0]} comes first"


def _values(column: NDArray[Any]) -> list[Any]:
    return [plain(value) for value in column] if column.dtype.kind in "MO" else column.tolist()


def _short(source: str) -> str:
    return source if len(source) <= 80 else f"{source[:79]}…"
