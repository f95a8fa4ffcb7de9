"""How long an arm takes, and what it has to do now: from both, when a further row would be answered."""

from __future__ import annotations

#: What the last measurement counts at least: some ten calls are remembered.
_NEWEST = 0.1


class ArmLoad:
    """Work in one arm: `calls` and `rows` that have begun and not ended, of which it runs `parallel` calls at once.

    Who comes to an arm that is busy is answered by one call with all who wait (`MicroBatches`): not before so many
    rows have taken their time. A measurement that is `memory` seconds old counts nothing.
    """

    __slots__ = ("_learned_at", "_memory", "_rows", "_seconds", "_timed", "calls", "parallel", "rows", "seconds_a_row")

    def __init__(self, parallel: int, memory: float = 1.0) -> None:
        self.parallel = parallel
        self.calls = 0
        self.rows = 0
        self.seconds_a_row: float | None = None
        """Smoothed, of calls side by side; None before it is known."""
        self._memory = memory
        self._seconds = 0.0
        self._rows = 0.0
        self._timed = -1
        self._learned_at = 0.0

    def learn(self, rows: int, began: float, ended: float) -> None:
        """A call of `rows` rows took from `began` to `ended`. Of two threads at once one may go unheard."""
        self._timed += 1
        if self._timed < 10:
            if self._timed == 0:
                return  # The very first call allocates and compiles.
            newest = 1 / self._timed
        else:
            newest = _NEWEST
        age = (ended - self._learned_at) / self._memory
        if age > newest:
            newest = age if age < 1.0 else 1.0
        self._seconds += (ended - began - self._seconds) * newest
        self._rows += (rows - self._rows) * newest
        self.seconds_a_row = self._seconds / self._rows
        self._learned_at = ended

    def silent(self, now: float) -> bool:
        """Whether the last measurement says nothing any more."""
        return now - self._learned_at >= self._memory

    def expects(self, waited: float, *, here: bool) -> float | None:
        """Seconds from a request's arrival, `waited` ago, to its first row's answer if it came in now; None: unknown.

        `here` is the event loop's thread, which answers all that was read in one turn by one call. What was read
        waits for the whole of it, and what comes meanwhile as long again.
        """
        each = self.seconds_a_row
        if each is None:
            return None
        if here:
            own = (self.rows + 1) * each
            return (max(waited, own) if self.rows else waited) + own
        if self.calls < self.parallel:
            return waited + each
        return waited + max(1, 2 + self.rows - self.parallel) * each
