"""Learning state in Redis or Valkey: replicas add what they learned, and read what all did."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from lepton_plugins.errors import StateInvalid
from lepton_plugins.routing.learning_state import ERA, Flush, Sums
from lepton_plugins.routing.ledger import Ledger
from lepton_redis.ledger import RedisLedger
from lepton_redis.scripts import EXCHANGE
from lepton_redis.server import Server

#: How long a replica's last flush is remembered, in seconds: one that is sent again later counts twice.
_REPLICA = 30 * 86_400


class RedisStateStore:
    """Sums by model in one hash; additions are exact, each flush counts once, and decisions are given out once.

    Nothing of it is asked for when a row is decided: replicas exchange in the background.
    """

    def __init__(self, uri: str) -> None:
        self._server = Server(uri)
        self._exchange = self._server.client.register_script(EXCHANGE)
        self._ledger = RedisLedger(self._server)
        self.ledger: Ledger = self._ledger

    def exchange(self, model: str, keys: Sequence[str], flush: Flush | None) -> dict[str, Sums]:
        place = self._server.key(model, "sums")
        replica = flush.replica if flush is not None else "none"
        pairs: list[Any] = []
        for key, sums in flush.sums.items() if flush is not None else ():
            pairs += [key, struct.pack("<d", sums.era) + sums.values.astype("<f8").tobytes()]
        given = [flush.sequence if flush is not None else 0, _REPLICA, ERA, len(pairs) // 2, *pairs, *keys]
        found = self._server.call(
            lambda: self._exchange(keys=[place, self._server.key(model, "flushed", replica)], args=given)
        )
        known: dict[str, Sums] = {}
        for key, raw in zip(keys, found, strict=True):
            if raw is None:
                continue
            if len(raw) < 16 or len(raw) % 8:
                raise StateInvalid(f"{self._server.name} {place} {key}", f"{len(raw)} bytes")
            values = np.frombuffer(raw, dtype="<f8").astype(np.float64)
            known[key] = Sums(int(values[0]), values[1:])
        return known

    def close(self) -> None:
        """Write what waits, and end the connections."""
        self._ledger.close()
        self._server.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return RedisStateStore, (self._server.uri,)
