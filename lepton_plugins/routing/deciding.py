"""The decision stack: guard → holdout → sticky → explore → policy. No model runs here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import ContextNotLogged, Forbidden, VersionNotFound
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.inputs import fit_column
from lepton_plugins.routing.policy import Batch, Consulted, RowChoice, SelectionPolicy, invert, settled
from lepton_plugins.routing.slots import Slots, explored_arm, explored_arms, holdout_rows, in_holdout
from lepton_plugins.routing.store import DecisionBlock, plain

HOLDOUT = "holdout"
EXPLORE = "explore"
FORCED = "forced"


@dataclass(slots=True)
class Decided:
    """Many rows' decisions, by cell as in `policy.Choice`; `keys` are logged hashes."""

    arms: NDArray[np.intp]
    cells: NDArray[np.intp]
    vectors: NDArray[np.float64]
    reasons: list[str]
    segments: list[str | None]
    draws: NDArray[np.uint64]
    keys: Sequence[str | None] | None
    held: int = 0

    @property
    def free(self) -> NDArray[np.intp] | None:
        """The rows that aren't held out; None where all are free."""
        if not self.held:
            return None
        held = np.array([reason == HOLDOUT for reason in self.reasons])
        return np.flatnonzero(~held[self.cells])


class Decider:
    """Decides for one plan. Immutable, so that any number of threads may ask."""

    def __init__(self, plan: DeploymentPlan, policy: SelectionPolicy) -> None:
        self.plan = plan
        self.policy = policy
        self.versions = tuple(arm.version for arm in plan.arms)
        self.default = self.versions.index(plan.default)
        self.sticky = plan.around.sticky.key if plan.around.sticky is not None else None
        self.features = tuple(policy.features)
        #: What is logged: the policy's features, and what the plan adds.
        self.logged = tuple(dict.fromkeys([*policy.features, *plan.spec.decisions.columns]))
        self.slots = Slots(plan.salt)
        self._holdout = plan.around.holdout
        self._explore = plan.around.explore
        #: Shadows answer beside the chosen arm, never in its place.
        self._explored = [i for i, version in enumerate(self.versions) if version not in plan.around.shadow]
        self._uniform = np.bincount(self._explored, minlength=len(self.versions)) / len(self._explored)
        self._index = {version: index for index, version in enumerate(self.versions)}
        self._labels = {arm.label: index for index, arm in enumerate(plan.arms) if arm.label}
        self._fields = {field.name: field for field in plan.signature.inputs}

    # --- guard -----------------------------------------------------------------------------

    def forced(self, version: str, may_force: bool) -> int:
        """The arm that a caller forces, by version or label; Forbidden where the guard says no."""
        guard = self.plan.around.guard
        if guard == "closed":
            raise Forbidden("This deployment lets nobody choose a version (guard: closed).")
        if guard == "token" and not may_force:
            raise Forbidden("Choosing a version needs this deployment's token (guard: token).")
        index = self._index.get(version, self._labels.get(version))
        if index is None:
            raise VersionNotFound(self.plan.model, version, self.versions)
        return index

    # --- one row ---------------------------------------------------------------------------

    def unit(self, key: Any, request: str, row: int = 0) -> tuple[int, str | None]:
        """The draw and the logged hash of one row's unit."""
        unit = self.slots.unit(key) if key is not None else None
        return unit if unit is not None else (self.slots.row(request, row), None)

    def one(self, context: Mapping[str, Any], draw: int) -> tuple[RowChoice, bool]:
        """The choice for one row, and whether its unit is held out."""
        choice = self.policy.choose_one(context, draw)
        if not self._holdout and not self._explore:
            return choice, False
        vector = self._mixed(np.asarray([choice.vector]))[0].tolist()
        if self._holdout and in_holdout(draw, self._holdout):
            return RowChoice(self.default, vector, HOLDOUT, choice.segment), True
        explored = explored_arm(draw, self._explore, len(self._explored)) if self._explore else -1
        if explored >= 0:
            return RowChoice(self._explored[explored], vector, EXPLORE, choice.segment), False
        return RowChoice(choice.arm, vector, choice.reason, choice.segment), False

    # --- many rows -------------------------------------------------------------------------

    def rows(
        self, columns: Mapping[str, NDArray[Any]], rows: int, keys: Iterable[Any] | None, request: str
    ) -> tuple[Decided, dict[str, NDArray[Any]]]:
        """The decisions for a batch, and the context they were made in."""
        context = self.context(columns, rows)
        draws, logged = self._draws(columns, rows, keys, request)
        decided = self.replay(context, draws)
        decided.keys = logged
        return decided, context

    def forced_rows(
        self, arm: int, columns: Mapping[str, NDArray[Any]], rows: int, keys: Iterable[Any] | None, request: str
    ) -> tuple[Decided, dict[str, NDArray[Any]]]:
        """Every row to one arm."""
        draws, logged = self._draws(columns, rows, keys, request)
        vector = np.zeros((1, len(self.versions)))
        vector[0, arm] = 1.0
        cells = np.zeros(rows, dtype=np.intp)
        return (
            Decided(np.full(rows, arm, dtype=np.intp), cells, vector, [FORCED], [None], draws, logged),
            self.context(columns, rows),
        )

    def whole(
        self, columns: Mapping[str, NDArray[Any]], rows: int, keys: Iterable[Any] | None, request: str
    ) -> tuple[Decided, dict[str, NDArray[Any]]]:
        """One decision for a request as a whole (`per: request`): its first row's key and context."""
        context = {name: np.repeat(column[:1], rows, axis=0) for name, column in self.context(columns, rows).items()}
        draw, logged = self.unit(self.first_key(columns, keys), request)
        choice, held = self.one({name: plain(column[0]) for name, column in context.items()}, draw)
        decided = Decided(
            np.full(rows, choice.arm, dtype=np.intp),
            np.zeros(rows, dtype=np.intp),
            np.asarray([choice.vector], dtype=np.float64),
            [choice.reason],
            [choice.segment],
            np.full(rows, draw, dtype=np.uint64),
            [logged] * rows if self.sticky is not None or logged is not None else None,
            rows if held else 0,
        )
        return decided, context

    def replay(self, context: Mapping[str, NDArray[Any]], draws: NDArray[np.uint64]) -> Decided:
        """The decisions that a policy without state made for logged contexts and draws, bit for bit.

        ContextNotLogged where a column that the policy reads isn't there.
        """
        lacking = [name for name in self.features if name not in context]
        if lacking:
            raise ContextNotLogged(lacking, context)
        read = {name: context[name] for name in self.features}
        choice = self.policy.choose(Batch(len(draws), read, draws))
        decided = Decided(
            choice.arms, choice.cells, choice.vectors, list(choice.reasons), list(choice.segments), draws, None
        )
        if self._holdout or self._explore:
            self._around(decided)
        return decided

    def redrawn(self, block: DecisionBlock) -> NDArray[np.intp]:
        """The arms at the logged draws of the logged vectors, shape (rows,): what a policy that learns chose."""
        vectors = np.maximum(self.unmixed(block.vectors), 0.0)
        return self.around(invert(vectors[block.cells], block.draws), block.draws)

    def settle(self, decided: Decided, made: Consulted, rows: NDArray[np.intp] | None) -> None:
        """Put in what the policy made of several arms' answers, for all rows or these."""
        choice = settled(made, len(self.versions))
        cells = len(decided.reasons)
        index = slice(None) if rows is None else rows
        decided.arms = decided.arms.copy()
        decided.cells = decided.cells.copy()
        decided.arms[index] = choice.arms
        decided.cells[index] = choice.cells + cells
        decided.vectors = np.concatenate(
            [decided.vectors, self._mixed(choice.vectors) if self._holdout else choice.vectors]
        )
        decided.reasons = [*decided.reasons, *choice.reasons]
        decided.segments = [*decided.segments, *choice.segments]

    def first_key(self, columns: Mapping[str, NDArray[Any]], keys: Iterable[Any] | None) -> Any:
        """The key of the first row: passed along, or in the sticky column."""
        if keys is not None:
            return next(iter(keys), None)
        column = columns.get(self.sticky) if self.sticky is not None else None
        return column[0] if column is not None and len(column) else None

    def context(self, columns: Mapping[str, NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
        """What is logged, the policy's features first; what a request lacks is missing in every row."""
        return {name: columns[name] if name in columns else np.full(rows, None) for name in self.logged}

    def row_context(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The policy's features of one row given as plain values, brought to the signature's types."""
        context: dict[str, Any] = {}
        for name in self.features:
            value = given.get(name)
            field = self._fields.get(name)
            if value is not None and field is not None:
                boxed = np.empty(1, dtype=object)
                boxed[0] = value
                value = plain(fit_column(field, boxed)[0])
            context[name] = value
        return context

    # --- inside ----------------------------------------------------------------------------

    def _draws(
        self, columns: Mapping[str, NDArray[Any]], rows: int, keys: Iterable[Any] | None, request: str
    ) -> tuple[NDArray[np.uint64], Sequence[str | None] | None]:
        if keys is None and self.sticky is not None:
            keys = columns.get(self.sticky)
            if keys is None:
                return self.slots.rows(request, rows), [None] * rows
        if keys is None:
            return self.slots.rows(request, rows), None
        return self.slots.units(keys, request, rows)

    def _around(self, decided: Decided) -> None:
        """Held-out rows get the default arm, exploring ones any; every vector becomes the probability over all."""
        held = holdout_rows(decided.draws, self._holdout)
        arms = explored_arms(decided.draws, self._explore, len(self._explored))
        explores = (arms >= 0) & ~held
        cells = len(decided.reasons)
        decided.vectors = self._mixed(decided.vectors)
        decided.held = int(held.sum())
        decided.arms = np.where(held, self.default, decided.arms)
        decided.arms = np.where(explores, np.asarray(self._explored)[arms], decided.arms)
        # Such rows share their cell's vector and segment, and have a reason of their own.
        own, segments, vectors = decided.cells, decided.segments, decided.vectors
        for rows, reason in ((held, HOLDOUT), (explores, EXPLORE)):
            if rows.any():
                decided.cells = np.where(rows, own + len(decided.reasons), decided.cells)
                decided.vectors = np.concatenate([decided.vectors, vectors])
                decided.reasons = decided.reasons + [reason] * cells
                decided.segments = decided.segments + segments

    def around(self, arms: NDArray[np.intp], draws: NDArray[np.uint64]) -> NDArray[np.intp]:
        """What holdout and exploring make of the arms that the policy chose at these draws."""
        explored = explored_arms(draws, self._explore, len(self._explored))
        arms = np.where(explored >= 0, np.asarray(self._explored)[explored], arms)
        return np.where(holdout_rows(draws, self._holdout), self.default, arms)

    def unmixed(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The policy's own vectors, of which `_mixed` made these; rounding aside."""
        own = vectors.copy()
        own[:, self.default] -= self._holdout
        own = own / (1.0 - self._holdout)
        return (own - self._explore * self._uniform) / (1.0 - self._explore)

    def _mixed(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        mixed = (1.0 - self._explore) * vectors + self._explore * self._uniform if self._explore else vectors
        mixed = (1.0 - self._holdout) * mixed
        mixed[:, self.default] += self._holdout
        return mixed
