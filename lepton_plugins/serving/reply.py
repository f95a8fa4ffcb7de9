"""A prediction in the words of the wire: the values, and who answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from lepton_plugins.routing.prediction import Prediction
from lepton_plugins.routing.store import DecisionBlock
from lepton_plugins.serving.binary import HEADER
from lepton_plugins.serving.call import JSON, Answer, Headers, encode_json

#: `x-lepton-version` and `model_version` where rows of one answer come from several versions.
MIXED = "mixed"

BINARY = (b"content-type", b"application/octet-stream")


class Reply:
    """`version` is the one that answered all rows, or MIXED; then `versions` names each row's.

    `decision` is the decision's id for one row, and for several the request's, to which `/<row>` is appended: the
    header x-lepton-decision, and the answer's id where the request has none. `headers` are the response's. `causes` say
    of each row why a fallback answered it. `block` has the decisions, together with those of the requests that were
    answered with this one.
    """

    __slots__ = ("block", "causes", "decision", "default", "headers", "role", "rows", "values", "version", "versions")

    def __init__(
        self,
        values: NDArray[Any],
        version: str,
        default: str,
        headers: Headers,
        decision: str,
        causes: Sequence[str | None] | None,
        block: DecisionBlock,
        versions: Sequence[str] | None = None,
    ) -> None:
        self.block = block
        self.values = values
        self.rows = len(values)
        self.version = version
        self.versions = versions
        self.default = default
        self.role = version if versions is not None else self.role_of(version)
        self.decision = decision
        self.causes = causes
        self.headers: Headers = [*headers, (b"x-lepton-decision", decision.encode())]

    @classmethod
    def of(cls, prediction: Prediction, default: str, headers: Mapping[str, Headers]) -> Reply:
        """The reply to one request."""
        block = prediction.block
        arms, request = block.served, block.request
        first = int(arms[0])
        version = block.arms[first]
        values, causes = prediction.values, block.fallback
        if len(arms) == 1:
            return cls(values, version, default, headers[version], f"{request}/0", causes, block)
        if (arms == first).all():
            return cls(values, version, default, headers[version], request, causes, block)
        versions = [block.arms[arm] for arm in arms.tolist()]
        return cls(values, MIXED, default, headers[MIXED], request, causes, block, versions)

    @classmethod
    def each(cls, prediction: Prediction, default: str, headers: Mapping[str, Headers]) -> list[Reply]:
        """The replies to requests of one row each that were answered together: a row's decision names its request."""
        block = prediction.block
        values, causes = prediction.values, block.fallback
        replies = []
        for row, arm in enumerate(block.served.tolist()):
            version = block.arms[arm]
            identity = f"{block.request}/{row}"
            cause = None if causes is None or causes[row] is None else [causes[row]]
            one = values[row : row + 1]
            replies.append(cls(one, version, default, headers[version], identity, cause, block))
        return replies

    def role_of(self, version: str) -> str:
        return "champion" if version == self.default else "challenger"

    def answer(self, content: object) -> Answer:
        return Answer(encode_json(content), self.headers, 200, self)

    def predictions(self) -> Answer:
        """The answer of V1 and of MLflow."""
        return self.answer({"predictions": self.values.tolist()})

    def binary_answer(self, content: object, behind: Sequence[bytes]) -> Answer:
        """JSON, and the tensors' bytes behind it."""
        head = encode_json(content)
        headers = [BINARY if header is JSON else header for header in self.headers]
        headers.append((HEADER, str(len(head)).encode()))
        return Answer(b"".join([head, *behind]), headers, 200, self)
