"""Units to draws: a unit's key gives the same 64-bit number in every process, request and revision.

Keys are hashed by BLAKE2b (RFC 7693) behind the plan's salt, which is as good as BLAKE2's own keyed mode
(it pads the key to a block of its own, and so costs a second compression). One hash gives the draw and the
hash that is logged in the key's place: disjoint parts of one output tell nothing of each other. Further
numbers (the holdout) are mixed from the draw by SplitMix64 (Steele, Lea, Flood 2014), so that a logged draw
replays the whole decision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import RequestInvalid

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_HOLDOUT = 0xD1B54A32D192ED03
_EXPLORE = 0xA0761D6478BD642F
_EXPLORED = 0xE7037ED1A0B428DB

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


class LoggedKeys(Sequence[str | None]):
    """What is logged in the place of keys, written out when somebody reads it."""

    __slots__ = ("_digests",)

    def __init__(self, digests: list[bytes | None]) -> None:
        self._digests = digests

    def __len__(self) -> int:
        return len(self._digests)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        digest = self._digests[index]
        return digest[_DRAW_BYTES:].hex() if digest is not None else None


class Slots:
    """Draws and logged hashes under one salt (hex)."""

    def __init__(self, salt: str) -> None:
        secret = bytes.fromhex(salt)
        prefix = len(secret).to_bytes(2, "little") + secret
        # Hashers that have taken in the salt already: copying one costs less than making it.
        self._hasher = blake2b(prefix, digest_size=_BYTES, person=b"lepton unit")
        self._requests = blake2b(prefix, digest_size=8, person=b"lepton request")

    def unit(self, key: Any) -> tuple[int, str] | None:
        """The draw of a unit and its logged hash; None where there is no key."""
        canonical = canonical_key(key)
        if canonical is None:
            return None
        hasher = self._hasher.copy()
        hasher.update(canonical)
        digest = hasher.digest()
        return int.from_bytes(digest[:_DRAW_BYTES], "little"), digest[_DRAW_BYTES:].hex()

    def units(self, keys: Iterable[Any], request: str, rows: int) -> tuple[NDArray[np.uint64], LoggedKeys]:
        """Draws (rows,) and logged hashes; a row without a key draws by its request and number."""
        given = keys.tolist() if isinstance(keys, np.ndarray) and keys.dtype.kind in "iufbU" else list(keys)
        if len(given) != rows:
            raise RequestInvalid(f"Found {len(given)} keys", expected=f"one for each of the {rows} rows")
        try:
            # Most keys are plain text; what could be a number written as 7.0 takes the long way.
            canonical = [
                key.encode() if type(key) is str and key and key[-1] != "0" else canonical_key(key) for key in given
            ]
        except UnicodeEncodeError:
            canonical = [canonical_key(key) for key in given]
        digests: dict[bytes | None, bytes | None] = {}
        copy = self._hasher.copy
        for key in dict.fromkeys(canonical):
            if key is None:
                digests[key] = None
                continue
            hasher = copy()
            hasher.update(key)
            digests[key] = hasher.digest()
        found = [digests[key] for key in canonical]
        absent = None in digests
        table = np.frombuffer(b"".join([digest or bytes(_BYTES) for digest in found] if absent else found), dtype="<u8")  # type: ignore[arg-type]
        draws = np.array(table[:: _BYTES // _DRAW_BYTES], dtype=np.uint64)
        if absent:
            without = np.fromiter((digest is None for digest in found), dtype=bool, count=rows)
            draws[without] = self.rows(request, rows)[without]
        return draws, LoggedKeys(found)

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


def explored_arm(draw: int, share: float, arms: int) -> int:
    """Which of so many arms the unit of this draw explores; -1 where it doesn't. Independent of its own arm."""
    if _mix(draw ^ _EXPLORE) >= share * 2.0**64:
        return -1
    return (_mix(draw ^ _EXPLORED) >> 32) * arms >> 32


def explored_arms(draws: NDArray[np.uint64], share: float, arms: int) -> NDArray[np.intp]:
    """`explored_arm` for many draws."""
    chosen = ((_mix_all(draws ^ np.uint64(_EXPLORED)) >> np.uint64(32)) * np.uint64(arms)) >> np.uint64(32)
    explores = _mix_all(draws ^ np.uint64(_EXPLORE)) < share * 2.0**64
    return np.where(explores, chosen.astype(np.intp), -1)


def _mix(value: int) -> int:
    """SplitMix64's finalizer."""
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def _mix_all(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_MIX_1)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_MIX_2)
    return values ^ (values >> np.uint64(31))
