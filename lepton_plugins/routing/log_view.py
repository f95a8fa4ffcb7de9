"""What of a decision stands in the log: context columns as the plan lets them, and nothing that betrays the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.deciding import EXPLORE, FORCED, HOLDOUT
from lepton_plugins.routing.slots import canonical_key
from lepton_plugins.routing.store import DecisionBlock

#: Reasons that tell nothing of a context.
_OPEN = frozenset({HOLDOUT, EXPLORE, FORCED})


class LogView:
    """A block as it is logged: dropped columns left out, redacted ones as keyed hashes.

    Segments and reasons tell the values that the policy read: where one of its columns is dropped, segments are
    left out, where one is redacted they are hashed; reasons say the policy's kind alone. The hashes are keyed
    by the plan's salt: who has the plan can test a guess.
    """

    def __init__(
        self, salt: str, kind: str, features: Sequence[str], redact: Sequence[str], drop: Sequence[str] | None
    ) -> None:
        self._hasher = blake2b(bytes.fromhex(salt), digest_size=16, person=b"lepton column")
        self._kind = kind
        self._redact = frozenset(redact)
        self._drop = None if drop is None else frozenset(drop)
        self._without_segment = drop is None or bool(self._drop & set(features))  # type: ignore[operator]
        self._hidden = self._without_segment or bool(self._redact & set(features))

    @classmethod
    def of(cls, plan: DeploymentPlan, features: Sequence[str], *, context: bool = True) -> LogView | None:
        """The plan's view; None where everything is logged as it is. Without `context` no column is logged."""
        told = plan.spec.decisions
        if context and not told.redact and not told.drop:
            return None
        return cls(plan.salt, plan.policy.kind, features, told.redact, told.drop if context else None)

    def __call__(self, block: DecisionBlock) -> DecisionBlock:
        drop = self._drop
        context = {
            name: self._hashed(name, values) if name in self._redact else values
            for name, values in block.context.items()
            if drop is not None and name not in drop
        }
        if not self._hidden:
            return replace(block, context=context)
        segments = (
            [None] * len(block.segments)
            if self._without_segment
            else [None if value is None else self._hash("segment", value) for value in block.segments]
        )
        reasons = [reason if reason in _OPEN else self._kind for reason in block.reasons]
        return replace(block, context=context, reasons=reasons, segments=segments)

    def _hashed(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        found = np.empty(len(values), dtype=object)
        found[:] = [self._hash(name, value) for value in values.tolist()]
        return found

    def _hash(self, name: str, value: Any) -> str | None:
        canonical = canonical_key(value)
        if canonical is None:
            return None
        hasher = self._hasher.copy()
        hasher.update(b"%s\0%s" % (name.encode(), canonical))
        return hasher.hexdigest()
