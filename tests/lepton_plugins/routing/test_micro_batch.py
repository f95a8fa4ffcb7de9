"""Calls of one version that come while it is busy are answered together."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import numpy as np
import pytest

from lepton_plugins.errors import TimedOut
from lepton_plugins.routing.micro_batch import MicroBatches


class SlowModel:
    """Doubles x; negative rows are poison. A call costs the same however many rows it has."""

    def __init__(self, seconds: float = 0.02, most: int = 10**9) -> None:
        self.calls: list[int] = []
        self.at_once = self.most_at_once = 0
        self._seconds, self._most, self._lock = seconds, most, Lock()

    def predict(self, columns, rows):
        with self._lock:
            self.calls.append(rows)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self._seconds)
        with self._lock:
            self.at_once -= 1
        x = columns["x"]
        assert len(x) == rows
        if (x < 0).any() or rows > self._most:
            raise ValueError(f"poison in {rows} rows")
        return 2 * x


def ask(batches: MicroBatches, values: list[list[float]], threads: int = 64) -> list[object]:
    def one(row):
        try:
            return batches.predict({"x": np.array(row)}, len(row)).tolist()
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, values))


def test_an_idle_version_answers_at_once():
    model = SlowModel(0.0)
    batches = MicroBatches(model.predict, 1)
    for value in range(20):
        assert ask(batches, [[float(value)]], threads=1) == [[2.0 * value]]
    assert model.calls == [1] * 20


@pytest.mark.parametrize("parallel", [1, 2])
def test_what_comes_meanwhile_is_one_call_and_each_gets_its_own(parallel):
    model = SlowModel()
    values = [[float(i)] * (1 + i % 3) for i in range(64)]
    answers = ask(MicroBatches(model.predict, parallel, most=64), values)
    assert answers == [[2 * v for v in row] for row in values]
    assert sum(model.calls) == sum(map(len, values))
    assert len(model.calls) <= 16
    assert max(model.calls) <= 64
    assert model.most_at_once <= parallel


def test_a_poisoned_row_fails_alone():
    model = SlowModel()
    values = [[float(i)] for i in range(20)]
    values[7] = [-1.0]
    answers = ask(MicroBatches(model.predict, 1), values)
    assert answers[7] == "poison in 1 rows"
    assert [answer for i, answer in enumerate(answers) if i != 7] == [[2 * v[0]] for v in values if v[0] >= 0]


def test_a_model_that_takes_single_rows_only_is_soon_asked_so():
    model = SlowModel(0.005, most=1)
    batches = MicroBatches(model.predict, 1)
    for _ in range(4):
        assert ask(batches, [[float(i)] for i in range(30)]) == [[2.0 * i] for i in range(30)]
    assert set(model.calls[-30:]) == {1}


def test_a_model_that_takes_single_rows_only_is_soon_asked_so_by_who_puts_rows_together(
    make_router, weighted_policy, monkeypatch
):
    """The server does, for requests that wait."""
    router = make_router(policy=weighted_policy({"2": 1.0}))
    model, sizes = router._arms[1].model, []
    answer = model.predict

    def single(columns, output):
        sizes.append(len(columns["x0"]))
        if sizes[-1] not in (1, 7):
            raise ValueError("takes one row")
        return answer(columns, output)

    monkeypatch.setattr(model, "predict", single)

    def routed(rows):
        return [router.route({f"x{i}": np.array([float(row)]) for i in range(3)}) for row in range(rows)]

    for refused in (2, 3):  # In a row, that is: it takes seven between them.
        router.answer(routed(7))
        for _ in range(refused):
            assert router.room(1) > 1
            assert router.answer(routed(4)).versions == ("2",)
    assert sizes == [7, *[4, 1, 1, 1, 1] * 2, 7, *[4, 1, 1, 1, 1] * 3]
    assert router.room(1) == 1
    assert router.counters.fallback_rows == 0


def test_calls_of_other_columns_or_shapes_are_not_mixed():
    seen: list[tuple[int, ...]] = []
    started = Event()

    def predict(columns, rows):
        seen.append(columns["x"].shape)
        started.set()
        time.sleep(0.02)
        return columns["x"].reshape(rows, -1).sum(axis=1)

    batches = MicroBatches(predict, 1)
    given = [np.ones((1, 2 + i % 2)) for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda x: batches.predict({"x": x}, 1).tolist(), given))
    assert answers == [[2.0 + i % 2] for i in range(12)]


def test_an_objective_bounds_how_many_are_answered_together():
    calls: list[int] = []

    def predict(columns, rows):
        calls.append(rows)
        time.sleep(0.002 * rows)
        return columns["x"]

    batches = MicroBatches(predict, 1, objective=0.04)
    values = [[float(i)] for i in range(600)]
    assert ask(batches, values, threads=40) == values
    # Half of the objective is ten rows' time: waiting for the call that runs takes the other half.
    assert np.median(calls[len(calls) // 2 :]) <= 16


def test_a_version_that_is_away_is_not_asked_again_for_each_call_of_a_batch():
    """Each would wait for its time-out, one behind the other."""
    calls: list[int] = []
    first, go = Event(), Event()

    def predict(columns, rows):
        calls.append(rows)
        if len(calls) == 1:
            first.set()
            go.wait(5)
            return columns["x"]
        raise TimedOut("1", "answer", 5.0)

    batches = MicroBatches(predict, parallel=1)

    def one(value):
        try:
            return batches.predict({"x": np.array([value])}, 1).tolist()
        except TimedOut as error:
            return error.code

    with ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(one, 0.0)]
        first.wait(5)
        answers += [pool.submit(one, float(value)) for value in range(1, 9)]
        while batches._queue.waiting < 8:
            time.sleep(0.001)
        go.set()
        assert [answer.result() for answer in answers] == [[0.0], *["timed_out"] * 8]
    assert calls == [1, 8]
