"""A prediction in the words of the wire: the values, and who answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton_plugins.routing.router import Prediction
from lepton_plugins.serving.binary import HEADER
from lepton_plugins.serving.call import JSON, Answer, Headers, encode_json

#: `x-lepton-version` and `model_version` where rows of one answer come from several versions.
MIXED = "mixed"

BINARY = (b"content-type", b"application/octet-stream")


class Reply:
    """`version` is the one that answered all rows, or MIXED; then `versions` names each row's.

    `headers` are the response's: x-lepton-decision is the decision's id for one row, and for several
    the request's, to which `/<row>` is appended.
    """

    __slots__ = ("block", "default", "headers", "role", "rows", "values", "version", "versions")

    def __init__(self, prediction: Prediction, default: str, headers: Mapping[str, Headers]) -> None:
        block = prediction.block
        arms = block.served
        first = int(arms[0])
        self.block = block
        self.values = prediction.values
        self.rows = len(arms)
        self.version = block.arms[first]
        self.default = default
        self.role = self.role_of(self.version)
        self.versions: Sequence[str] | None = None
        if self.rows > 1 and (arms != first).any():
            self.version = self.role = MIXED
            self.versions = [block.arms[arm] for arm in arms.tolist()]
        decision = f"{block.request}/0" if self.rows == 1 else block.request
        self.headers: Headers = [*headers[self.version], (b"x-lepton-decision", decision.encode())]

    def role_of(self, version: str) -> str:
        return "champion" if version == self.default else "challenger"

    def answer(self, content: object) -> Answer:
        return Answer(encode_json(content), self.headers, 200, self)

    def binary_answer(self, content: object, behind: Sequence[bytes]) -> Answer:
        """JSON, and the tensors' bytes behind it."""
        head = encode_json(content)
        headers = [BINARY if header is JSON else header for header in self.headers]
        headers.append((HEADER, str(len(head)).encode()))
        return Answer(b"".join([head, *behind]), headers, 200, self)
