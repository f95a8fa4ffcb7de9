"""What routing costs: three versions beside one, by the same data plane, in every target.

    python tests/benchmarks/routing.py [--starts 4] [--rounds 12] [--targets "lepton serve" …] [--connections 1 8]

Each target serves the same plan with three versions and with one, as its tools start it; both take turns of a second.
A process is some per cent faster or slower than its twin as long as it lives, by where its memory happens to lie. So
where the target follows a state directory one process serves both, its pointer moved to and fro; others have a process
for each, and every start begins both anew. Printed are the ratios of throughput (three to one) and of the
medians of latency (one to three), pair by pair, with their median and the bootstrap's 95 % interval. Asked for: at
least 0.97. The load comes from wrk.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import serving
import targets
from arguments import parser
from load import JSON, Client, Load
from reload import in_force

from lepton_plugins.serving.pointer import write_pointer

SECONDS = 1.0

#: Targets whose processes follow a state directory.
FOLLOW = ("lepton serve", "kserve")

#: Requests until a server that has swapped its plan knows that they are short.
WARM = 200

#: By target, connections and number of versions: the loads of one pair after another's.
Found = dict[tuple[str, int, int], list[list[Load]]]


def one_process(found: Found, rounds: int, connections: list[int], wanted: str) -> None:
    """One start of a server that serves both plans in turns, in an order that changes from round to round."""
    made = serving.deployments()
    with tempfile.TemporaryDirectory(prefix="lepton-routing-") as folder, ExitStack() as stack:
        home = Path(folder)
        revisions = {}
        for versions in (3, 1):
            plan = made.build_deployment(home / str(versions), features=targets.FEATURES, versions=versions)
            revisions[versions] = f"revisions/{plan.plan.digest.removeprefix('sha256:')}"
            shutil.copytree(plan.path, home / "state" / revisions[versions])
        write_pointer(home / "state", revisions[3])
        _, v2 = targets.one_row()
        if wanted == "kserve":
            url = stack.enter_context(targets.predictor(home / "3", home / "state", home, v2)).url
            state = home / "mnt"
        else:
            state = home / "state"
            url = stack.enter_context(made.run_server(state, home, decisions=str(home / "decisions"))).url
        body = json.dumps(v2).encode()
        clients = {number: Client(url, targets.INFER, body, number) for number in connections}
        for turn in range(rounds):
            for versions in (3, 1) if turn % 2 else (1, 3):
                change(state, revisions[versions], url, body)
                for number, client in clients.items():
                    found.setdefault((wanted, number, versions), []).append([client.run(SECONDS)])


def change(state: Path, revision: str, url: str, body: bytes) -> None:
    """Until the server answers by this revision, and has got used to it."""
    write_pointer(state, revision)
    while not in_force(url, f"sha256:{Path(revision).name}", 1):
        time.sleep(0.05)
    with httpx.Client() as client:
        for _ in range(WARM):
            client.post(url + targets.INFER, content=body, headers=JSON).raise_for_status()


def own_processes(found: Found, rounds: int, connections: list[int], wanted: str) -> None:
    """One start of a server for each plan."""
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
        shown = {"throughput": serving.ratio(*rates), "p50": serving.ratio(*p50), "pairs": len(three)}
        load = [round(value, 1) for value in os.getloadavg()]
        print(json.dumps({"target": target, "connections": number, **shown, "load": load}), flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--starts", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=12, help="of each start")
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--targets", nargs="+", default=list(targets.TARGETS), choices=targets.TARGETS)
    given = arguments.parse_args()
    for target in given.targets:
        found: Found = {}
        measure = one_process if target in FOLLOW else own_processes
        for _ in range(given.starts):
            measure(found, given.rounds, given.connections, target)
        show(found)


if __name__ == "__main__":
    main()
