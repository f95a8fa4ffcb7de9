"""Answering rows: checked, decided, asked of the arm that was chosen, recorded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import RequestInvalid, StreamingUnavailable
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.signature import Signature
from lepton_plugins.routing.answer import Answer, numbered, together
from lepton_plugins.routing.answering import Answerer, Front
from lepton_plugins.routing.arms import Arms, MakeShelf
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.counters import Counters
from lepton_plugins.routing.deciding import Decided, Decider
from lepton_plugins.routing.degrading import Degrader
from lepton_plugins.routing.inputs import Columns, InputChecker
from lepton_plugins.routing.learning import LearningPolicy
from lepton_plugins.routing.learning_state import PROCESS_STATE, StateStore
from lepton_plugins.routing.loaded_arm import (
    LoadedArm,
    take,
)
from lepton_plugins.routing.log_view import LogView
from lepton_plugins.routing.policy import HEADER, SelectionPolicy
from lepton_plugins.routing.prediction import Prediction
from lepton_plugins.routing.recording import Recording
from lepton_plugins.routing.request_ids import REQUEST_IDS
from lepton_plugins.routing.routed import Routed, joined
from lepton_plugins.routing.shadow import Shadows
from lepton_plugins.routing.store import DecisionLog, plain
from lepton_plugins.routing.streaming import Cancellation, Stream
from lepton_plugins.routing.training import Training

logger = logging.getLogger("lepton_plugins.routing")

#: A row whose answer came in parts has none here.
_NO_VALUE = np.empty(1, dtype=object)


class Engine:
    """Answers rows by one plan. `counters` tells what it did, `classes` name the columns of probabilities."""

    def __init__(
        self,
        plan: DeploymentPlan,
        policy: SelectionPolicy,
        models: Mapping[str, LoadedModel],
        *,
        shelf: MakeShelf | None = None,
        log: DecisionLog | None = None,
        log_context: bool = True,
        state: StateStore | None = None,
        processes: int = 1,
        call_threads: int | None = None,
    ) -> None:
        self.plan: DeploymentPlan = plan
        self.signature: Signature = plan.signature
        self.counters = Counters()
        self._decider = Decider(plan, policy)
        self._versions = self._decider.versions
        self._consults = policy.consults
        #: What data must hold for the policy to see it; who sends no header means that.
        self._read = frozenset(name for name in policy.features if not name.startswith(HEADER))
        self.classes = plan.classes or _known_classes(models, plan.default)

        taken = {name for arm in plan.arms if arm.signature is not None for name in arm.signature.input_names}
        own = {*self._decider.logged, *([self._decider.sticky] if self._decider.sticky else [])} - taken
        self._checker = InputChecker(plan.signature, optional=tuple(own))
        around, counters = plan.around, self.counters
        arms = Arms(plan, models, self.classes, frozenset(own), shelf, processes)
        self.shelf = arms.shelf
        self._arms = arms.running
        #: Whether an arm may answer in parts.
        self.streams = arms.stream
        self._waits = arms.wait
        fallback = self._versions.index(around.fallback or plan.default)
        self._answerer = Answerer(
            arms.running, fallback, self._decider.default, around.timeout, counters, around.breaker
        )
        self._degrader: Degrader | None = None
        if around.degrade is not None:
            objective = plan.spec.resources.slo.p99
            self._degrader = Degrader(
                self._answerer,
                self._versions,
                arms.loads,
                around.degrade,
                objective,
                counters,
                call_threads,
                processes=processes,
            )
        #: Who answers what isn't forced.
        self._front: Front = self._degrader or self._answerer
        self._shadows = Shadows(arms.shadows, plan.output, counters) if arms.shadows else None
        view = LogView.of(plan, policy.features, context=log_context)
        training: Training | None = None
        if isinstance(policy, LearningPolicy):
            store = PROCESS_STATE if state is None else state
            training = Training(plan, policy, store, self.classes, readable=view is None)
        self._recording = Recording(plan, policy, log, view, training)

    def predict(
        self,
        data: Any,
        *,
        keys: Sequence[Any] | NDArray[Any] | None = None,
        version: str | None = None,
        request: str | None = None,
        may_force: bool = False,
    ) -> Prediction:
        """Answer a DataFrame, a mapping of arrays or a 2-D array in the signature's order.

        `keys` are the units' keys, one a row (by default the plan's sticky column in the data). `version`
        forces an arm, as far as the plan's guard lets the caller: `may_force` says that it has the token.
        `request` is the request's id; decisions are called `<request>/<row>`.
        """
        columns, rows = self._checker.columns_of(data)
        if rows == 0:
            return self._empty(request)
        return self.predict_columns(columns, rows, keys=keys, version=version, request=request, may_force=may_force)

    def predict_columns(
        self,
        columns: Mapping[str, NDArray[Any]],
        rows: int,
        *,
        keys: Sequence[Any] | NDArray[Any] | None = None,
        version: str | None = None,
        request: str | None = None,
        may_force: bool = False,
        apart: bool = False,
        since: float | None = None,
    ) -> Prediction:
        """`predict` for columns by name with `rows` rows each: the data plane's way in.

        `apart` says that the rows are of different callers: one that a model refuses fails for itself. `since` is
        when the request came, by `time.perf_counter`: what it has waited counts where the plan degrades under load.
        """
        checked = self._checker.check(columns, rows)
        if request is None:
            request = REQUEST_IDS.new()
        forced = self._decider.forced(version, may_force) if version is not None else None
        if rows == 1 and forced is None and not self._consults:
            return self._answered(self._routed(checked, keys, request), since)
        if forced is None:
            for name in self._read:
                if name not in checked:
                    self._lacks(name, rows)
        return self._many(checked, rows, keys, forced, request, apart, since)

    @property
    def waits(self) -> bool:
        """Whether a call may wait long, for another host or a slow arm: none for an event loop's thread."""
        return self._waits or (self._degrader is not None and self._degrader.slow)

    @property
    def merges(self) -> bool:
        """Whether rows of different callers may be answered by one call: each is decided and fails for itself."""
        around = self.plan.around
        return not self._consults and self.plan.per == "row" and around.timeout is None

    def route(self, columns: Mapping[str, NDArray[Any]], *, keys: Sequence[Any] | None = None) -> Routed:
        """Decide for one row and stop there: `answer` asks the model, for this row alone or for several at once.

        Not where rows can't be answered together (`merges`).
        """
        return self._routed(self._checker.check(columns, 1), keys, REQUEST_IDS.new())

    def room(self, arm: int) -> int:
        """How many rows of different callers `answer` should be given at most, for this arm as things stand."""
        running = self._arms[arm]
        return running.room if isinstance(running, LoadedArm) else 1

    def parallel(self, arm: int) -> int | None:
        """How many calls of this arm run side by side; None where it isn't known before it is loaded."""
        running = self._arms[arm]
        return running.parallel if isinstance(running, LoadedArm) else None

    def answer(self, routed: Sequence[Routed]) -> Prediction:
        """Answer rows of different callers, all of one `kind`, by one call of their arm; each fails for itself."""
        if len(routed) == 1:
            return self._answered(routed[0], None)
        columns, context, decided = joined(routed, keyed=self._decider.sticky is not None)
        rows = len(routed)
        answer = self._front.many(decided.arms, columns, rows, apart=True)
        if decided.held:
            self.counters.add(holdout=decided.held)
        shadowed = self._shadowed(columns, rows, answer.values)
        block = self._recording.many(routed[0].request, decided, context, answer, shadowed=shadowed)
        return Prediction(answer.values, block, self.classes)

    def _routed(self, columns: Columns, keys: Sequence[Any] | NDArray[Any] | None, request: str) -> Routed:
        decider = self._decider
        if keys is not None and len(keys) != 1:
            raise RequestInvalid(f"Found {len(keys)} keys", expected="one for each of the 1 rows")
        draw, logged = decider.unit(decider.first_key(columns, keys), request)
        context: dict[str, Any] = {}
        logged_context: dict[str, NDArray[Any]] = {}
        for name in decider.logged:
            column = columns.get(name)
            if column is None:
                column = np.full(1, None)
                if name in self._read:
                    self._lacks(name, 1)
            logged_context[name] = column
            context[name] = plain(column[0])
        choice, held = decider.one(context, draw)
        return Routed(columns, choice, draw, logged, logged_context, request, held)

    def _answered(self, routed: Routed, since: float | None) -> Prediction:
        values, served, cause = self._front.one(routed.choice.arm, routed.columns, since)
        if routed.held:
            self.counters.add(holdout=1)
        shadowed = self._shadowed(routed.columns, 1, values)
        block = self._recording.one(routed, served, cause, values, shadowed=shadowed)
        return Prediction(values, block, self.classes)

    def _many(
        self,
        columns: Columns,
        rows: int,
        keys: Sequence[Any] | NDArray[Any] | None,
        forced: int | None,
        request: str,
        apart: bool = False,
        since: float | None = None,
    ) -> Prediction:
        decided, context = self._decided(columns, rows, keys, forced, request)
        if self._consults and forced is None:
            answer = self._consulted(decided, columns, rows, since)
        else:
            front = self._front if forced is None else self._answerer
            answer = front.many(decided.arms, columns, rows, apart, since)
        shadowed = forced is None and self._shadowed(columns, rows, answer.values)
        block = self._recording.many(request, decided, context, answer, forced=forced is not None, shadowed=shadowed)
        return Prediction(answer.values, block, self.classes)

    def stream(
        self,
        columns: Mapping[str, NDArray[Any]],
        *,
        keys: Sequence[Any] | None = None,
        version: str | None = None,
        body: Mapping[str, Any] | None = None,
        cancelled: Cancellation | None = None,
        may_force: bool = False,
    ) -> Stream:
        """One row's answer in parts, by one decision; another version answers only where no part has come yet.

        `body` is an OpenAI chat completion, which the version that is chosen gets as it is. Shadows aren't asked,
        and the plan's time limit doesn't hold: the caller has its own between two parts.
        StreamingUnavailable where the policy asks several versions, or none that was asked can.
        """
        checked = self._checker.check(columns, 1)
        forced = self._decider.forced(version, may_force) if version is not None else None
        if self._consults and forced is None:
            raise StreamingUnavailable(f"The policy {self.plan.policy.kind}, which asks several versions,")
        request = REQUEST_IDS.new()
        decided, context = self._decided(checked, 1, keys, forced, request)
        arm = int(decided.arms[0])
        front = self._front if forced is None else self._answerer
        parts, served, cause = front.stream(arm, checked, body, cancelled or Cancellation())
        answer = Answer(_NO_VALUE, np.array([served], dtype=np.intp), None if cause is None else [cause])
        block = self._recording.many(request, decided, context, answer, forced=forced is not None, comparable=False)
        return Stream(block, parts)

    def _decided(
        self,
        columns: Columns,
        rows: int,
        keys: Sequence[Any] | NDArray[Any] | None,
        forced: int | None,
        request: str,
    ) -> tuple[Decided, dict[str, NDArray[Any]]]:
        decider = self._decider
        if forced is not None:
            self.counters.add(forced=rows)
            return decider.forced_rows(forced, columns, rows, keys, request)
        decide = decider.whole if self.plan.per == "request" else decider.rows
        decided, context = decide(columns, rows, keys, request)
        if decided.held:
            self.counters.add(holdout=decided.held)
        return decided, context

    def _shadowed(self, columns: Columns, rows: int, values: NDArray[Any]) -> bool:
        """Whether shadows get these rows: not while there is too much to do without them."""
        if self._shadows is None:
            return False
        return self._shadows.drop() if self.degrading else self._shadows.offer(columns, rows, values)

    def _lacks(self, name: str, rows: int) -> None:
        """Count rows of data without a column that the policy reads; the first time is told."""
        if self.counters.lacked(name, rows):
            logger.warning(
                "the data has no column %r, which policy %s reads: its rows are decided as if the value were missing "
                "(the default is version %s). Send it with the models' inputs. Told once, counted always.",
                name,
                self.plan.policy.kind,
                self.plan.default,
            )

    def _consulted(self, decided: Decided, columns: Columns, rows: int, since: float | None) -> Answer:
        """The answers that the policy makes of several arms'; `decided` becomes what that amounts to."""
        free, policy, door = decided.free, self._decider.policy, self._degrader
        if free is None:
            answer, made = self._answerer.consult(policy, columns, rows, door, since)
            if made is not None:
                self._decider.settle(decided, made, None)
            return answer
        held = np.setdiff1d(np.arange(rows), free)
        with numbered(held):
            parts = [(held, self._front.many(decided.arms[held], take(columns, held), len(held), False, since))]
        if len(free):
            with numbered(free):
                answer, made = self._answerer.consult(policy, take(columns, free), len(free), door, since)
            parts.append((free, answer))
            if made is not None:
                self._decider.settle(decided, made, free)
        return together(parts, rows)

    def _empty(self, request: str | None) -> Prediction:
        """No rows, no answers: an empty partition of a larger job."""
        none = np.zeros(0, dtype=np.intp)
        decided = Decided(none, none, np.zeros((0, len(self._versions))), [], [], np.zeros(0, dtype=np.uint64), None)
        shape = (0, len(self.classes)) if self.plan.output == "proba" else (0,)
        answer = Answer(np.zeros(shape), none, None)
        block = self._recording.many(request or REQUEST_IDS.new(), decided, {}, answer)
        return Prediction(answer.values, block, self.classes)

    @property
    def missing(self) -> Mapping[str, int]:
        """Rows in which something that the policy looks for was missing, by its name: a rule's, a whole column's."""
        found = dict(self._decider.policy.missing)
        for name, rows in dict(self.counters.lacking).items():
            found[name] = found.get(name, 0) + rows
        return found

    @property
    def degrading(self) -> tuple[str, ...]:
        """The versions that have too much to do now: a cheaper one answers some of their rows."""
        return self._degrader.moving if self._degrader is not None else ()


def _known_classes(models: Mapping[str, LoadedModel], default: str) -> tuple[str, ...]:
    """Where the plan names no classes: the default arm's, else the first that knows."""
    return next((model.classes for model in (models[default], *models.values()) if model.classes), ())
