"""From feedback to what a policy learns: each decision once, as long as its reward may come."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Lock
from time import time

from lepton_plugins.errors import StateAway
from lepton_plugins.records.decision import Decision, Feedback
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.label_reward import LabelReward
from lepton_plugins.routing.learner import Learner
from lepton_plugins.routing.learning import LearningPolicy
from lepton_plugins.routing.learning_state import StateStore
from lepton_plugins.routing.ledger import TTL, UNKNOWN, Claim, Rewardable
from lepton_plugins.routing.store import FeedbackReceipt

#: Feedback that may wait for a store that is away.
WAITING = 100_000


class Training:
    """Trains a router's policy. `readable` says that the decision log has the context as the policy read it."""

    def __init__(
        self,
        plan: DeploymentPlan,
        policy: LearningPolicy,
        store: StateStore,
        classes: Sequence[str],
        *,
        readable: bool = True,
    ) -> None:
        keys = [f"{arm.artifact_digest.removeprefix('sha256:')}/{policy.spec}" for arm in plan.arms]
        self.ledger = store.ledger
        self._policy = policy
        self._arms = {arm.version: index for index, arm in enumerate(plan.arms)}
        self._labels = LabelReward(plan, classes)
        self._readable = readable
        self._waiting: deque[Feedback] = deque()
        self._lock = Lock()
        self._learner = Learner(policy, store, plan.model, keys)
        self._learner.then = self._retry
        self._learner.start()

    def check(self, items: Sequence[Feedback]) -> None:
        """Refuse, before anything is stored, a batch with a reward or label that can't be learned from."""
        for item in items:
            if item.reward is not None:
                self._policy.reward(item.reward)
            elif item.label is not None:
                self._labels.check(item.label)

    def feedback(self, items: Sequence[Feedback], logged: FeedbackReceipt | None) -> FeedbackReceipt:
        """Learn from checked feedback that a decision log, where there is one, has taken already."""
        try:
            claims = self.ledger.claim([item.decision for item in items])
        except StateAway:
            with self._lock:
                if len(self._waiting) + len(items) > WAITING:
                    raise
                self._waiting.extend(items)
            if logged is None:
                return FeedbackReceipt(0, 0, (), 0, len(items))
            return logged._replace(learned=0, waiting=len(items))
        if logged is not None and not self.ledger.shared:
            claims = self._with_log(items, claims, logged)
        elif logged is not None and logged.decisions is not None:
            # The log may know decisions for longer than they may be rewarded.
            stored = logged.decisions
            claims = [
                Claim("first") if claim.kind == "unknown" and item.decision in stored else claim
                for item, claim in zip(items, claims, strict=True)
            ]
        learned = sum(self._learn(item, claim.decision) for item, claim in zip(items, claims, strict=True))
        kinds = [claim.kind for claim in claims]
        unknown = tuple(item.decision for item, kind in zip(items, kinds, strict=True) if kind == "unknown")
        return FeedbackReceipt(kinds.count("first"), kinds.count("again"), unknown, learned)

    def settle(self) -> None:
        """Until what was learned so far is in the store, where that is there."""
        self._learner.exchange()

    def close(self) -> None:
        self._learner.close()

    # --- inside ----------------------------------------------------------------------------

    def _with_log(self, items: Sequence[Feedback], claims: Sequence[Claim], logged: FeedbackReceipt) -> list[Claim]:
        """The log knows decisions of other processes, and which of them had feedback before."""
        if logged.decisions is None:
            return list(claims)
        unknown, seen = set(logged.unknown), set()
        found = []
        for item, claim in zip(items, claims, strict=True):
            decision = logged.decisions.get(item.decision)
            if decision is None:
                known = claim.kind if item.decision in unknown else "again"
                found.append(claim if known == claim.kind else Claim("again"))
            elif item.decision in seen:
                found.append(Claim("again"))
            else:
                seen.add(item.decision)
                found.append(claim if claim.kind == "first" else Claim("first", self._of_log(decision, claim)))
        return found

    def _of_log(self, decision: Decision, claim: Claim) -> Rewardable | None:
        """A decision that only the log knows; None where it is too old, or its context isn't what was read."""
        if claim is not UNKNOWN or not self._readable or decision.time < time() - TTL:
            return None
        trains = not decision.forced and decision.fallback is None and decision.served == decision.chosen
        if not trains or decision.chosen not in self._arms:
            return None
        place = self._arms[decision.chosen]
        if len(decision.propensity) != len(self._arms):  # Of a plan with other arms: their order isn't known.
            return None
        return Rewardable(decision.chosen, decision.context, decision.propensity[place], decision.time)

    def _learn(self, item: Feedback, decision: Rewardable | None) -> bool:
        if decision is None or decision.version not in self._arms:
            return False
        if any(name not in decision.context for name in self._policy.features):
            return False  # Of a plan whose policy read other columns.
        if item.reward is not None:
            reward = self._policy.reward(item.reward)
        else:
            made = self._labels.reward(item.label, decision.output)
            if made is None:
                return False
            reward = made
        if not decision.propensity > 0:
            return False
        self._learner.learn(self._arms[decision.version], decision.context, reward, decision.propensity, decision.time)
        return True

    def _retry(self) -> None:
        """What waited for the store is claimed now that it is there."""
        with self._lock:
            items = list(self._waiting)
            self._waiting.clear()
        if items:
            self.feedback(items, None)
