"""After an answer the event loop stays awake where a next request tends to come at once, and only there."""

from __future__ import annotations

import asyncio
import selectors
from time import perf_counter

import pytest

from lepton_plugins.serving.busy_poll import BusyPoll, worth_polling

SECONDS = 0.02


class Watched(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Notes whether the loop went to sleep."""

    slept = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.slept = self.slept or timeout is None or timeout > 0
        found: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        return found


def sleeps(*gaps: float, within: float = SECONDS / 2) -> bool:
    """Whether the loop sleeps in the time after the last of some answers; a request came so long after each before."""
    selector = Watched()
    loop = asyncio.SelectorEventLoop(selector)
    poll = BusyPoll(SECONDS)

    async def requests() -> None:
        poll.answered(perf_counter())
        for gap in gaps:
            await asyncio.sleep(gap)
            poll.came(perf_counter())
            poll.answered(perf_counter())
        selector.slept = False

    try:
        loop.run_until_complete(requests())
        loop.call_later(within, loop.stop)
        loop.run_forever()
        return selector.slept
    finally:
        loop.close()


def test_it_stays_awake_while_requests_follow_at_once():
    assert not sleeps(0.0)
    assert not sleeps(0.0, 0.0, 0.0)


def test_it_sleeps_when_nothing_has_come_for_that_time():
    assert sleeps(0.0, within=3 * SECONDS)


@pytest.mark.parametrize("gaps", [(), (2 * SECONDS,), (0.0, 0.0, 2 * SECONDS)])
def test_it_sleeps_after_a_request_that_came_late(gaps):
    assert sleeps(*gaps)


@pytest.mark.parametrize(
    ("cores", "workers", "polls"), [(2.0, 1, True), (1.0, 1, False), (2.0, 2, False), (8.0, 4, True)]
)
def test_it_takes_nobody_elses_core(monkeypatch, cores, workers, polls):
    monkeypatch.setattr("lepton_plugins.serving.busy_poll.available_cores", lambda: cores)
    assert (worth_polling(workers) > 0) is polls
