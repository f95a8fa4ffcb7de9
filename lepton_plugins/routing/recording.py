"""What becomes of decisions: a block for whoever asked, for the log, and for the feedback that may come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from lepton_plugins.errors import FeedbackUnavailable, RequestInvalid
from lepton_plugins.plugins import validation_lines
from lepton_plugins.records.decision import Feedback
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.answer import Answer
from lepton_plugins.routing.deciding import Decided
from lepton_plugins.routing.log_view import LogView
from lepton_plugins.routing.policy import SelectionPolicy
from lepton_plugins.routing.routed import Routed
from lepton_plugins.routing.store import DecisionBlock, DecisionLog, FeedbackReceipt
from lepton_plugins.routing.training import Training

_ONE_CELL = np.zeros(1, dtype=np.intp)
_ONE_CELL.setflags(write=False)


class Recording:
    """Makes the blocks of one plan's decisions and keeps them: in the `log`, as `view` shows them, and for `training`.

    Values that are None say that feedback can't be compared with the answer.
    """

    def __init__(
        self,
        plan: DeploymentPlan,
        policy: SelectionPolicy,
        log: DecisionLog | None,
        view: LogView | None,
        training: Training | None,
    ) -> None:
        self.log = log
        self._view = view
        self._training = training
        self._policy = policy
        self._model, self._digest = plan.model, plan.digest
        self._shadows = plan.around.shadow
        self._keyed = plan.around.sticky is not None
        self._versions = tuple(arm.version for arm in plan.arms)
        #: Shared by the blocks of one row: an arm as an array.
        self._indices = [np.array([index], dtype=np.intp) for index in range(len(plan.arms))]
        for index in self._indices:
            index.setflags(write=False)

    def one(
        self, routed: Routed, served: int, cause: str | None, values: NDArray[Any] | None, *, shadowed: bool
    ) -> DecisionBlock:
        """The block of one row, which arm `served` answered; it is kept."""
        choice = routed.choice
        block = DecisionBlock(
            routed.request,
            time(),
            self._digest,
            self._versions,
            [routed.key] if self._keyed or routed.key is not None else None,
            routed.context,
            self._indices[choice.arm],
            self._indices[served],
            _ONE_CELL,
            np.array([choice.vector], dtype=np.float64),
            np.array([routed.draw], dtype=np.uint64),
            [choice.reason],
            [choice.segment],
            False,
            None if cause is None else [cause],
            self._shadows if shadowed else (),
            self._policy.state,
            self._model,
        )
        self._keep(block, values)
        return block

    def many(
        self,
        request: str,
        decided: Decided,
        context: Mapping[str, NDArray[Any]],
        answer: Answer,
        *,
        forced: bool = False,
        shadowed: bool = False,
        comparable: bool = True,
    ) -> DecisionBlock:
        """The block of many rows; it is kept."""
        block = DecisionBlock(
            request=request,
            time=time(),
            plan=self._digest,
            arms=self._versions,
            keys=decided.keys,
            context=context,
            chosen=decided.arms,
            served=answer.served,
            cells=decided.cells,
            vectors=decided.vectors,
            draws=decided.draws,
            reasons=decided.reasons,
            segments=decided.segments,
            forced=forced,
            fallback=answer.causes,
            shadows=self._shadows if shadowed else (),
            state=self._policy.state,
            model=self._model,
            consulted=self._policy.consults and not forced,
        )
        if len(block):
            self._keep(block, answer.values if comparable else None)
        return block

    def _keep(self, block: DecisionBlock, values: NDArray[Any] | None) -> None:
        if self._training is not None:
            self._training.ledger.remember(block, values)
        if self.log is not None:
            self.log.append(block if self._view is None else self._view(block))

    def feedback(self, items: Iterable[Feedback | Mapping[str, Any]]) -> FeedbackReceipt:
        """As `Router.feedback`."""
        if self.log is None and self._training is None:
            raise FeedbackUnavailable
        try:
            given = [item if isinstance(item, Feedback) else Feedback.model_validate(dict(item)) for item in items]
        except ValidationError as error:
            raise RequestInvalid(f"Found feedback that can't be read: {validation_lines(error)}") from None
        if self._training is None:
            assert self.log is not None
            return self.log.feedback(given)
        self._training.check(given)
        return self._training.feedback(given, self.log.feedback(given) if self.log is not None else None)

    def settle(self) -> None:
        """Until log and store have what they are to keep."""
        if self._training is not None:
            self._training.settle()
        if self.log is not None:
            self.log.flush()

    def close(self) -> None:
        """The log stays open, it is its owner's."""
        if self._training is not None:
            self._training.close()
