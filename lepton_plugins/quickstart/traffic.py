"""Flights sent to the server as any client would: the Open Inference Protocol V2, JSON over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import TrafficFailed
from lepton_plugins.quickstart.flights import INPUTS, NAMES

if TYPE_CHECKING:
    import pandas as pd

_TIMEOUT = 60.0
BATCH = 500
_FEEDBACK = 5000


@dataclass(frozen=True, slots=True)
class Answers:
    """What the server said of n flights: P(late) (n,), the version that answered each, the decisions' ids."""

    probability: NDArray[np.float64]
    versions: Sequence[str]
    decisions: Sequence[str]


class Client:
    """One keep-alive connection to a Lepton server. Not thread-safe."""

    def __init__(self, address: str, model: str) -> None:
        self._connection = HTTPConnection(urlsplit(address).netloc, timeout=_TIMEOUT)
        self._model = model

    def close(self) -> None:
        self._connection.close()

    def ask(self, flights: pd.DataFrame, version: str | None = None) -> Answers:
        """One request for these flights; `version` forces that version, else the plan decides on each row."""
        return _read(self._post(self._path(version), body_of(flights)), len(flights))

    def ask_all(
        self, flights: pd.DataFrame, version: str | None = None, *, sent: Callable[[int], None] = lambda rows: None
    ) -> Answers:
        """All flights, in batches; `sent` is told the number of rows after each."""
        parts = []
        for start in range(0, len(flights), BATCH):
            parts.append(self.ask(flights.iloc[start : start + BATCH], version))
            sent(len(parts[-1].versions))
        return Answers(
            np.concatenate([part.probability for part in parts]),
            [name for part in parts for name in part.versions],
            [name for part in parts for name in part.decisions],
        )

    def milliseconds(self, body: bytes, version: str | None = None) -> float:
        """How long one request takes, from sending it to having read the answer."""
        path = self._path(version)
        start = time.perf_counter()
        self._post(path, body)
        return (time.perf_counter() - start) * 1e3

    def feedback_all(self, decisions: Sequence[str], labels: Sequence[int]) -> int:
        """Tell what became of decisions, in batches; gives how many were stored."""
        items = [{"decision": name, "label": label} for name, label in zip(decisions, labels, strict=True)]
        stored = 0
        for start in range(0, len(items), _FEEDBACK):
            content, _ = self._post("/lepton/feedback", msgspec.json.encode(items[start : start + _FEEDBACK]))
            stored += int(content["stored"])
        return stored

    def _path(self, version: str | None) -> str:
        chosen = "" if version is None else f"/versions/{version}"
        return f"/v2/models/{self._model}{chosen}/infer"

    def _post(self, path: str, body: bytes) -> tuple[dict[str, Any], dict[str, str]]:
        try:
            self._connection.request("POST", path, body, {"content-type": "application/json"})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise TrafficFailed(path, f"{type(error).__name__}: {error}") from error
        if response.status != 200:
            raise TrafficFailed(path, f"status {response.status}: {content[:500].decode(errors='replace')}")
        return msgspec.json.decode(content), {name.lower(): value for name, value in response.getheaders()}


def body_of(flights: pd.DataFrame) -> bytes:
    """A V2 request body: one input a column."""
    inputs = [
        {
            "name": name,
            "shape": [len(flights)],
            "datatype": "BYTES" if name in NAMES else "INT64",
            "data": flights[name].tolist(),
        }
        for name in INPUTS
    ]
    return msgspec.json.encode({"inputs": inputs})


def _read(reply: tuple[dict[str, Any], dict[str, str]], rows: int) -> Answers:
    content, headers = reply
    output = content["outputs"][0]
    probability = np.array(output["data"], dtype=np.float64).reshape(rows, -1)[:, 1]
    # Where one version answered all rows its name stands on the response, else the output lists them.
    listed = (output.get("parameters") or {}).get("lepton_versions")
    versions = listed.split(",") if listed else [content["model_version"]] * rows
    # One row's decision is named whole, several rows' by their request.
    request = headers["x-lepton-decision"].removesuffix("/0" if rows == 1 else "")
    return Answers(probability, versions, [f"{request}/{row}" for row in range(rows)])
