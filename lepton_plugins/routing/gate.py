"""When an arm takes a row under load, and when the cheaper arm gets it: two bounds, so that it doesn't flutter."""

from __future__ import annotations

from lepton_plugins.records.around import Degrade
from lepton_plugins.routing.arm_load import ArmLoad


class Gate:
    """Admits rows to one arm while they can be answered in time. Not thread-safe: the caller has a lock.

    Rows are admitted as long as their answers are expected within `enter` of the objective. The first that isn't
    makes the gate `narrow`: from then on within `leave`, until for `hold` seconds none had to go elsewhere. So the
    arm stays as busy as it can be, its queue stays near `leave`, and the gate changes at most twice in `hold`.
    Where no objective is given (None) only `most` calls at once count. Rows that the `cheaper` arm would answer no
    sooner stay.
    """

    __slots__ = ("_cheaper", "_enter", "_hold", "_leave", "_most", "_tried_at", "load", "moved_at", "narrow")

    def __init__(
        self, load: ArmLoad, spec: Degrade, objective: float | None, most: int | None, cheaper: ArmLoad | None = None
    ) -> None:
        self.load = load
        self._cheaper = cheaper
        self.narrow = False
        self.moved_at = float("-inf")
        self._enter = spec.enter * objective if objective is not None else None
        self._leave = spec.leave * objective if objective is not None else None
        self._hold = spec.hold
        self._most = most
        self._tried_at = float("-inf")

    def admits(self, rows: int, waited: float, now: float, *, here: bool) -> bool:
        """Whether one more call of so many rows may come in.

        `waited`, `here`: as in `ArmLoad.expects`. How long a call's own further rows take is no matter of load; one
        without rows isn't answered together with others, nor waits.
        """
        load = self.load
        if self._most is not None and load.calls >= self._most:
            return self.refuse(now)
        if self._enter is None or self._leave is None or not rows:
            return True
        if self.narrow and now - self.moved_at >= self._hold:
            self.narrow = False
        expected = load.expects(waited, here=here)
        if expected is None:
            # Nobody knows yet how long it takes: some calls tell.
            return load.calls < 2 * load.parallel or self.refuse(now, narrow=False)
        free = load.rows == 0 or (not here and load.calls < load.parallel)
        if expected <= (self._leave if self.narrow and not free else self._enter):
            return True
        if self._cheaper is not None and self._cheaper.rows:
            other = self._cheaper.expects(waited, here=here)
            if other is not None and other >= expected:
                return True
        if load.rows == 0 and load.silent(now) and now - self._tried_at >= self._hold:
            self._tried_at = now  # An arm that is never asked would never be found fast again.
            return True
        return self.refuse(now)

    def moves(self, now: float) -> bool:
        """Whether rows have gone elsewhere within the last `hold` seconds."""
        return now - self.moved_at < self._hold

    def refuse(self, now: float, *, narrow: bool = True) -> bool:
        """A row goes elsewhere; False."""
        self.narrow = self.narrow or (narrow and self._enter is not None)
        self.moved_at = now
        return False
