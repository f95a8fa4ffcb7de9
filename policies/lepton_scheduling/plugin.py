"""The solvers: which versions run, with which share of the traffic, under the budget."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import SolverOffer


@hookimpl
def lepton_solvers() -> list[SolverOffer]:
    return [
        SolverOffer(
            name="milp",
            summary="Exact: mixed-integer programming by HiGHS through SciPy",
            target="lepton_scheduling.milp:MilpSolver",
            requires=("scipy",),
            install="pip install scipy",
            exact=True,
        )
    ]
