"""Which calls may hold the event loop."""

from __future__ import annotations

import asyncio
import time

from lepton_plugins.serving.lanes import Lanes


def on_the_loop(seconds: float, calls: int) -> int:
    """How many of so many calls, each waiting as long without using the processor, held the event loop."""

    async def run() -> int:
        lanes, held = Lanes(2, 8), 0
        for _ in range(calls):
            if lanes.is_short("kind"):
                held += 1
                lanes.here("kind", lambda first, second: time.sleep(seconds), None, None)
            else:
                await lanes.aside(["kind"], lambda first, second: time.sleep(seconds), None, None)
        lanes.close()
        return held

    return asyncio.run(run())


def test_calls_that_only_wait_leave_the_event_loop_and_stay_away():
    assert on_the_loop(0.005, 120) <= 12


def test_short_calls_run_on_the_event_loop():
    assert on_the_loop(0.0, 200) >= 150
