"""Conflicts between versions, as the cliques that a solver's bound is tighter with."""

from __future__ import annotations

from collections.abc import Iterable


def cliques(conflicts: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Sets of versions of which at most one may run; each conflict is inside one of them.

    A pair is grown, lowest version first, by whatever conflicts with all of the set: greedy, not fewest.
    """
    pairs = sorted({(min(pair), max(pair)) for pair in conflicts if pair[0] != pair[1]})
    near: dict[int, set[int]] = {}
    for first, second in pairs:
        near.setdefault(first, set()).add(second)
        near.setdefault(second, set()).add(first)
    left = set(pairs)
    found = []
    for first, second in pairs:
        if (first, second) not in left:
            continue
        clique, more = [first, second], near[first] & near[second]
        while more:
            clique.append(min(more))
            more = more & near[clique[-1]]
        left.difference_update((a, b) for a in clique for b in clique if a < b)
        found.append(clique)
    return found
