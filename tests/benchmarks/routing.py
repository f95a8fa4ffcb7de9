"""What routing costs: three versions beside one, by the same data plane, in every target.

    python tests/benchmarks/routing.py [--starts 8] [--rounds 4] [--targets "lepton serve" …] [--connections 1 8]

Each target serves the same plan twice, with three versions and with one, as its tools start it; the two take turns of
a second. A process is some per cent faster or slower than its twin as long as it lives, by where its memory happens to
lie: so both are started anew, `starts` times. Printed are the ratios of throughput (three to one) and of the medians of
latency (one to three), start by start, with their median and the bootstrap's 95 % interval. Asked for: at least 0.97.
The load comes from wrk.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import serving
import targets
from arguments import parser
from load import Load

SECONDS = 1.0

#: By target, connections and number of versions: one start's loads after another's.
Found = dict[tuple[str, int, int], list[list[Load]]]


def one_start(found: Found, rounds: int, connections: list[int], wanted: str) -> None:
    made = serving.deployments()
    with tempfile.TemporaryDirectory(prefix="lepton-routing-") as folder, ExitStack() as stack:
        subjects: dict[str, dict[str, serving.Subject]] = {}
        for versions in (3, 1):
            home = Path(folder) / str(versions)
            plan = made.build_deployment(home / "deployment", features=targets.FEATURES, versions=versions)
            for target, running, _, _ in targets.subjects(plan.path, home, stack, [wanted]):
                subject = serving.Subject(running.url, running.path, running.body, None)
                subjects.setdefault(target, {})[str(versions)] = subject
        for target, both in subjects.items():
            for number in connections:
                loads, _ = serving.loads_of(both, number, SECONDS, rounds)
                for versions in (3, 1):
                    found.setdefault((target, number, versions), []).append(loads[str(versions)])


def show(found: Found) -> None:
    for target, number in dict.fromkeys((target, number) for target, number, _ in found):
        three, one = found[target, number, 3], found[target, number, 1]
        rates = [[statistics.median(load.per_s for load in start) for start in starts] for starts in (three, one)]
        p50 = [[statistics.median(load.p50 for load in start) for start in starts] for starts in (one, three)]
        shown = {"throughput": serving.ratio(*rates), "p50": serving.ratio(*p50), "starts": len(three)}
        load = [round(value, 1) for value in os.getloadavg()]
        print(json.dumps({"target": target, "connections": number, **shown, "load": load}), flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--starts", type=int, default=8)
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--targets", nargs="+", default=list(targets.TARGETS), choices=targets.TARGETS)
    given = arguments.parse_args()
    for target in given.targets:
        found: Found = {}
        for _ in range(given.starts):
            one_start(found, given.rounds, given.connections, target)
        show(found)


if __name__ == "__main__":
    main()
