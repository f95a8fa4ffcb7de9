"""What routing costs: three versions beside one, by the same data plane, in every target.

    python tests/benchmarks/routing.py [--seconds 1] [--rounds 30] [--targets "lepton serve" …] [--connections 1 8]

Each target serves the same plan twice, with three versions and with one, as its tools start it; the two take turns.
Printed are the ratios of throughput (three to one) and of the medians of latency (one to three), round by round, with
their median and the bootstrap's 95 % interval. Asked for: at least 0.97, interval included. The load comes from wrk.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import serving
import targets
from arguments import parser


def measure(seconds: float, rounds: int, connections: list[int], wanted: list[str]) -> None:
    made = serving.deployments()
    with tempfile.TemporaryDirectory(prefix="lepton-routing-") as folder, ExitStack() as stack:
        found: dict[str, dict[str, serving.Subject]] = {}
        for name, versions in (("lepton", 3), ("one", 1)):
            home = Path(folder) / name
            plan = made.build_deployment(home / "deployment", features=targets.FEATURES, versions=versions)
            for target, running, _, _ in targets.subjects(plan.path, home, stack, wanted):
                found.setdefault(target, {})[name] = serving.Subject(running.url, running.path, running.body, None)
                print(f"{target}, {versions} versions: started", file=sys.stderr, flush=True)
        for target, subjects in found.items():
            for number in connections:
                one = serving.turns(subjects, number, seconds, rounds)["one"]
                shown = {"throughput": one["lepton_to_it"], "p50": one["its_p50_to_leptons"]}
                load = [round(value, 1) for value in os.getloadavg()]
                print(json.dumps({"target": target, "connections": number, **shown, "load": load}), flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--targets", nargs="+", default=list(targets.TARGETS), choices=targets.TARGETS)
    given = arguments.parse_args()
    measure(given.seconds, given.rounds, given.connections, given.targets)


if __name__ == "__main__":
    main()
