"""`genetic`: a genetic algorithm on random keys, guided by density, with repair."""

from __future__ import annotations

import numpy as np

from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution
from lepton_scheduling.search import Search, searched

NAME = "genetic"
_POPULATION = 40
_ELITE = 8
_MUTANTS = 6
#: The chance that a child has the elite parent's key (Gonçalves & Resende 2011 recommend 0.5 to 0.8).
_BIAS = 0.7
_GENERATIONS = 120
#: Generations without a better answer after which it stops; one in which nothing new was tried is enough.
_PATIENCE = 25


class GeneticSolver:
    """Biased random-key genetic algorithm (Gonçalves & Resende 2011, J. Heuristics 17). Draws by `problem.seed`."""

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        return searched(NAME, problem, _evolve)


def _evolve(search: Search, rng: np.random.Generator) -> None:
    size = len(search.problem.versions) + 1
    keys = rng.random((_POPULATION, size))
    for place, seed in enumerate(search.seeds()):
        keys[place] = seed
    ranks = [(-np.inf, -np.inf)] * _POPULATION
    fresh, idle = range(_POPULATION), 0
    for _ in range(_GENERATIONS):
        before, tried = search.best, search.tried
        for place in fresh:
            if search.over:
                return
            ranks[place] = search.try_keys(keys[place])
        idle = idle + 1 if search.best is before else 0
        if idle >= _PATIENCE or search.tried == tried:
            return
        order = sorted(range(_POPULATION), key=lambda place: ranks[place], reverse=True)
        keys, ranks = keys[order], [ranks[place] for place in order]
        children = _POPULATION - _ELITE - _MUTANTS
        elite = keys[rng.integers(0, _ELITE, children)]
        other = keys[rng.integers(_ELITE, _POPULATION, children)]
        keys[_ELITE : _ELITE + children] = np.where(rng.random((children, size)) < _BIAS, elite, other)
        keys[_ELITE + children :] = rng.random((_MUTANTS, size))
        fresh = range(_ELITE, _POPULATION)
