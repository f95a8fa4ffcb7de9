"""Versions that are loaded when they are asked for, and given back, longest unused first, when memory is short."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, ModelFailed
from lepton_plugins.records.plan import Arm
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.loaded_arm import LoadedArm
from lepton_plugins.routing.streaming import Cancellation

#: Seconds until a version that couldn't be loaded is tried again: checking its files each time would take long.
_RETRY = 30.0


class ArmOnDemand:
    """Answers as the arm that it stands for; the first call loads it, and any number at once load it once."""

    def __init__(self, arm: Arm, shelf: Shelf) -> None:
        self.version = arm.version
        self.arm = arm
        self.loaded: LoadedArm | None = None
        self.bytes = 0
        self.users = 0
        self.lock = Lock()
        self.retry_at = 0.0
        self.reason = ""
        self._shelf = shelf

    def predict(self, columns: Columns, rows: int) -> NDArray[Any]:
        """The answer for all rows. ModelFailed, or the error's own, where the version can't be loaded."""
        loaded = self._shelf.take(self)
        try:
            return loaded.predict(columns, rows)
        finally:
            self._shelf.put_back(self)

    def stream(self, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation) -> Iterator[Any]:
        """One row's answer in parts; the version stays loaded until the last."""
        loaded = self._shelf.take(self)
        try:
            yield from loaded.stream(columns, request, cancelled)
        finally:
            self._shelf.put_back(self)


class Shelf:
    """Keeps versions of up to `memory` bytes of files loaded. One that is in use stays, whatever the budget says.

    `load` makes a loaded arm, `unload` gives it back; `size` tells the bytes of its files.
    """

    def __init__(
        self,
        memory: int,
        load: Callable[[Arm], LoadedArm],
        unload: Callable[[Arm], None],
        size: Callable[[Arm], int],
    ) -> None:
        self.loads = 0
        self.evictions = 0
        self._memory = memory
        self._load, self._unload, self._size = load, unload, size
        self._used = 0
        self._lock = Lock()
        #: Those that are loaded, the longest unused first.
        self._loaded: OrderedDict[str, ArmOnDemand] = OrderedDict()

    @property
    def versions(self) -> tuple[str, ...]:
        """What is loaded now."""
        with self._lock:
            return tuple(self._loaded)

    def take(self, place: ArmOnDemand) -> LoadedArm:
        """The loaded arm, which stays loaded until it is put back."""
        with self._lock:
            place.users += 1
            if place.loaded is not None:
                self._loaded.move_to_end(place.version)
                return place.loaded
        try:
            return self._load_once(place)
        except BaseException:
            self.put_back(place)
            raise

    def put_back(self, place: ArmOnDemand) -> None:
        with self._lock:
            place.users -= 1
        if self._used > self._memory:
            self._make_room(0)

    def close(self) -> None:
        self._memory = 0
        self._make_room(1)

    def _load_once(self, place: ArmOnDemand) -> LoadedArm:
        with place.lock:
            if place.loaded is not None:
                return place.loaded
            if monotonic() < place.retry_at:
                raise ModelFailed(place.version, "load", f"{place.reason} (it is tried again in a while)")
            place.bytes = self._size(place.arm)
            self._make_room(place.bytes)
            try:
                loaded = self._load(place.arm)
            except Exception as error:
                place.retry_at = monotonic() + _RETRY
                place.reason = error.code if isinstance(error, LeptonError) else type(error).__name__
                raise
            with self._lock:
                place.loaded = loaded
                self._loaded[place.version] = place
                self._used += place.bytes
                self.loads += 1
            return loaded

    def _make_room(self, wanted: int) -> None:
        gone = []
        with self._lock:
            for version, place in list(self._loaded.items()):
                if self._used + wanted <= self._memory:
                    break
                if place.users == 0:
                    del self._loaded[version]
                    place.loaded = None
                    self._used -= place.bytes
                    self.evictions += 1
                    gone.append(place)
        for place in gone:
            self._unload(place.arm)
