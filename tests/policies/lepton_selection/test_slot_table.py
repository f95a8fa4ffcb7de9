"""The slot table: exact counts, no move that a change of shares doesn't demand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_selection.slot_table import SLOTS, SlotTable, apportion, assign

VERSIONS = ["1", "2", "3", "4", "5"]
shares_of = st.dictionaries(
    st.sampled_from(VERSIONS), st.floats(min_value=0, max_value=1, allow_subnormal=False), min_size=1
).filter(lambda shares: sum(shares.values()) > 1e-3)


def spread(runs) -> np.ndarray:
    return np.repeat([version for version, _ in runs], [length for _, length in runs])


def held(runs) -> dict[str, int]:
    names, counts = np.unique(spread(runs), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@given(shares_of)
def test_counts_are_exact(shares):
    counts = apportion(shares)
    total = sum(shares.values())
    assert sum(counts.values()) == SLOTS
    assert all(abs(counts[version] - share / total * SLOTS) < 1 + 1e-6 for version, share in shares.items())
    runs = assign(shares)
    assert held(runs) == {version: count for version, count in counts.items() if count}
    assert all(a[0] != b[0] for a, b in pairwise(runs))


@given(st.lists(shares_of, min_size=2, max_size=6))
@settings(max_examples=60)
def test_only_the_slots_move_that_must(history):
    runs = assign(history[0])
    for shares in history[1:]:
        before, was = spread(runs), held(runs)
        runs = assign(shares, runs)
        after, now = spread(runs), held(runs)
        assert len(after) == SLOTS
        must = sum(max(count - now.get(version, 0), 0) for version, count in was.items())
        assert int((before != after).sum()) == must
        # Nobody who loses slots gets any, and nobody who gains loses any.
        for version in {*was, *now}:
            gained = int(((after == version) & (before != version)).sum())
            lost = int(((before == version) & (after != version)).sum())
            assert gained == 0 or lost == 0


def test_seventy_thirty_to_sixty_forty_moves_a_tenth():
    before = assign({"1": 0.7, "2": 0.3})
    after = assign({"1": 0.6, "2": 0.4}, before)
    moved = spread(before) != spread(after)
    assert abs(moved.mean() - 0.1) < 1 / SLOTS
    assert set(spread(before)[moved]) == {"1"}
    assert set(spread(after)[moved]) == {"2"}


@given(st.lists(st.integers(min_value=0, max_value=100), min_size=2, max_size=6))
def test_a_canary_taken_back_restores_the_table(steps):
    start = assign({"1": 1.0, "2": 0.0})
    tables = [start]
    for step in sorted(steps):
        tables.append(assign({"1": 100 - step, "2": step}, tables[-1]))
    back = tables[-1]
    for step, expected in reversed(list(zip([0, *sorted(steps)], tables, strict=True))):
        back = assign({"1": 100 - step, "2": step}, back)
        assert back == expected


def test_an_arm_that_leaves_gives_its_slots_to_the_others():
    before = assign({"1": 0.5, "2": 0.3, "3": 0.2})
    after = assign({"1": 0.6, "3": 0.4}, before)
    was = spread(before)
    assert (spread(after)[was == "1"] == "1").all()
    assert (spread(after)[was == "3"] == "3").all()


def test_the_table_is_stored_in_a_few_runs():
    runs = assign({str(i): 1 for i in range(50)})
    assert len(runs) == 50
    for step in range(20):
        runs = assign({str(i): 1 + (i + step) % 3 for i in range(50)}, runs)
    assert len(runs) < 3000


def test_more_arms_than_a_byte_can_name():
    arms = [str(i) for i in range(300)]
    table = SlotTable(assign(dict.fromkeys(arms, 1.0)), arms)
    draws = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    assert [table.row[int(draw) >> 48] for draw in draws] == table.choose(draws).tolist()
    assert sum(table.vector) == 1
