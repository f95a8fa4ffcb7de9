"""Decisions that may still be rewarded, kept in Redis: any replica may be told what became of them."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import StateAway
from lepton_plugins.routing.decision_queue import DecisionQueue
from lepton_plugins.routing.ledger import AGAIN, UNKNOWN, Claim, Rewardable, propensities, rewardable, split
from lepton_plugins.routing.store import DecisionBlock
from lepton_redis.scripts import CLAIM
from lepton_redis.server import Server

#: Decisions that may wait to be written, also while the server is away.
_MAX_ROWS = 200_000
#: Commands sent together.
_AT_ONCE = 500


class _Remembered:
    """A request's decisions and the answers."""

    __slots__ = ("block", "values")

    def __init__(self, block: DecisionBlock, values: NDArray[Any] | None) -> None:
        self.block = block
        self.values = values

    def __len__(self) -> int:
        return len(self.block)


class _Row(msgspec.Struct, array_like=True):
    version: str | None
    context: dict[str, Any]
    propensity: float
    time: float
    output: Any


_ENCODER = msgspec.msgpack.Encoder(enc_hook=str)
_DECODER = msgspec.msgpack.Decoder(list[_Row])


class RedisLedger:
    """Writes behind a queue, a moment after the decision; `dropped` counts decisions that the full queue didn't take.

    A claim whose answer was lost is asked again by the same token, so that its decision isn't lost with it.
    """

    shared = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self._script = server.client.register_script(CLAIM)
        self._late: deque[_Remembered] = deque()
        self._writing, self._claiming = Lock(), Lock()
        self._tokens: dict[str, str] = {}
        self._queue = DecisionQueue(self._write, _MAX_ROWS, "lepton-ledger")

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    def remember(self, block: DecisionBlock, values: NDArray[Any] | None) -> None:
        self._queue.append(_Remembered(block, values))

    def claim(self, decisions: Sequence[str]) -> list[Claim]:
        self._queue.drain()
        with self._claiming:
            if self._late:
                self._write([])
            # A decision that is named twice is claimed once.
            first = {decision: place for place, decision in reversed(list(enumerate(decisions)))}
            asked = [decision for place, decision in enumerate(decisions) if first[decision] == place]
            for decision in asked:
                self._tokens.setdefault(decision, uuid4().hex[:16])
            found = dict(zip(asked, self._server.call(lambda: self._ask(asked)), strict=True))
            for decision in asked:
                self._tokens.pop(decision)
        claims = {decision: _claim(raw, split(decision)[1]) for decision, raw in found.items()}
        return [
            claims[decision] if first[decision] == place or claims[decision] is UNKNOWN else AGAIN
            for place, decision in enumerate(decisions)
        ]

    def close(self) -> None:
        self._queue.close()

    # --- inside ----------------------------------------------------------------------------

    def _ask(self, decisions: Sequence[str]) -> list[bytes | None]:
        answers: list[bytes | None] = []
        for start in range(0, len(decisions), _AT_ONCE):
            pipe = self._server.client.pipeline(transaction=False)
            some = [(decision, *split(decision)) for decision in decisions[start : start + _AT_ONCE]]
            for decision, request, row in some:
                if row >= 0:
                    given = [row, self._tokens[decision], self._server.ttl]
                    self._script(keys=_keys(request), args=given, client=pipe)
            told = iter(pipe.execute())
            answers += [next(told) if row >= 0 else None for _, _, row in some]
        return answers

    def _write(self, more: list[_Remembered]) -> int:
        """Write what is new and what is late; how many decisions are lost because too many are."""
        with self._writing:
            self._late.extend(more)
            try:
                while self._late:
                    some = [self._late[place] for place in range(min(len(self._late), _AT_ONCE))]
                    self._server.call(lambda some=some: self._send(some))  # type: ignore[misc]
                    for _ in some:
                        self._late.popleft()
            except StateAway:
                pass
            lost, rows = 0, sum(map(len, self._late))
            while rows > _MAX_ROWS:
                gone = len(self._late.popleft())
                lost, rows = lost + gone, rows - gone
            return lost

    def _send(self, some: Sequence[_Remembered]) -> None:
        pipe = self._server.client.pipeline(transaction=False)
        for item in some:
            pipe.set(_keys(item.block.request)[0], _encoded(item.block, item.values), ex=self._server.ttl)
        pipe.execute()


def _keys(request: str) -> list[str]:
    # The tag keeps both on one node of a cluster.
    return [f"lepton:decisions:{{{request}}}", f"lepton:claims:{{{request}}}"]


def _encoded(block: DecisionBlock, values: NDArray[Any] | None) -> bytes:
    rows = [rewardable(block, values, row, own) for row, own in enumerate(propensities(block))]
    made = [
        _Row(
            row.version,
            dict(row.context),
            row.propensity,
            row.time,
            None if row.output is None else row.output.tolist(),
        )
        for row in rows
    ]
    return struct.pack("<I", len(rows)) + _ENCODER.encode(made)


def _claim(raw: bytes | None, row: int) -> Claim:
    if raw is None:
        return UNKNOWN
    if not raw:
        return AGAIN
    kept = _DECODER.decode(raw[4:])[row]
    output = None if kept.output is None else np.asarray(kept.output)
    return Claim("first", Rewardable(kept.version, kept.context, kept.propensity, kept.time, output))
