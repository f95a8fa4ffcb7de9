"""Versions that are loaded when they are asked for: once, within the memory, and never closed under a request."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from lepton_plugins.records.plan import Arm
from lepton_plugins.records.resources import ResourceSpec
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.model_cache import ModelCache
from lepton_plugins.routing.on_demand import ArmOnDemand, Shelf
from lepton_plugins.routing.router import Router
from tests.lepton_plugins.serving.conftest import build_deployment

CARRIERS = ["AA", "UA", "WN", "DL", "B6"]


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Five versions, one for each carrier."""
    return build_deployment(tmp_path_factory.mktemp("five") / "flights", layout="tensors", versions=5)


def ask(router: Router, carrier: str) -> Any:
    return router.predict({"X": np.ones((1, 4), np.float32), "carrier": np.array([carrier], dtype=object)})


def size(made: Any) -> int:
    return next((made.path / "models").rglob("*.onnx")).stat().st_size


def test_two_beside_the_default_stay_loaded_and_the_longest_unused_goes(five):
    cache = ModelCache()
    with Router.load(five.path, models=cache, memory=3 * size(five) + 10) as router:
        assert router.shelf is not None
        assert (len(cache), router.shelf.versions) == (1, ())
        for carrier in ("UA", "WN", "UA", "DL"):
            answered = ask(router, carrier)
            version = str(CARRIERS.index(carrier) + 1)
            assert answered.versions == (version,)
            assert abs(answered.values[0, 1] - five.expected(version, np.ones((1, 4)))[0]) < 1e-6
        assert router.shelf.versions == ("2", "4")
        assert (router.shelf.loads, router.shelf.evictions, len(cache)) == (3, 1, 3)
        assert ask(router, "AA").versions == ("1",)  # The default is always there.
    assert len(cache) == 0


def test_the_plan_says_how_much_stays_loaded_where_nobody_else_does(five, tmp_path):
    resources = ResourceSpec.model_validate({"model_memory": f"{3 * size(five) + 10}"})
    spec = five.plan.spec.model_copy(update={"resources": resources})
    (tmp_path / "models").symlink_to(five.path / "models")
    write_plan(five.plan.model_copy(update={"spec": spec}), {}, tmp_path)
    for memory, kept in ((None, 2), (2 * size(five) + 10, 1)):
        with Router.load(tmp_path, models=ModelCache(), memory=memory) as router:
            assert router.shelf is not None
            for carrier in ("UA", "WN", "DL"):
                ask(router, carrier)
            assert len(router.shelf.versions) == kept
    with pytest.raises(ValidationError, match="512Mi"):
        ResourceSpec.model_validate({"model_memory": "much"})


def test_a_cold_version_is_loaded_once_however_many_ask(five, monkeypatch):
    loads: list[str] = []
    from lepton_plugins.routing import opening

    real = opening.load_version

    def slow(path, version, **options):
        loads.append(version)
        time.sleep(0.1)
        return real(path, version, **options)

    monkeypatch.setattr(opening, "load_version", slow)
    with Router.load(five.path, models=ModelCache(), memory=10**9) as router:
        threads = [threading.Thread(target=ask, args=(router, "WN")) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert loads == ["1", "3"]


def test_what_cannot_be_loaded_is_answered_by_the_fallback_and_not_tried_each_time(five, monkeypatch):
    from lepton_plugins.routing import opening

    tried: list[str] = []

    def broken(path, version, **options):
        tried.append(version)
        raise RuntimeError("no memory")

    with Router.load(five.path, models=ModelCache(), memory=10**9) as router:
        monkeypatch.setattr(opening, "load_version", broken)
        for _ in range(3):
            answered = ask(router, "WN")
            assert answered.versions == ("1",)
            assert answered.decisions[0].fallback == "model_failed"
    assert tried == ["3"]


class Watched:
    """Stands for a loaded arm; being asked after it was unloaded is what must not happen."""

    def __init__(self) -> None:
        self.closed = False
        self.misused = 0

    def predict(self, columns: Any, rows: int) -> Any:
        for _ in range(20):
            self.misused += self.closed
            time.sleep(0.0001)
        return np.zeros(rows)


def test_no_request_sees_a_closed_version_while_they_come_and_go():
    loaded: dict[str, Watched] = {}
    ever: list[Watched] = []
    doubled: list[str] = []
    guard = threading.Lock()

    def load(arm: Arm) -> Any:
        with guard:
            if arm.version in loaded:
                doubled.append(arm.version)
            loaded[arm.version] = Watched()
            ever.append(loaded[arm.version])
            return loaded[arm.version]

    def unload(arm: Arm) -> None:
        with guard:
            loaded.pop(arm.version).closed = True

    shelf = Shelf(3, load, unload, lambda arm: 1)
    arms = [
        ArmOnDemand(
            Arm(version=str(n), uri="u", artifact_digest="sha256:" + "0" * 64, backend="b", format="f", share=0.1),
            shelf,
        )
        for n in range(1, 11)
    ]

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(150):
            arms[int(random.integers(len(arms)))].predict({}, 1)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.misused for one in ever) == 0
    assert doubled == []
    assert len(shelf.versions) <= 3
    assert set(loaded) == set(shelf.versions)
    shelf.close()
    assert loaded == {}
