"""Off-policy estimates against the truth: on a simulator whose truth is known, and on real clicks.

    PYTHONPATH=DIR python tests/benchmarks/off_policy.py [--runs 2000]

Real: the Open Bandit sample (Saito et al. 2021), 10,000 decisions each of a Thompson sampler (bts) and of a uniform
policy (random) for three kinds of fashion. What random earns is estimated from bts' decisions alone, and compared
with what it did earn. The log has the probability of the chosen item only, so support can't be checked here, as it
is for Lepton's own logs. The data comes in a wheel: pip install --no-deps --target DIR obp.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from arguments import parser
from packaged import packaged

from lepton_plugins.replay.estimators import direct, doubly_robust, effective_size, ips, on_policy, snips
from lepton_plugins.replay.features import design
from lepton_plugins.replay.off_policy import LEAST_UNITS

SEGMENTS, ARMS = 4, 3
TRAFFIC = np.array([0.4, 0.3, 0.2, 0.1])
NAMES = ("direct", "ips", "snips", "dr")


def coverage(runs: int, units: int, epsilon: float, level: float) -> dict[str, tuple[float, float, float]]:
    """For each estimator: how often its interval covers, its bias and its width. One to four rows a unit."""
    means = np.random.default_rng(5).uniform(0.2, 0.8, (SEGMENTS, ARMS))
    target = np.eye(ARMS)[[0, 2, 1, 2]]
    truth = float(TRAFFIC @ (target * means).sum(axis=1))
    logged = np.full((SEGMENTS, ARMS), epsilon / ARMS)
    logged[np.arange(SEGMENTS), [0, 0, 1, 1]] += 1 - epsilon
    hits: dict[str, list[tuple[bool, float, float]]] = {name: [] for name in NAMES}
    for seed in range(runs):
        random = np.random.default_rng(seed)
        unit = np.repeat(np.arange(units), random.integers(1, 5, units))
        segment = random.choice(SEGMENTS, units, p=TRAFFIC)[unit]
        chosen = (np.cumsum(logged[segment], axis=1) <= random.random(units)[unit][:, None]).sum(axis=1)
        rate = means[segment, chosen] + random.choice([-0.15, 0.15], units)[unit]
        rewards = (random.random(len(unit)) < rate).astype(float)
        weights = target[segment, chosen] / logged[segment, chosen]
        features = design({"segment": segment}, len(unit))
        found = estimators(rewards, chosen, weights, target[segment], features, unit)
        for name, estimate in found.items():
            low, high = estimate.interval(unit, level)
            hits[name].append((low <= truth <= high, estimate.value - truth, high - low))
    return {name: tuple(np.mean(np.array(values, dtype=float), axis=0)) for name, values in hits.items()}


def estimators(rewards, chosen, weights, target, features, unit):
    return {
        "direct": direct(rewards, chosen, target, features, unit),
        "ips": ips(rewards, weights),
        "snips": snips(rewards, weights),
        "dr": doubly_robust(rewards, chosen, weights, target, features, unit),
    }


def clicks(kind: str, policy: str) -> pd.DataFrame:
    folder = packaged("obp") / "dataset" / "obd" / policy / kind
    return pd.read_csv(folder / f"{kind}.csv", index_col=0)


def real() -> None:
    print("\nOpen Bandit sample: what random earns a decision (clicks), estimated from bts' decisions")
    print(f"{'':8s}{'':10s}{'value':>9s}  {'95 % interval':20s} effective size")
    for kind in ("all", "men", "women"):
        log, truth = clicks(kind, "bts"), clicks(kind, "random")
        items = int(max(log["item_id"].max(), truth["item_id"].max())) + 1
        own = on_policy(truth["click"].to_numpy(float))
        print(row(kind, "earned", own, np.arange(len(truth))))
        chosen, rewards = log["item_id"].to_numpy(), log["click"].to_numpy(float)
        target = np.full((len(log), items), 1.0 / items)
        weights = 1.0 / items / log["propensity_score"].to_numpy()
        unit = np.arange(len(log))
        context = {name: log[name].to_numpy() for name in ("position", "user_feature_0", "user_feature_1")}
        for name, estimate in estimators(rewards, chosen, weights, target, design(context, len(log)), unit).items():
            size = effective_size(weights, unit)
            told = f" {size:8.0f}" if name == "ips" else ""
            told += ": lepton replay would refuse" if told and size < LEAST_UNITS else ""
            print(row("", name, estimate, unit) + told)
        print(row("", "bts itself", on_policy(rewards), unit))


def row(kind: str, name: str, estimate, unit) -> str:
    low, high = estimate.interval(unit)
    return f"{kind:8s}{name:10s}{estimate.value:9.5f}  [{low:.5f}, {high:.5f}]"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--runs", type=int, default=2000)
    given = arguments.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"\nsimulator, {given.runs} runs: coverage / bias / width of the interval")
    print(f"{'':36s}" + "".join(f"{name:>26s}" for name in NAMES))
    for units, epsilon, level in ((300, 0.2, 0.95), (1000, 0.1, 0.95), (1000, 0.5, 0.95), (1000, 0.2, 0.8)):
        found = coverage(given.runs, units, epsilon, level)
        told = "".join(f"   {c:7.3f} / {b:+.4f} / {w:.3f}" for c, b, w in (found[name] for name in NAMES))
        print(f"level {level:.2f}, {units:5d} units, explore {epsilon:.1f} {told}")
    real()


if __name__ == "__main__":
    main()
