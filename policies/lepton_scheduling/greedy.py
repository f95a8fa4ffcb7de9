"""`greedy`: a good allocation in the shortest time."""

from __future__ import annotations

from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution
from lepton_scheduling.search import searched

NAME = "greedy"


class GreedySolver:
    """Adds the version that gains most, or most for what it uses, at several prices of a core; the best of these.

    The two rules together are the greedy of Leskovec et al. 2007 (Cost-effective outbreak detection), for gains
    that shrink as more versions run.
    """

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        return searched(NAME, problem)
