"""Prints what a policy's own decision costs: `python tests/benchmarks/decisions.py`.

One process, one thread, the best of many short runs, so that other work on the machine counts little. One row: the
unit's key is hashed, an arm drawn, with its propensities and reason. 10,000 rows: keys hashed before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime

from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.planning.gain import compiled
from lepton_plugins.routing.policy import Batch, SelectionPolicy
from lepton_plugins.routing.router import Router
from lepton_plugins.routing.slots import Slots
from lepton_plugins.testing.deployment import write_deployment
from lepton_plugins.testing.evidence import paired_predictions, rows_of
from lepton_selection.learned import Learned
from lepton_selection.rules import Rules
from lepton_selection.segment_best import SegmentBest
from lepton_selection.weighted import Weighted

ROWS = 10_000
CARRIERS = ["AA", "B6", "DL", "UA", "WN"]
COLUMNS = {"carrier": CARRIERS, "distance": [float(d) for d in range(100, 3000, 7)]}
RULES = [
    {"when": 'carrier == "ZZ"', "use": 2},
    {"when": 'carrier == "UA" && distance > 5000.0', "use": 2},
    {"when": 'carrier in ["YY", "XX"]', "use": 3},
    {"when": "distance > 1500.0", "use": 2},
]
#: Targets: µs for one row, ns a row in a batch.
TARGETS = {
    "weighted": (2, 60),
    "segment_best, 1 column": (3, 60),
    "rules, 4 clauses, contexts seen before": (5, None),
    "rules, 4 clauses, new contexts": (5, None),
}


def made(
    kind: str,
    policy: type[SelectionPolicy],
    params: Mapping[str, Any],
    versions: Sequence[str] = ("1", "2", "3"),
    columns: Mapping[str, Sequence[Any]] = COLUMNS,
) -> SelectionPolicy:
    checked = policy.Params.model_validate(params)
    paired: PairedPredictions = paired_predictions(columns, versions, 3000)
    proposal = policy.propose(checked, paired)
    shares = None
    if proposal is not None:
        allowed = np.where(proposal.allowed, proposal.utility, -np.inf)
        shares = np.eye(len(versions))[allowed.argmax(axis=1)]
    document = policy.compile(checked, paired, proposal, shares, versions, None)
    return compiled(kind, policy, checked, document, versions, versions[0])


def best(call: Callable[[], object], number: int, repeats: int = 60) -> float:
    """Seconds a call, the best of `repeats` runs of `number`."""
    shortest = float("inf")
    for _ in range(repeats):
        start = perf_counter()
        for _ in range(number):
            call()
        shortest = min(shortest, perf_counter() - start)
    return shortest / number


def one_row(policy: SelectionPolicy, contexts: Sequence[Mapping[str, Any]], number: int = 500) -> float:
    slots = Slots("00" * 16)
    keys = cycle([f"customer-{i}" for i in range(5000)])
    rows = cycle(contexts)

    def decide() -> object:
        unit = slots.unit(next(keys))
        assert unit is not None
        return policy.choose_one(next(rows), unit[0])

    return best(decide, number) * 1e6


def in_batch(policy: SelectionPolicy, columns: Mapping[str, Any]) -> float:
    draws = np.random.default_rng(0).integers(0, 2**64, ROWS, dtype=np.uint64)
    batch = Batch(ROWS, {name: columns[name] for name in policy.features}, draws)
    return best(lambda: policy.choose(batch), 1, 40) / ROWS * 1e9


def main() -> None:
    columns = rows_of(COLUMNS, ROWS)
    seen = [{name: column[i] for name, column in columns.items()} for i in range(200)]
    seen = [{"carrier": row["carrier"], "distance": float(row["distance"])} for row in seen]
    generator = np.random.default_rng(1)
    new = [{"carrier": CARRIERS[i % 5], "distance": float(d)} for i, d in enumerate(generator.random(60_000) * 2000)]
    shares = {"1": 0.5, "2": 0.3, "3": 0.2}
    rules = made("rules", Rules, {"rules": RULES})
    lines = [
        ("weighted", made("weighted", Weighted, {"shares": shares}), seen),
        ("segment_best, 1 column", made("segment_best", SegmentBest, {"by": ["carrier"]}), seen),
        ("segment_best, column and bins", made("segment_best", SegmentBest, {"by": ["carrier", "distance:4"]}), seen),
        ("rules, 4 clauses, contexts seen before", rules, seen),
        ("rules, 4 clauses, new contexts", rules, new),
        (
            f"learned, 50 trees (onnxruntime {onnxruntime.__version__})",
            made("learned", Learned, {"features": ["carrier", "distance"]}),
            new,
        ),
    ]
    print(f"{'policy':48} {'one row':>10} {'target':>9} {'10,000 rows':>14} {'target':>12}")
    for name, policy, contexts in lines:
        single, many = one_row(policy, contexts), in_batch(policy, columns)
        row, batch = TARGETS.get(name, (None, None))
        shown = [f"≤ {row} µs" if row else "", f"≤ {batch} ns" if batch else ""]
        print(f"{name:48} {single:7.2f} µs {shown[0]:>9} {many:8.1f} ns/row {shown[1]:>12}")
    print()
    few, many_arms = [str(i) for i in range(1, 11)], [str(i) for i in range(1, 1001)]
    for kind, policy, params in (("weighted", Weighted, {}), ("segment_best", SegmentBest, {"by": ["carrier"]})):
        pairs = []
        for versions in (few, many_arms):
            given = {"shares": dict.fromkeys(versions, 100 / len(versions))} if kind == "weighted" else params
            own = made(kind, policy, given, versions, {"carrier": CARRIERS})
            pairs.append((one_row(own, seen), in_batch(own, columns)))
        ratios = [large / small for small, large in zip(*pairs, strict=True)]
        print(f"{kind}: 1,000 arms cost {ratios[0]:.2f} × of 10 for one row, {ratios[1]:.2f} × in a batch (≤ 3)")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "line"
        write_deployment(path)
        with Router.load(path) as router:
            keys = cycle([f"customer-{i}" for i in range(5000)])
            whole = best(lambda: router.decide({}, next(keys)), 500) * 1e6
    own = one_row(made("weighted", Weighted, {"shares": {"1": 60, "2": 40}}, ("1", "2")), [{}])
    print(f"router.decide with its record: {whole:.2f} µs, {whole - own:.2f} µs more than the policy (≤ 5)")


if __name__ == "__main__":
    main()
