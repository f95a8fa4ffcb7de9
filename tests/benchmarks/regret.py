"""Cumulative regret of the bandits with context, beside vowpalwabbit's and river's at their defaults.

    PYTHONPATH=DIR python tests/benchmarks/regret.py [--seeds 20] [--environments linear,drift]

Everyone sees the same rows in the same order, one by one, and learns from the reward of the arm it chose at once.
Simulated: five arms, eight features, rewards of 0 or 1; regret is the best arm's probability less the chosen one's.
`drift`: halfway the arms change places. Real: data sets for classification, a class an arm, 1 for the right one;
regret is a mistake. Lepton's policies have their defaults, without prior evidence, and once a half-life of 500 rows.
vowpalwabbit has its default, and once `--cb_type dm`. Mean over seeds, interval by Student's
t; `ratio` is to the better peer at its defaults.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from arguments import parser

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from scipy.stats import t

from lepton_plugins.records.plan import PolicyDocument
from lepton_selection.linear import FILE, LinearBandit
from lepton_selection.lints import LinTs
from lepton_selection.linucb import LinUcb


class Player(Protocol):
    def choose(self, x: np.ndarray) -> int: ...

    def learn(self, x: np.ndarray, arm: int, reward: float) -> None: ...


class Lepton:
    """A policy of Lepton's as the router uses it: a draw, a vector, and the reward at its propensity."""

    def __init__(self, kind: type[LinearBandit], half_life: float | None, arms: int, width: int, seed: int) -> None:
        names = [f"x{index}" for index in range(width)]
        encoding = [{"name": name, "kind": "standard", "mean": 0.0, "scale": 1.0} for name in names]
        versions = [str(arm + 1) for arm in range(arms)]
        params: dict[str, Any] = {"features": dict.fromkeys(names, "standardised"), "prior": 0.0}
        document = PolicyDocument(
            kind=kind.__name__.lower(),
            params=params | ({"half_life": half_life} if half_life else {}),
            features=tuple(names),
            document={"live": versions, "encoding": encoding, "metric": "accuracy", "baseline": None},
        )
        start = np.zeros((width + 1 + arms, width + 1), dtype="<f8").tobytes()
        self._policy = kind(document, {FILE: start}, versions, 0)
        self._names = names
        self._random = np.random.default_rng(seed)
        self._half_life = half_life
        self._weight = 1.0

    def choose(self, x: np.ndarray) -> int:
        self._context = dict(zip(self._names, x.tolist(), strict=True))
        choice = self._policy.choose_one(self._context, int(self._random.integers(0, 2**64, dtype=np.uint64)))
        self._propensity = choice.vector[choice.arm]
        return choice.arm

    def learn(self, x: np.ndarray, arm: int, reward: float) -> None:
        if self._half_life:  # Later rewards count more: the same as earlier ones fading, as the learner does it.
            self._weight *= 2 ** (1 / self._half_life)
        made = self._policy.contribution(self._context, reward, self._propensity)
        self._policy.learn(arm, made, self._weight)


class River:
    def __init__(self, arms: int, width: int, seed: int) -> None:
        from river.bandit import LinUCBDisjoint

        self._policy = LinUCBDisjoint(seed=seed)
        self._arms = list(range(arms))

    def choose(self, x: np.ndarray) -> int:
        self._x = dict(enumerate(x.tolist()))
        return int(self._policy.pull(self._arms, context=self._x))

    def learn(self, x: np.ndarray, arm: int, reward: float) -> None:
        self._policy.update(arm, self._x, reward)


class VowpalWabbit:
    """`--cb_explore`: ε-greedy with ε = 0.05 over a linear model of each arm's cost, here 1 - reward."""

    def __init__(self, arms: int, width: int, seed: int, options: str = "") -> None:
        from vowpalwabbit import Workspace

        self._model = Workspace(f"--cb_explore {arms} --quiet --random_seed {seed} {options}")
        self._random = np.random.default_rng(seed)

    def choose(self, x: np.ndarray) -> int:
        self._text = "| " + " ".join(f"f{index}:{value:.6g}" for index, value in enumerate(x.tolist()))
        vector = np.array(self._model.predict(self._text))
        vector /= vector.sum()
        arm = int(self._random.choice(len(vector), p=vector))
        self._propensity = float(vector[arm])
        return arm

    def learn(self, x: np.ndarray, arm: int, reward: float) -> None:
        self._model.learn(f"{arm + 1}:{1 - reward:g}:{self._propensity:.6g} {self._text}")


