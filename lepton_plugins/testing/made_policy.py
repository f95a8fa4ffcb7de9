"""A policy as planning makes it, of made-up evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.canonical import canonical_json, digest_bytes
from lepton_plugins.records.plan import FileDigest, PolicyDocument
from lepton_plugins.routing.policy import Batch, Proposal, SelectionPolicy
from lepton_plugins.testing.contract import Contract
from lepton_plugins.testing.evidence import paired_predictions, rows_of

#: Rows of the batch that it is asked.
ROWS = 200
LAST_DRAW = 2**64 - 1


class MadePolicy(Contract):
    """Compiles the policy, stores it and reads it back."""

    #: The class that the PolicyOffer's target names.
    policy: ClassVar[type[SelectionPolicy]]
    #: `policy.params` of the plan file.
    params: ClassVar[Mapping[str, Any]] = {}
    #: The context columns that the policy reads, each with values that occur in it.
    columns: ClassVar[Mapping[str, Sequence[Any]]] = {}
    #: The arms; the first is the default.
    versions: ClassVar[Sequence[str]] = ("1", "2", "3")

    def compiled(
        self,
        *,
        mixed: bool = False,
        versions: Sequence[str] | None = None,
        previous: PolicyDocument | None = None,
    ) -> tuple[PolicyDocument, dict[str, bytes]]:
        """The policy as a plan stores it. `mixed`: with the traffic of each segment split between two arms."""
        arms = list(versions or self.versions)
        params = self._checked()
        paired = paired_predictions(self.columns, self.versions)
        paired = paired.only([list(self.versions).index(arm) for arm in arms])
        proposal = self.policy.propose(params, paired)
        shares = None if proposal is None else _shares(proposal, paired.default, mixed)
        made = self.policy.compile(params, paired, proposal, shares, arms, previous)
        files = {path: bytes(content) for path, content in sorted(made.files.items())}
        document = PolicyDocument(
            kind="contract",
            params=params.model_dump(mode="json"),
            features=tuple(made.features),
            document=dict(made.document),
            files=tuple(FileDigest(path=path, digest=digest_bytes(content)) for path, content in files.items()),
        )
        # Read back as a router reads it: what isn't plain JSON shows here.
        return PolicyDocument.model_validate_json(canonical_json(document)), files

    def _checked(self) -> Any:
        return self.policy.Params.model_validate(dict(self.params))

    def _load(
        self, document: PolicyDocument, files: Mapping[str, bytes], versions: Sequence[str] | None = None
    ) -> SelectionPolicy:
        return self.policy(document, files, list(versions or self.versions), 0)

    def _policies(self) -> list[SelectionPolicy]:
        return [self._load(*self.compiled()), self._load(*self.compiled(mixed=True))]

    def _batch(self) -> Batch:
        features = self.policy.needs(self._checked())
        rows = rows_of(self.columns, ROWS, seed=1)
        return Batch(ROWS, {name: rows[name] for name in features}, draws_of(ROWS))


def _shares(proposal: Proposal, default: int, mixed: bool) -> NDArray[np.float64]:
    """An answer that a solver might give: each segment to its best arm, or half of it."""
    allowed = proposal.allowed.copy()
    allowed[~allowed.any(axis=1), default] = True
    best = np.where(allowed, proposal.utility, -np.inf).argmax(axis=1)
    shares = np.zeros(proposal.utility.shape)
    shares[np.arange(len(best)), best] += 0.5 if mixed else 1.0
    if mixed:
        others = np.where(allowed, proposal.utility, np.inf).argmin(axis=1)
        shares[np.arange(len(best)), others] += 0.5
    return shares


def draws_of(rows: int) -> NDArray[np.uint64]:
    draws = np.random.default_rng(7).integers(0, LAST_DRAW, size=rows, dtype=np.uint64, endpoint=True)
    draws[:2] = [0, LAST_DRAW][: len(draws[:2])]
    return draws
