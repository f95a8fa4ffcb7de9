"""What routing costs: three versions beside one, by the same data plane, in every target.

    python tests/benchmarks/routing.py [--starts 20] [--seconds 10] [--targets "lepton serve" …] [--connections 1 8]

Each target serves the same plan with three versions and with one, as its tools start it. The two servers take turns of
a twentieth of a second, in an order drawn anew for each pair: what else the machine does lasts longer, and so touches
both. A process is some per cent faster or slower than its twin as long as it lives, by where its memory happens to lie:
every start begins both anew, and the one with three versions is begun first in every other.
Printed are the ratios of throughput (three to one) and of the medians of latency (one to three), slice by slice, with
their median and the bootstrap's 95 % interval: of starts, and of slices within a start. Asked for: at least 0.97.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import serving
import targets
from arguments import parser
from load import Load, Slices
from started import Running

SLICE = 0.05

#: Resamples of the bootstrap.
DRAWS = 1000

Pair = tuple[Load, Load]

#: By target and number of connections, for each start: the loads of three versions and of one, pair by pair.
Found = dict[tuple[str, int], list[list[Pair]]]


def start(found: Found, target: str, connections: list[int], seconds: float, order: tuple[int, int]) -> None:
    """Begins a server with three versions and one with a single one, and asks them in turns."""
    made = serving.deployments()
    with tempfile.TemporaryDirectory(prefix="lepton-routing-") as folder, ExitStack() as stack:
        servers: dict[str, dict[int, Running]] = {}
        for versions in order:
            home = Path(folder) / str(versions)
            plan = made.build_deployment(home / "deployment", features=targets.FEATURES, versions=versions)
            for name, running, _, _ in targets.subjects(plan.path, home, stack, [target]):
                servers.setdefault(name, {})[versions] = running
        for name, both in servers.items():
            for number in connections:
                found.setdefault((name, number), []).append(turns(both, number, seconds))


def turns(servers: dict[int, Running], connections: int, seconds: float) -> list[Pair]:
    """`seconds` of each, after a second of warming up."""
    with ExitStack() as stack:
        slices = {}
        for versions, server in servers.items():
            slices[versions] = Slices(server.url, server.path, server.body, connections)
            stack.callback(slices[versions].close)
            slices[versions].run(1.0)
        pairs = []
        for _ in range(round(seconds / SLICE)):
            loads = {versions: slices[versions].run(SLICE) for versions in random.sample((3, 1), 2)}
            pairs.append((loads[3], loads[1]))
        return pairs


def ratio(starts: list[list[float]]) -> list[float]:
    """The median of all ratios, and the 95 % interval of it: resampled are starts, and the ratios of each."""
    draw = random.Random(0)
    medians = []
    for _ in range(DRAWS):
        drawn = (draw.choices(ratios, k=len(ratios)) for ratios in draw.choices(starts, k=len(starts)))
        medians.append(statistics.median(value for ratios in drawn for value in ratios))
    medians.sort()
    middle = statistics.median(value for ratios in starts for value in ratios)
    return [round(value, 3) for value in (middle, medians[DRAWS // 40], medians[-DRAWS // 40])]


def show(found: Found) -> None:
    for (target, number), starts in found.items():
        shown = {
            "throughput": ratio([[three.per_s / one.per_s for three, one in pairs] for pairs in starts]),
            "p50": ratio([[one.p50 / three.p50 for three, one in pairs] for pairs in starts]),
            "starts": len(starts),
            "pairs": sum(len(pairs) for pairs in starts),
            "requests": sum(three.requests + one.requests for pairs in starts for three, one in pairs),
        }
        load = [round(value, 1) for value in os.getloadavg()]
        print(json.dumps({"target": target, "connections": number, **shown, "load": load}), flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--starts", type=int, default=20)
    arguments.add_argument("--seconds", type=float, default=10.0, help="of each server, in each start")
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--targets", nargs="+", default=list(targets.TARGETS), choices=targets.TARGETS)
    given = arguments.parse_args()
    for target in given.targets:
        found: Found = {}
        for number in range(given.starts):
            start(found, target, given.connections, given.seconds, (1, 3) if number % 2 else (3, 1))
        show(found)


if __name__ == "__main__":
    main()
