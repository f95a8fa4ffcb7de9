"""Units to draws: a unit's key gives the same 64-bit number in every process, request and revision.

Keys are hashed by BLAKE2b (RFC 7693), keyed with the plan's salt. One hash gives the draw and the hash
that is logged in the key's place: disjoint parts of one output tell nothing of each other. Further numbers
(the holdout) are mixed from the draw by SplitMix64 (Steele, Lea, Flood 2014), so that a logged draw replays
the whole decision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import RequestInvalid

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_HOLDOUT = 0xD1B54A32D192ED03

_DRAW_BYTES = 8
_LOGGED_BYTES = 16
_BYTES = _DRAW_BYTES + _LOGGED_BYTES


def canonical_key(key: Any) -> bytes | None:
    """The bytes of a unit's key, alike from a column and a header; None where there is no key.

    7, 7.0, "7", "7.0" and b"7" are one unit, as are True and "true"; None, NaN and "" are none.
    RequestInvalid for what can't be a key.
    """
    if type(key) is str:
        if key.endswith(".0") and key[:-2].lstrip("-").isdigit():
            key = key[:-2]
        return key.encode("utf-8", "surrogatepass") or None
    if isinstance(key, np.generic):
        if isinstance(key, np.datetime64):
            return None if np.isnat(key) else str(key).encode()
        key = key.item()
    if key is None:
        return None
    if isinstance(key, bool):
        return b"true" if key else b"false"
    if isinstance(key, int):
        return b"%d" % key
    if isinstance(key, float):
        if key != key:
            return None
        return b"%d" % int(key) if key.is_integer() else (b"inf" if math.isinf(key) else repr(key).encode())
    if isinstance(key, str):
        return canonical_key(str(key))
    if isinstance(key, bytes | bytearray):
        try:
            return canonical_key(bytes(key).decode())
        except UnicodeDecodeError:
            return bytes(key)
    if type(key).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(key, dict | list | tuple | set | np.ndarray):
        raise RequestInvalid(f"Found a {type(key).__name__} as the unit's key", expected="a string or a number")
    return str(key).encode()


class Slots:
    """Draws and logged hashes under one salt (hex, at most 64 bytes)."""

    def __init__(self, salt: str) -> None:
        # A hasher that has taken in the key already: copying it costs less than making one.
        self._hasher = blake2b(key=bytes.fromhex(salt), digest_size=_BYTES, person=b"lepton unit")
        self._requests = blake2b(key=bytes.fromhex(salt), digest_size=8, person=b"lepton request")

    def unit(self, key: Any) -> tuple[int, str] | None:
        """The draw of a unit and its logged hash; None where there is no key."""
        canonical = canonical_key(key)
        if canonical is None:
            return None
        hasher = self._hasher.copy()
        hasher.update(canonical)
        digest = hasher.digest()
        return int.from_bytes(digest[:_DRAW_BYTES], "little"), digest[_DRAW_BYTES:].hex()

    def units(self, keys: Iterable[Any], request: str, rows: int) -> tuple[NDArray[np.uint64], list[str | None]]:
        """Draws (rows,) and logged hashes; a row without a key draws by its request and number."""
        plain = keys.tolist() if isinstance(keys, np.ndarray) and keys.dtype.kind in "iufbU" else list(keys)
        canonical = [canonical_key(key) for key in plain]
        if len(canonical) != rows:
            raise RequestInvalid(f"Found {len(canonical)} keys", expected=f"one for each of the {rows} rows")
        digests: dict[bytes | None, bytes] = {None: bytes(_BYTES)}
        copy = self._hasher.copy
        for key in dict.fromkeys(canonical):
            if key is not None:
                hasher = copy()
                hasher.update(key)
                digests[key] = hasher.digest()
        table = np.frombuffer(b"".join([digests[key] for key in canonical]), dtype=np.uint8).reshape(rows, _BYTES)
        draws = np.ascontiguousarray(table[:, :_DRAW_BYTES]).view("<u8").ravel().astype(np.uint64)
        logged: dict[bytes | None, str | None] = {key: digest[_DRAW_BYTES:].hex() for key, digest in digests.items()}
        logged[None] = None
        if None in canonical:
            absent = np.fromiter((key is None for key in canonical), dtype=bool, count=rows)
            draws[absent] = self.rows(request, rows)[absent]
        return draws, [logged[key] for key in canonical]

    def row(self, request: str, row: int = 0) -> int:
        """The draw of a row without a key."""
        return _mix((self._base(request) + (row + 1) * _GOLDEN) & _MASK)

    def rows(self, request: str, rows: int) -> NDArray[np.uint64]:
        """The draws (rows,) of a request's rows, the same numbers as `row` gives."""
        steps = np.arange(1, rows + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        return _mix_all(steps + np.uint64(self._base(request)))

    def _base(self, request: str) -> int:
        hasher = self._requests.copy()
        hasher.update(request.encode("utf-8", "surrogatepass"))
        return int.from_bytes(hasher.digest(), "little")


def in_holdout(draw: int, share: float) -> bool:
    """Whether the unit of this draw is held out: a function of the draw, yet independent of its arm."""
    return _mix(draw ^ _HOLDOUT) < share * 2.0**64


def holdout_rows(draws: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """`in_holdout` for many draws."""
    held: NDArray[np.bool_] = _mix_all(draws ^ np.uint64(_HOLDOUT)) < share * 2.0**64
    return held


def _mix(value: int) -> int:
    """SplitMix64's finalizer."""
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def _mix_all(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_MIX_1)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_MIX_2)
    return values ^ (values >> np.uint64(31))
