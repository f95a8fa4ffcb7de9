"""The router: several versions in parallel, and for each row the one that the plan's policy chooses."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.records.decision import Decision, Feedback
from lepton_plugins.records.plan import Arm
from lepton_plugins.routing.answerable import AnswerableRows, predict_answerable
from lepton_plugins.routing.arms import MakeShelf
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.engine import Engine
from lepton_plugins.routing.explanation import Explanation, explanation
from lepton_plugins.routing.learning_state import StateStore
from lepton_plugins.routing.loaded_arm import LoadedArm
from lepton_plugins.routing.model_cache import PROCESS_MODELS, ModelCache
from lepton_plugins.routing.on_demand import Shelf
from lepton_plugins.routing.opening import Models, load_policy
from lepton_plugins.routing.policy import SelectionPolicy
from lepton_plugins.routing.prediction import Prediction
from lepton_plugins.routing.request_ids import REQUEST_IDS
from lepton_plugins.routing.store import DecisionBlock, DecisionLog, FeedbackReceipt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Explanation", "Prediction", "Router"]


class Router(Engine):
    """Answers with the versions of one plan. Any number of threads may use it; it pickles as its directory.

    `Router.load` makes one.
    """

    def __init__(
        self,
        directory: DeploymentDirectory,
        policy: SelectionPolicy,
        models: Mapping[str, LoadedModel],
        *,
        shelf: MakeShelf | None = None,
        log: DecisionLog | None = None,
        log_context: bool = True,
        state: StateStore | None = None,
        threads: int | None = None,
        processes: int = 1,
        call_threads: int | None = None,
    ) -> None:
        super().__init__(
            directory.plan,
            policy,
            models,
            shelf=shelf,
            log=log,
            log_context=log_context,
            state=state,
            processes=processes,
            call_threads=call_threads,
        )
        self._digest = self.plan.digest
        self._directory = directory.path
        self._log_context = log_context
        self._state = state
        self._threads = threads
        self._memory: int | None = None

    @classmethod
    def load(
        cls,
        directory: Path | str,
        *,
        log: DecisionLog | None = None,
        log_context: bool = True,
        state: StateStore | None = None,
        threads: int | None = None,
        models: ModelCache | None = None,
        memory: int | None = None,
        processes: int = 1,
        call_threads: int | None = None,
    ) -> Router:
        """The router of a deployment directory; every digest is checked.

        `log` gets every decision, without its context where `log_context` is false. `state` keeps what a policy
        learns, by default this process: it goes on where another router of the same versions left off.
        `threads` is for one operator of one model; by default the whole cores that the plan gives a replica of the
        arm (`resources.cpu`), over the `processes` like this one on this machine, else 1; these share the machine's
        cores and the limits of calls of `around.degrade`, too. `models` keeps loaded models, by default the process's
        own: a router that follows another one loads only the versions that differ. With `memory`, by default the
        plan's `resources.model_memory`, versions other than the default and the fallback are loaded when they are
        asked for, as many as have so many bytes of files; the longest unused go. Their digests are checked then.
        `call_threads` is in how many threads a server calls this router.
        DirectoryInvalid, DigestMismatch, TrustRequired, PackageMissing, ModelFailed.
        """
        opened = DeploymentDirectory.open(directory)
        plan = opened.plan
        cache = PROCESS_MODELS if models is None else models
        memory = plan.spec.resources.model_memory if memory is None else memory
        policy = load_policy(opened)
        source = Models(opened, cache, threads, processes)
        always = {plan.default, plan.around.fallback, *plan.around.shadow}
        at_once = [arm for arm in plan.arms if memory is None or arm.version in always]
        loaded = source.load_all(at_once)
        try:
            router = cls(
                opened,
                policy,
                {arm.version: model for arm, model in zip(at_once, loaded, strict=True)},
                shelf=None
                if memory is None
                else partial(_shelf, source, max(0, memory - sum(map(source.size, at_once)))),
                log=log,
                log_context=log_context,
                state=state,
                threads=threads,
                processes=processes,
                call_threads=call_threads,
            )
        except BaseException:
            for arm in at_once:
                source.release(arm)
            raise
        router._memory = memory
        router._release = weakref.finalize(router, _release, source, at_once, router.shelf)
        return router

    _release: Any = staticmethod(lambda: None)

    # --- deciding without a model ----------------------------------------------------------

    def decide(self, context: Mapping[str, Any], key: Any = None, *, request: str | None = None) -> Decision:
        """The decision for one row of plain values, without running a model or logging anything."""
        decider = self._decider
        request = request or REQUEST_IDS.new()
        features = decider.row_context(context)
        draw, logged = decider.unit(self._key_of(context, key), request)
        choice, _ = decider.one(features, draw)
        return Decision(
            id=f"{request}/0",
            time=time(),
            plan=self._digest,
            key=logged,
            context=features,
            segment=choice.segment,
            chosen=self._versions[choice.arm],
            served=self._versions[choice.arm],
            propensity=tuple(choice.vector),
            draw=draw,
            state=decider.policy.state,
            reason=choice.reason,
        )

    def explain(self, context: Mapping[str, Any], key: Any = None, *, request: str | None = None) -> Explanation:
        """Why one row goes where it goes: every layer of the stack, every arm with its score."""
        decision = self.decide(context, key, request=request)
        candidates = self._decider.policy.explain(decision.context)
        shadows, moving = dict(self.counters.shadows), self.degrading
        return explanation(self.plan, decision, candidates, shadows, self._answerer.left_out, moving)

    def _key_of(self, context: Mapping[str, Any], key: Any) -> Any:
        if key is None and self._decider.sticky is not None:
            return context.get(self._decider.sticky)
        return key

    def replay(self, block: DecisionBlock) -> NDArray[np.intp]:
        """The arms that this plan's policy chooses for logged rows: the logged ones.

        A policy that learns chose by a state that is gone: its logged vectors are drawn from again.
        """
        if block.plan != self._digest:
            raise RequestInvalid(f"Found decisions of the plan {block.plan[:19]}…", expected=f"{self._digest[:19]}…")
        if block.forced:
            return block.chosen
        if self._consults:
            raise RequestInvalid(
                f"Found decisions of the policy {self.plan.policy.kind}, which chooses by what versions answer",
                expected="the rows themselves: predict them again",
            )
        if self._decider.policy.learns:
            return self._decider.redrawn(block)
        return self._decider.replay(block.context, block.draws).arms

    def predict_answerable(self, data: pd.DataFrame, *, version: str | None = None) -> AnswerableRows:
        """`predict` for the rows of a table that some version has an answer for; the others hold a null and are named.

        Their decisions are one request's, logged once. Where no row is refused it costs what `predict` does.
        """
        return predict_answerable(self, data, version)

    # --- feedback, life --------------------------------------------------------------------

    def feedback(self, items: Iterable[Feedback | Mapping[str, Any]]) -> FeedbackReceipt:
        """Store what became of decisions, and learn from it where the policy does.

        FeedbackUnavailable without a decision log, unless the policy learns; RewardInvalid, LabelInvalid where it
        can't learn from an item: then nothing is stored.
        """
        return self._recording.feedback(items)

    def settle(self) -> None:
        """Until the shadows have compared everything so far, and log and store have what they are to keep."""
        if self._shadows is not None:
            self._shadows.wait()
        self._recording.settle()

    def close(self) -> None:
        """Stop the threads and give the models back; the log stays open, it is its owner's."""
        self._answerer.close()
        if self._shadows is not None:
            self._shadows.close()
        self._recording.close()
        self._release()

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        log, place = self._recording.log, str(self._directory)
        return _reopen, (place, log, self._log_context, self._state, self._threads, self._memory)

    def __repr__(self) -> str:
        return f"Router({self.plan.model!r}, versions {', '.join(self._versions)}, {self.plan.policy.kind})"


def _shelf(source: Models, memory: int, ready: Callable[[Arm, LoadedModel], LoadedArm]) -> Shelf:
    return Shelf(memory, lambda arm: ready(arm, source.load(arm)), source.release, source.size)


def _release(source: Models, arms: Sequence[Arm], shelf: Shelf | None) -> None:
    if shelf is not None:
        shelf.close()
    for arm in arms:
        source.release(arm)


def _reopen(
    directory: str,
    log: DecisionLog | None,
    log_context: bool,
    state: StateStore | None,
    threads: int | None,
    memory: int | None,
) -> Router:
    return Router.load(directory, log=log, log_context=log_context, state=state, threads=threads, memory=memory)
