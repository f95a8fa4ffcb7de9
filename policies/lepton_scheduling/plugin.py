"""The solvers: which versions run, with which share of the traffic, under the budget."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import SolverOffer

_SUMMARIES = {
    "auto": (
        "auto:AutoSolver",
        "milp, and genetic too where the time wasn't enough for a proof; the better of the two",
    ),
    "milp": ("milp:MilpSolver", "Exact: mixed-integer programming by HiGHS through SciPy"),
    "highs": ("highs:HighsSolver", "Exact, as milp; begins with the plan in force"),
    "greedy": ("greedy:GreedySolver", "Adds the version that gains most for what it uses; the fastest"),
    "genetic": ("genetic:GeneticSolver", "Genetic algorithm on random keys, guided by density, with repair"),
    "swarm": ("swarm:SwarmSolver", "Particle swarm on random keys, guided by density, with repair"),
}


@hookimpl
def lepton_solvers() -> list[SolverOffer]:
    return [
        SolverOffer(
            name=name,
            summary=summary,
            target=f"lepton_scheduling.{target}",
            requires=("scipy", "highspy") if name == "highs" else ("scipy",),
            install="pip install 'lepton-plugins[highs]'" if name == "highs" else "pip install scipy",
            exact=name in ("auto", "milp", "highs"),
        )
        for name, (target, summary) in _SUMMARIES.items()
    ]
