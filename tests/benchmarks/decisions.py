"""Prints what a policy's own decision costs: `python tests/benchmarks/decisions.py`.

One process, one thread, its processor time, the best of many short runs, so that other work on the machine counts
little. One row: the unit's key is hashed, an arm drawn, with its propensities and reason. 10,000 rows: keys hashed
before. The bandits stand beside river, mabwiser and vowpalwabbit (extra [bench]), each as fast as its interface lets
it be: one decision and one reward, 10 arms, 31 numbers and a constant.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # Before numpy is imported.

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import thread_time
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
from lepton_selection.counting import CountingBandit
from lepton_selection.learned import Learned
from lepton_selection.linear import LinearBandit
from lepton_selection.lints import LinTs
from lepton_selection.linucb import LinUcb
from lepton_selection.rules import Rules
from lepton_selection.segment_best import SegmentBest
from lepton_selection.thompson import Thompson
from lepton_selection.ucb import Ucb
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
FUNCTIONS = [
    {"when": 'header["x-tenant"] == "gold"', "use": 2},
    {"when": 'carrier.startsWith("Z") || carrier.contains("QQ")', "use": 2},
    {"when": "distance >= 2500.0 && size(carrier) > 2", "use": 3},
    {"when": "distance > 1500.0", "use": 2},
]
ARITHMETIC = ["distance * 1.609 > 9000.0", "2.0 * distance > 9000.0", "distance / 2.0 > 9e3", "1.0 + distance > 1e4"]
OWN = [
    "int(distance) > 9000",
    "distance > 9000.0 ? true : distance < -1.0",
    "1.0 / distance > 9000.0",
    "int(distance) < 0",
]
TEXT = [*OWN[:2], "carrier + 'x' == 'ZZx'", "carrier == 'UA' ? distance > 9000.0 : false"]
#: Targets: µs for one row, ns a row in a batch.
TARGETS = {
    "weighted": (2, 60),
    "segment_best, 1 column": (3, 60),
    "rules, 4 clauses, contexts seen before": (5, None),
    "rules, 4 clauses, new contexts": (5, None),
    "rules, 4 with functions, new contexts": (5, None),
    "… without the header, new contexts": (5, None),
    "rules, 1 of 4 that only CEL can, new contexts": (5, None),
    "rules, 4 with arithmetic, new contexts": (5, None),
    "rules, 4 that only CEL can, new contexts": (5, None),
    "… on text too, new contexts": (5, None),
    "linucb": (12, 400),
    "lints": (120, None),
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
        start = thread_time()
        for _ in range(number):
            call()
        shortest = min(shortest, thread_time() - start)
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


def in_batch(policy: SelectionPolicy, columns: Mapping[str, Any], repeats: int = 40) -> float:
    draws = np.random.default_rng(0).integers(0, 2**64, ROWS, dtype=np.uint64)
    batch = Batch(ROWS, {name: columns[name] for name in policy.features}, draws)
    return best(lambda: policy.choose(batch), 1, repeats) / ROWS * 1e9


NAMES = [f"x{number}" for number in range(31)]
ARMS = [str(number) for number in range(1, 11)]


def bandits() -> None:
    """Ours and the others' on the same contexts: µs for a decision and for a reward."""
    rng = np.random.default_rng(0)
    rows = [dict(zip(NAMES, map(float, values), strict=True)) for values in rng.normal(size=(300, 31))]
    table = {name: [row[name] for row in rows] for name in NAMES}
    batch = {name: rng.normal(size=ROWS) for name in NAMES}
    print(
        f"{'10 arms, 31 features and a constant':48} {'one row':>10} {'target':>9} {'10,000 rows':>14} {'reward':>11}"
    )
    fastest = float("inf")
    for kind, policy in (("linucb", LinUcb), ("lints", LinTs)):
        made_ = made(kind, policy, {"features": NAMES}, ARMS, table)
        assert isinstance(made_, LinearBandit)
        for number in range(3000):
            arm, row = number % 10, rows[int(rng.integers(300))]
            made_.learn(arm, made_.contribution(row, float(rng.random() < 0.1 + 0.05 * arm), 0.1), 1.0)
        again = cycle(rows)
        single, many = one_row(made_, rows, 100), in_batch(made_, batch, 10 if kind == "lints" else 60)
        reward = best(lambda m=made_, a=again: m.learn(3, m.contribution(next(a), 1.0, 0.1), 1.0), 100) * 1e6  # type: ignore[misc]
        targets = TARGETS[kind]
        print(f"{kind:48} {single:7.2f} µs ≤ {targets[0]:3} µs {many:8.0f} ns/row {reward:8.2f} µs (≤ 20)")
        if kind == "lints":
            posterior = best(lambda m=made_, a=again: m._moments_one(next(a)), 100) * 1e6  # type: ignore[misc]
            print(f"{'lints, the posteriors alone':48} {posterior:7.2f} µs ≤  15 µs")
        fastest = min(fastest, single)
    for kind, policy in (("thompson", Thompson), ("ucb", Ucb)):
        counted = made(kind, policy, {}, ARMS, {"carrier": CARRIERS})
        assert isinstance(counted, CountingBandit)

        def both(counted: CountingBandit = counted) -> None:
            counted.learn(3, counted.contribution({}, 1.0, 0.1), 1.0)
            counted.choose_one({}, 2**60)

        print(f"{kind:48} {one_row(counted, [{}]):7.2f} µs, after a reward {best(both, 100) * 1e6:.1f} µs more")
    for name, decide, learn in others(rows):
        decision, reward = best(decide, 20) * 1e6, best(learn, 20, 20) * 1e6
        print(f"{name:48} {decision:7.1f} µs {'':9} {'':14} {reward:10.1f} µs: {decision / fastest:.0f} × ours")