class Even:
    """Every arm alike, as a yardstick."""

    def __init__(self, arms: int, width: int, seed: int) -> None:
        self._random, self._arms = np.random.default_rng(seed), arms

    def choose(self, x: np.ndarray) -> int:
        return int(self._random.integers(self._arms))

    def learn(self, x: np.ndarray, arm: int, reward: float) -> None:
        pass


def lepton(kind: type[LinearBandit], half_life: float | None = None) -> Callable[[int, int, int], Player]:
    return lambda arms, width, seed: Lepton(kind, half_life, arms, width, seed)


PLAYERS: dict[str, Callable[[int, int, int], Player]] = {
    "lepton linucb": lepton(LinUcb),
    "lepton lints": lepton(LinTs),
    "lepton linucb, half-life 500": lepton(LinUcb, 500.0),
    "river LinUCBDisjoint": River,
    "vowpalwabbit --cb_explore": VowpalWabbit,
    "vowpalwabbit … --cb_type dm": lambda arms, width, seed: VowpalWabbit(arms, width, seed, "--cb_type dm"),
    "at random": Even,
}
PEERS = ("river LinUCBDisjoint", "vowpalwabbit --cb_explore")


def simulated(seed: int, *, drift: bool, rows: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Features (rows, 8) and the probability of a reward (rows, 5)."""
    random = np.random.default_rng(1000 + seed)
    x = random.normal(size=(rows, 8))
    weights = random.normal(size=(8, 5)) / np.sqrt(8)
    score = x @ weights
    if drift:
        score[rows // 2 :] = x[rows // 2 :] @ np.roll(weights, 1, axis=1)
    return x, 1 / (1 + np.exp(-2.0 * score))


def classes(name: str, seed: int, rows: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """A data set in a random order, 1,000 rows at most: standardised features, and 1 for the right class."""
    from sklearn import datasets

    if name in ("digits", "breast_cancer"):
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    else:
        from river.datasets import ImageSegments, Phishing

        pairs = list({"segments": ImageSegments, "phishing": Phishing}[name]())
        x = np.array([list(features.values()) for features, _ in pairs], dtype=float)
        y = np.array([str(label) for _, label in pairs])
    order = np.random.default_rng(seed).permutation(len(x))[:rows]
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)
    codes = np.unique(y, return_inverse=True)[1]
    return x[order], np.eye(codes.max() + 1)[codes[order]]


ENVIRONMENTS: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "linear": lambda seed: simulated(seed, drift=False),
    "drift": lambda seed: simulated(seed, drift=True),
    "segments": lambda seed: classes("segments", seed),
    "phishing": lambda seed: classes("phishing", seed),
    "breast_cancer": lambda seed: classes("breast_cancer", seed),
    "digits": lambda seed: classes("digits", seed),
}


def play(player: Player, x: np.ndarray, chances: np.ndarray, seed: int) -> float:
    """The regret of one run."""
    # A stream of its own: players that draw must not draw by the same luck.
    luck = np.random.default_rng([seed, 1]).random(len(x))
    best = chances.max(axis=1)
    regret = 0.0
    for row in range(len(x)):
        arm = player.choose(x[row])
        player.learn(x[row], arm, float(luck[row] < chances[row, arm]))
        regret += best[row] - chances[row, arm]
    return regret


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--environments", default=",".join(ENVIRONMENTS))
    given = arguments.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {given.seeds} seeds")
    for environment in given.environments.split(","):
        found: dict[str, np.ndarray] = {}
        spent: dict[str, float] = {}
        rows = 0
        for name, make in PLAYERS.items():
            regrets = []
            began = time.process_time()
            for seed in range(given.seeds):
                x, chances = ENVIRONMENTS[environment](seed)
                regrets.append(play(make(chances.shape[1], x.shape[1], seed), x, chances, seed))
                rows = len(x)
            found[name] = np.array(regrets)
            spent[name] = (time.process_time() - began) / given.seeds / rows
        peer = min(found[name].mean() for name in PEERS)
        print(f"\n{environment}: {rows:,} rows, {chances.shape[1]} arms, {x.shape[1]} features")
        print(f"{'':32s}{'regret':>8s} {'95 % interval':>20s} {'ratio':>7s} {'µs a row':>9s}")
        for name, regrets in found.items():
            half = float(t.isf(0.025, len(regrets) - 1)) * regrets.std(ddof=1) / np.sqrt(len(regrets))
            mean = float(regrets.mean())
            told = f"[{mean - half:8.1f}, {mean + half:8.1f}] {mean / peer:7.2f} {1e6 * spent[name]:9.0f}"
            print(f"{name:32s}{mean:8.1f} {told}", flush=True)


if __name__ == "__main__":
    main()
