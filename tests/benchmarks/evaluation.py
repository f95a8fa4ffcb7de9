"""Prints what scoring costs: 3 versions × 100,000 rows × 10 slices, all metrics with intervals.

    python tests/benchmarks/evaluation.py [--rows 100000]

The best of three runs, so that other work on the machine counts little.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
from arguments import parser

from lepton_plugins.evaluation.difference import paired_differences
from lepton_plugins.evaluation.metrics import available
from lepton_plugins.evaluation.partition import Partition
from lepton_plugins.evaluation.score import score, score_slices
from lepton_plugins.evaluation.scored_task import scored

SLICES, VERSIONS, RUNS = 10, 3, 3


def best(work: Callable[..., object], *arguments: object) -> float:
    """Seconds of the fastest run."""
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        work(*arguments)
        times.append(perf_counter() - start)
    return min(times)


def overall(task: str, y: np.ndarray, outputs: list[np.ndarray], kind: str, *rest: object) -> None:
    for output in outputs:
        score(task, y, output, kind, *rest)


def sliced(task: str, y: np.ndarray, outputs: list[np.ndarray], kind: str, *rest: object) -> None:
    for output in outputs:
        score_slices(task, y, output, kind, *rest)


def one_metric(y: np.ndarray, output: np.ndarray, names: tuple[str, ...], codes: np.ndarray, metric: str) -> None:
    scored("classification", y, output, "proba", names).measure(Partition(codes, SLICES), 0.95, [metric])


def classification(rng: np.random.Generator, rows: int, classes: int) -> tuple[np.ndarray, list[np.ndarray]]:
    z = rng.normal(size=(rows, classes))
    versions = []
    for noise in (0.3, 0.6, 1.0):
        p = np.exp(z + noise * rng.normal(size=z.shape))
        versions.append(p / p.sum(axis=1, keepdims=True))
    return (z + rng.gumbel(size=z.shape)).argmax(axis=1), versions


def measure(rows: int) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, SLICES, rows)
    column = {("slice",): (codes, [(str(i),) for i in range(SLICES)])}
    columns = {(f"slice {i}",): (rng.integers(0, SLICES, rows), [(str(j),) for j in range(SLICES)]) for i in range(10)}
    users = rng.integers(0, rows // 20, rows)
    print(f"{VERSIONS} versions × {rows:,} rows × {SLICES} slices, best of {RUNS} runs, seconds")
    for classes in (2, 5):
        names = tuple(str(i) for i in range(classes))
        y, versions = classification(rng, rows, classes)
        task = ("classification", y, versions, "proba", names)
        print(f"{classes} classes")
        print(f"  overall                          {best(overall, *task):6.2f}")
        print(f"  by slice                         {best(sliced, *task, column):6.2f}")
        print(f"  by slice, units of 20 rows       {best(sliced, *task, column, users):6.2f}")
        print(f"  by slice in 10 columns           {best(sliced, *task, columns):6.2f}")
        metrics = [info.name for info in available("classification", classes)]
        pair = (metrics, "classification", y, versions[0], versions[1], codes, SLICES, names)
        print(f"  differences of two versions      {best(paired_differences, *pair):6.2f}")
        for metric in metrics:
            print(f"    one version, {metric:18}  {best(one_metric, y, versions[0], names, codes, metric):6.3f}")
    y = rng.normal(size=rows)
    outputs = [y + rng.normal(size=rows) for _ in range(VERSIONS)]
    print(f"regression, by slice               {best(sliced, 'regression', y, outputs, 'value', (), column):6.2f}")
    relevance = (rng.uniform(size=rows) < 0.1).astype(int)
    ranked = best(sliced, "ranking", relevance, outputs, "score", (), column, users)
    print(f"ranking of {rows // 20:,} users, by slice   {ranked:6.2f}")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    measure(arguments.parse_args().rows)


if __name__ == "__main__":
    main()