def others(rows: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """LinUCB of river and mabwiser, SquareCB of vowpalwabbit: those that are installed."""
    again = cycle(rows)
    if importlib.util.find_spec("river"):
        from river import bandit

        theirs = bandit.LinUCBDisjoint(alpha=0.5, seed=1)
        for number in range(300):
            theirs.update(ARMS[number % 10], next(again), 1.0)
        yield (
            "river LinUCBDisjoint",
            lambda: theirs.pull(ARMS, context=next(again)),
            lambda: theirs.update("3", next(again), 1.0),
        )
    if importlib.util.find_spec("mabwiser"):
        from mabwiser.mab import MAB, LearningPolicy

        model = MAB(ARMS, LearningPolicy.LinUCB(alpha=0.5))
        table = np.array([list(row.values()) for row in rows])
        model.fit([ARMS[number % 10] for number in range(len(rows))], [1.0] * len(rows), table)
        one = [list(rows[0].values())]
        yield "mabwiser LinUCB", lambda: model.predict(one), lambda: model.partial_fit(["3"], [1.0], one)
    if importlib.util.find_spec("vowpalwabbit"):
        import vowpalwabbit

        workspace = vowpalwabbit.Workspace("--cb_explore_adf --squarecb --quiet")
        arms = [f"|a arm={arm}" for arm in ARMS]

        def text() -> list[str]:
            return ["shared |s " + " ".join(f"{name}:{value:.6f}" for name, value in next(again).items()), *arms]

        def learn() -> None:
            lines = text()
            lines[3] = "0:-1.0:0.1 " + lines[3]
            workspace.learn(lines)

        yield "vowpalwabbit --squarecb", lambda: workspace.predict(text()), learn


def main() -> None:
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
    columns = rows_of(COLUMNS, ROWS)
    seen = [{name: column[i] for name, column in columns.items()} for i in range(200)]
    seen = [{"carrier": row["carrier"], "distance": float(row["distance"])} for row in seen]
    generator = np.random.default_rng(1)
    new = [{"carrier": CARRIERS[i % 5], "distance": float(d)} for i, d in enumerate(generator.random(60_000) * 2000)]
    tenants = [row | {"header:x-tenant": "tin"} for row in new]
    columns |= {"header:x-tenant": np.full(ROWS, "tin", dtype=object)}
    functions = made("rules", Rules, {"rules": FUNCTIONS})
    mixed = made("rules", Rules, {"rules": [*RULES[:3], {"when": OWN[0], "use": 3}]})
    arithmetic, only, text = (
        made("rules", Rules, {"rules": [{"when": when, "use": 3} for when in whens]})
        for whens in (ARITHMETIC, OWN, TEXT)
    )
    shares = {"1": 0.5, "2": 0.3, "3": 0.2}
    rules = made("rules", Rules, {"rules": RULES})
    lines = [
        ("weighted", made("weighted", Weighted, {"shares": shares}), seen),
        ("segment_best, 1 column", made("segment_best", SegmentBest, {"by": ["carrier"]}), seen),
        ("segment_best, column and bins", made("segment_best", SegmentBest, {"by": ["carrier", "distance:4"]}), seen),
        ("rules, 4 clauses, contexts seen before", rules, seen),
        ("rules, 4 clauses, new contexts", rules, new),
        ("rules, 4 with functions, new contexts", functions, tenants),
        ("… without the header, new contexts", functions, new),
        ("rules, 1 of 4 that only CEL can, new contexts", mixed, new),
        ("rules, 4 with arithmetic, new contexts", arithmetic, new),
        ("rules, 4 that only CEL can, new contexts", only, new),
        ("… on text too, new contexts", text, new),
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
    bandits()
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
