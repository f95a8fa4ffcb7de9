"""Conditions in CEL as the branches of one program: the first that holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cel

from lepton_selection.condition import Condition

#: Branches of a program at most: each is nested in the one before.
LONGEST = 16


def first_of(conditions: Sequence[Condition]) -> Callable[[cel.Context], int] | None:
    """Gives the first condition that holds, or -1: `c0 ? 0 : c1 ? 1 : … : -1`, for the price of one call.

    It raises where one on the way is undecided: then each must be asked. None where a program of them all would be
    nested deeper than CEL reads.
    """
    # A line each: one may end with a comment.
    branches = "".join(f"({condition.source}\n) ? {index} : " for index, condition in enumerate(conditions))
    try:
        found: Callable[[cel.Context], int] = cel.compile(f"{branches}-1").execute
    except ValueError:
        return None
    return found
