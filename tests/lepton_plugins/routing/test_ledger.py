"""What is kept of decisions until their rewards come."""

from __future__ import annotations

from lepton_plugins.routing.ledger import MemoryLedger
from lepton_plugins.testing.store import decision_block


def test_decisions_may_be_rewarded_for_a_time() -> None:
    now = [1_700_000_000.0]
    ledger = MemoryLedger(ttl=60, max_rows=10, clock=lambda: now[0])
    ledger.remember(decision_block("a", 2), None)
    assert [c.kind for c in ledger.claim(["a/0", "a/0", "a/2", "b/0", "a"])] == [
        "first",
        "again",
        "unknown",
        "unknown",
        "unknown",
    ]
    now[0] += 61
    assert ledger.claim(["a/1"])[0].kind == "unknown"
    for number in range(20):
        ledger.remember(decision_block(f"r{number}", 1), None)
    kinds = [c.kind for c in ledger.claim([f"r{number}/0" for number in range(20)])]
    assert kinds[:10] == ["unknown"] * 10
    now[0] -= 61
    assert [c.kind for c in ledger.claim([f"r{number}/0" for number in range(20)])] == ["unknown"] * 10 + ["first"] * 10


def test_a_huge_request_is_remembered_alone() -> None:
    ledger = MemoryLedger(ttl=60, max_rows=10, clock=lambda: 1_700_000_000.0)
    ledger.remember(decision_block("small", 5), None)
    ledger.remember(decision_block("huge", 50), None)
    assert ledger.claim(["small/0"])[0].kind == "unknown"
