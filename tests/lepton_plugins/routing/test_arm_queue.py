"""When the next call of an arm starts, and with whom."""

from __future__ import annotations

from lepton_plugins.routing.arm_queue import ArmQueue


def queue(parallel: int, waiting: int) -> ArmQueue[int]:
    made: ArmQueue[int] = ArmQueue(parallel)
    for number in range(waiting):
        made.add(number)
    return made


def test_who_comes_to_an_idle_arm_starts_at_once():
    one = queue(2, 1)
    assert one.starts
    assert one.next(64) == [0]
    assert not one.starts


def test_a_call_beside_another_waits_for_its_share_and_no_call_beside_enough_others():
    """With two calls at a time a third of all rows: one runs, one starts, and one comes together meanwhile."""
    made = queue(2, 20)
    made.next(64)
    for number in range(9):
        made.add(number)
        assert not made.starts
    made.add(9)
    assert made.starts
    made.next(64)
    for number in range(100):
        made.add(number)
    assert not made.starts
    made.ended(20)
    assert made.starts


def test_a_call_takes_what_waits_in_order_as_far_as_there_is_room_and_it_is_of_one_kind():
    made: ArmQueue[str] = ArmQueue(1)
    for item, rows in (("a1", 1), ("a2", 2), ("a3", 3), ("b1", 1), ("a4", 9)):
        made.add(item, rows)
    taken = []
    while made.starts:
        taken.append(made.next(5, lambda item: item[0]))
        made.ended({"a1": 3, "a3": 3, "b1": 1, "a4": 9}[taken[-1][0]])
    assert taken == [["a1", "a2"], ["a3"], ["b1"], ["a4"]]
    assert (made.waiting, made.idle) == (0, True)
