"""Under load from outside a slow version's rows go to the fast one, in time, and come back."""

from __future__ import annotations

import asyncio
import json
from time import perf_counter
from typing import Any

import httpx
import pytest

from lepton_plugins.serving.backlog import Backlog

SLO = 1.0
PATH = "/v2/models/flights/infer"
INPUTS = [
    {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [0.5, -1.0, 2.0, 0.25]},
    {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
]
BODY = json.dumps({"inputs": INPUTS}).encode()


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "two workers"])
def slow_server(request, tmp_path_factory, make_deployment, start_server):
    """Version 2, which carrier UA is for, takes some 10 ms a row; version 1 next to nothing."""
    folder = tmp_path_factory.mktemp("degrade")
    made = make_deployment(
        folder / "flights",
        layout="tensors",
        versions=2,
        work={"2": 60_000},
        slo=SLO,
        around={"degrade": {"to": "1", "hold": "200ms"}, "breaker": None},
    )
    with start_server(made.path, folder, workers=request.param, decisions=str(folder / "decisions")) as server:
        yield server


async def answers(url: str, rate: float, seconds: float) -> list[tuple[str, float]]:
    """The version of each answer and the seconds from when its request was to be sent; none waits for another."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    request = head.encode() + BODY
    idle: list[Any] = []
    start = perf_counter()

    async def ask(at: float) -> tuple[str, float]:
        await asyncio.sleep(max(start + at - perf_counter(), 0))
        reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(b": ", 1) for line in answer.split(b"\r\n")[1:] if b": " in line)
        await reader.readexactly(int(lines[b"content-length"]))
        assert answer.startswith(b"HTTP/1.1 200"), answer
        idle.append((reader, writer))
        return lines[b"x-lepton-version"].decode(), perf_counter() - start - at

    found = await asyncio.gather(*(ask(number / rate) for number in range(int(rate * seconds))))
    for _, writer in idle:
        writer.close()
    return list(found)


def calm(url: str) -> float:
    """Seconds of version 2's fastest answer, once the machine lets it have all rows of little load."""
    for _ in range(20):
        found = asyncio.run(answers(url, 10, 0.5))
        if all(version == "2" for version, _ in found):
            return min(took for _, took in found)
    raise AssertionError(found)


def metric(url: str, name: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=20).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def test_load_costs_quality_and_not_time(slow_server):
    url = slow_server.url
    rate = 4 / calm(url)
    for _ in range(4):  # A machine that stands still makes all late; one that stood still before finds this no load.
        found = asyncio.run(answers(url, rate, 2.0))
        fast = sum(version == "1" for version, _ in found) / len(found)
        late = sum(took > SLO for _, took in found) / len(found)
        if fast > 0.2 and late < 0.2:
            break
        rate *= 1 if fast > 0.2 else 2
    assert 0.2 < fast < 1.0  # Some can be answered in time by the one that was chosen.
    assert late < 0.2  # Without, all but the first.
    degraded = 'lepton_fallback_rows_total{cause="degraded",model="flights",version="1"}'
    assert metric(url, degraded) >= fast * len(found)
    asyncio.run(asyncio.sleep(0.5))
    assert metric(url, "lepton_version_degrading") == 0
    calm(url)


def test_a_burst_that_the_cheaper_version_can_answer_is_not_refused(slow_server):
    """As many at once as come when clients or the machine have stood still for half a second."""
    found = asyncio.run(answers(slow_server.url, 1e6, 300e-6))
    assert len(found) == 300
    assert sum(version == "1" for version, _ in found) > 100


def test_the_explanation_says_when(slow_server):
    shown = httpx.post(f"{slow_server.url}/lepton/explain", json={"context": {"carrier": "UA"}}, timeout=20).json()
    steps = {step["name"]: step["outcome"] for step in shown["stack"]}
    assert steps["degrade"].startswith("version 1 answers where version 2 can't within 800 ms; ")


def test_workers_share_a_versions_calls(tmp_path, make_deployment, start_server):
    made = make_deployment(
        tmp_path / "flights",
        layout="tensors",
        versions=2,
        work={"2": 300_000},
        around={"degrade": {"to": "1", "concurrency": {"2": 4}}, "breaker": None},
    )
    with start_server(made.path, tmp_path, workers=2) as server:
        counts = []
        for _ in range(3):  # The first ones tell that such calls belong into threads.
            found = asyncio.run(answers(server.url, 1e6, 24e-6))
            counts.append(sum(version == "2" for version, _ in found))
        assert 1 <= max(counts[1:]) <= 4
        degraded = 'lepton_fallback_rows_total{cause="degraded",model="flights",version="1"}'
        assert metric(server.url, degraded) >= 2 * 20


def test_how_long_what_is_read_may_have_waited():
    async def turns() -> None:
        now = [100.0]
        backlog = Backlog(lambda: now[0])
        ages: list[float] = []

        def work(seconds: float) -> None:
            """One request of a turn: how long it may have waited when it is answered."""
            ages.append(round(now[0] - backlog.since(), 4))
            now[0] += seconds

        def read(*requests: float) -> None:
            for seconds in requests:
                asyncio.get_running_loop().call_soon(work, seconds)

        read(0.02, 0.02)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now[0] += 0.001
        read(0.0)  # Read as soon as that was done: it may have come since the first turn began.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now[0] += 0.02  # The loop slept: what wakes it has only just come.
        read(0.0)
        await asyncio.sleep(0)
        assert ages == [0.0, 0.02, 0.041, 0.0]
        read(0.03)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now[0] += 1.0
        # What a thread answers waits for a turn of the loop, about as long as the last one, until it goes out.
        assert backlog.since(aside=True) == pytest.approx(now[0] - 0.03)
        assert backlog.since() == pytest.approx(now[0])

    asyncio.run(turns())
