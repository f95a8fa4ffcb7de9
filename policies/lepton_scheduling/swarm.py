"""`swarm`: particle swarm optimisation on random keys, guided by density, with repair."""

from __future__ import annotations

import numpy as np

from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution
from lepton_scheduling.search import Search, searched

NAME = "swarm"
_PARTICLES = 30
_STEPS = 120
#: Steps without a better answer after which it stops; one in which nothing new was tried is enough.
_PATIENCE = 25
#: Constriction by Clerc & Kennedy 2002 (IEEE Trans. Evol. Comput. 6).
_INERTIA = 0.7298
_PULL = 1.49618


class SwarmSolver:
    """Particle swarm with inertia (Kennedy & Eberhart 1995; Clerc & Kennedy 2002). Draws by `problem.seed`."""

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        return searched(NAME, problem, _fly)


def _fly(search: Search, rng: np.random.Generator) -> None:
    shape = (_PARTICLES, len(search.problem.versions) + 1)
    keys = rng.random(shape)
    for place, seed in enumerate(search.seeds()):
        keys[place] = seed
    speed = rng.uniform(-0.1, 0.1, shape)
    own, ranks = keys.copy(), [(-np.inf, -np.inf)] * _PARTICLES
    idle = 0
    for _ in range(_STEPS):
        before, tried = search.best, search.tried
        for place in range(_PARTICLES):
            if search.over:
                return
            rank = search.try_keys(keys[place])
            if rank > ranks[place]:
                own[place], ranks[place] = keys[place], rank
        idle = idle + 1 if search.best is before else 0
        if idle >= _PATIENCE or search.tried == tried:
            return
        leader = own[max(range(_PARTICLES), key=lambda place: ranks[place])]
        speed = _INERTIA * speed + _PULL * (rng.random(shape) * (own - keys) + rng.random(shape) * (leader - keys))
        keys = keys + speed
        # A particle that hits the border stops there.
        outside = (keys < 0) | (keys > 1)
        speed[outside] = 0.0
        keys = np.clip(keys, 0.0, 1.0)
